"""`Panel`: the feature tables as arrays, each value as it was known at its decision time.

In: frames (or a snapshot folder) in the layout of features.daily, features.realized, features.hourly and features.funding_venues.
Out: immutable arrays with days down and assets across, realised variance as known on any day, forecast targets, and the names
of the providers behind each modality.
Never: filling, scaling or looking past the last day: `until(D)` is all that anyone knew on day D.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ml.snapshot import read_snapshot

HOURLY_FIELDS: tuple[str, ...] = (
    "log_return", "realized_variance", "high_low_range", "log_volume_ratio", "bars", "signed_volume_share",
)  # fmt: skip
FUNDING_FIELDS: tuple[str, ...] = (
    "funding_rate_d", "funding_rate_7d", "funding_deviation_d", "funding_age_days",
)  # fmt: skip
PROVIDER_SUFFIX = "_provider"
TARGET_COVERAGE = 0.8
"""Share of a horizon's days whose realised variance must be known for the target to count."""

_DAY = np.timedelta64(1, "D")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RealizedVersions:
    """Every version of each realised day, in order of day, asset and the day it became known; R rows."""

    day: NDArray[np.datetime64]  # (R,) datetime64[D]
    asset: NDArray[np.int64]  # (R,) index into Panel.assets
    known_on: NDArray[np.datetime64]  # (R,) datetime64[D]: the first as_of that may use the row
    complete: NDArray[np.bool_]  # (R,)
    variance: Floats  # (R,) squared log-return units a day
    log_return: Floats  # (R,) close to close
    close: Floats  # (R,)

    def select(self, mask: NDArray[np.bool_]) -> RealizedVersions:
        """The rows where `mask` (R,) holds."""
        return RealizedVersions(
            self.day[mask], self.asset[mask], self.known_on[mask], self.complete[mask],
            self.variance[mask], self.log_return[mask], self.close[mask],
        )  # fmt: skip


@dataclass(frozen=True)
class VenueFunding:
    """Funding of each coin by venue: the rows of features.funding_venues as one array."""

    venues: tuple[str, ...]  # V, sorted
    values: NDArray[np.float32]  # (T, N, V, field), fields `FUNDING_FIELDS`; NaN = missing

    def cut(self, rows: slice) -> VenueFunding:
        return replace(self, values=self.values[rows])

    def of_coins(self, kept: NDArray[np.bool_]) -> VenueFunding:
        return replace(self, values=self.values[:, kept])

    def known(self) -> VenueFunding:
        """Without venues that have no value here."""
        kept = np.asarray(np.isfinite(self.values).any(axis=(0, 1, 3)), dtype=bool)
        venues = tuple(name for name, here in zip(self.venues, kept, strict=True) if here)
        return VenueFunding(venues, self.values[:, :, kept])


@dataclass(frozen=True)
class Labels:
    """A text per day and asset."""

    names: tuple[str, ...]  # the first is '', for none
    codes: NDArray[np.int32]  # (T, N) index into names

    def cut(self, rows: slice) -> Labels:
        return replace(self, codes=self.codes[rows])

    def of_coins(self, kept: NDArray[np.bool_]) -> Labels:
        return replace(self, codes=self.codes[:, kept])


@dataclass(frozen=True)
class Panel:
    """Features of N assets on T consecutive days; NaN = missing."""

    source: str
    days: NDArray[np.datetime64]  # (T,) datetime64[D], consecutive
    assets: tuple[str, ...]  # N, sorted
    features: dict[str, Floats]  # name -> (T, N)
    hourly: NDArray[
        np.float32
    ]  # (T, 24, N, K); NaN = missing, or not yet known when its day was over
    hourly_fields: tuple[str, ...]  # K names
    realized: RealizedVersions
    funding: VenueFunding | None = None
    providers: dict[str, Labels] = field(default_factory=dict)  # modality -> who gave its values

    @classmethod
    def from_frames(
        cls,
        daily: pd.DataFrame,
        realized: pd.DataFrame,
        hourly: pd.DataFrame | None = None,
        funding: pd.DataFrame | None = None,
    ) -> Panel:
        """From rows of features.daily, .realized, .hourly and .funding_venues, in any order.

        Every numeric or boolean column of `daily` becomes a feature, every `<modality>_provider` a label. Raises ValueError on no rows, more than one
        source, or two rows for one key.
        """
        if daily.empty:
            raise ValueError("features.daily has no rows: expected at least one day")
        sources = sorted(set(daily["source"].astype(str)))
        if len(sources) != 1:
            raise ValueError(f"features.daily mixes sources {sources}: expected exactly one")
        assets = tuple(sorted(set(daily["asset"].astype(str))))
        as_of = _days(daily["as_of"])
        days = np.arange(as_of.min(), as_of.max() + _DAY, dtype="datetime64[D]")
        row, column = _positions(as_of, days), _columns(daily["asset"], assets)
        _refuse_duplicates("features.daily", daily, ["asset", "as_of"], row * len(assets) + column)
        features, providers = {}, {}
        for name in sorted(set(daily.columns) - {"asset", "as_of"}):
            if name.endswith(PROVIDER_SUFFIX):
                modality = name.removesuffix(PROVIDER_SUFFIX)
                providers[modality] = _labels(daily[name], row, column, (len(days), len(assets)))
                continue
            values = daily[name].convert_dtypes() if daily[name].dtype == object else daily[name]
            if pd.api.types.is_numeric_dtype(values):  # bool too
                features[name] = np.full((len(days), len(assets)), np.nan)
                features[name][row, column] = _floats(values)
        fields, cube = _hourly_cube(hourly, days, assets)
        return cls(
            sources[0], days, assets, features, cube, fields, _versions(realized, days, assets),
            None if funding is None else _venue_funding(funding, days, assets), providers,
        )  # fmt: skip

    @classmethod
    def read(cls, folder_uri: str, expected_sha256: str | None = None) -> Panel:
        """From a snapshot folder (see ml.snapshot), its content verified against its hash."""
        snapshot = read_snapshot(folder_uri, expected_sha256)
        return cls.from_frames(snapshot.daily, snapshot.realized, snapshot.hourly, snapshot.funding)

    def feature(self, name: str) -> Floats:
        """(T, N) values of a column of features.daily; KeyError that names it when the panel has none."""
        if name not in self.features:
            raise KeyError(
                f"feature {name!r} is not in the panel: features.daily must have this column"
            )
        return self.features[name]

    def row(self, as_of: date) -> int:
        """Row of a day; ValueError when the panel does not reach it."""
        index = int((np.datetime64(as_of, "D") - self.days[0]) / _DAY)
        if not 0 <= index < len(self.days):
            raise ValueError(f"as_of {as_of}: the panel has {self.days[0]} to {self.days[-1]}")
        return index

    def rows(self, as_of: Sequence[date]) -> NDArray[np.int64]:
        """Rows (D,) of some days."""
        return np.array([self.row(day) for day in as_of], dtype=np.int64)

    def until(self, as_of: date) -> Panel:
        """All that was known at the decision time of `as_of`: rows to that day, versions known on or before it."""
        stop = self.row(as_of) + 1
        known = self.realized.known_on <= self.days[stop - 1]
        return self._cut(slice(0, stop), self.realized.select(known))

    def window(self, days: int) -> Panel:
        """The last `days` rows."""
        if days < 1:
            raise ValueError(f"window of {days} days: expected a positive number")
        start = max(0, len(self.days) - days)
        return self._cut(
            slice(start, None), self.realized.select(self.realized.day >= self.days[start])
        )

    def without_hours(self) -> Panel:
        """The same without hourly bars and funding by venue, which most models never read."""
        shape = (len(self.days), 24, len(self.assets), 0)
        return replace(
            self, hourly=np.empty(shape, dtype=np.float32), hourly_fields=(), funding=None
        )

    def of_coins(self, assets: Sequence[str]) -> Panel:
        """The same days of some of the coins, in the panel's order; ValueError on a coin that it does not have."""
        unknown = sorted(set(assets) - set(self.assets))
        if unknown or not assets:
            raise ValueError(f"coins {unknown}: the panel has {', '.join(self.assets)}")
        kept = np.array([coin in set(assets) for coin in self.assets])
        place = np.cumsum(kept) - 1
        versions = self.realized.select(kept[self.realized.asset])
        return replace(
            self,
            assets=tuple(coin for coin in self.assets if coin in set(assets)),
            features={name: values[:, kept] for name, values in self.features.items()},
            hourly=self.hourly[:, :, kept],
            realized=replace(versions, asset=place[versions.asset]),
            funding=None if self.funding is None else self.funding.of_coins(kept),
            providers={name: labels.of_coins(kept) for name, labels in self.providers.items()},
        )

    def rows_between(self, start: int, stop: int) -> Panel:
        """Rows start .. stop-1, with the realised versions of all days."""
        return self._cut(slice(start, stop), self.realized)

    def _cut(self, rows: slice, realized: RealizedVersions) -> Panel:
        return replace(
            self,
            days=self.days[rows],
            features={name: values[rows] for name, values in self.features.items()},
            hourly=self.hourly[rows],
            realized=realized,
            funding=None if self.funding is None else self.funding.cut(rows),
            providers={name: labels.cut(rows) for name, labels in self.providers.items()},
        )

    def realized_variance(self) -> Floats:
        """(T, N) realised variance of each day: the newest known complete version; NaN where there is none."""
        return self._newest(self.realized.variance)

    def realized_return(self) -> Floats:
        """(T, N) close-to-close log return of each day, from the same versions."""
        return self._newest(self.realized.log_return)

    def _newest(self, values: Floats) -> Floats:
        table = np.full((len(self.days), len(self.assets)), np.nan)
        kept = self.realized.complete
        # Versions are sorted by known_on within a day, and of repeated targets numpy keeps the last.
        table[_positions(self.realized.day[kept], self.days), self.realized.asset[kept]] = values[
            kept
        ]
        return table

    def target(self, horizon: int) -> Floats:
        """(T, N): row t is the mean realised variance of days t+1 .. t+horizon.

        NaN unless the last of these days lies in the panel and at least 80 % of them are known: so on
        `panel.until(D)` no target ends after D, which is the purge.
        """
        return mean_ahead(self.realized_variance(), horizon)

    def horizon_return(self, horizon: int) -> Floats:
        """(T, N): log(close of day t+horizon / close of day t); NaN unless both closes are known."""
        close = np.log(self._newest(self.realized.close))
        return np.asarray(_ahead(close, horizon)[..., -1] - close, dtype=np.float64)

    def data_hash(self) -> str:
        """sha256 of every number that the panel holds, and of nothing else (64 hex digits): not of providers' names."""
        digest = hashlib.sha256()
        funding = None if self.funding is None else self.funding.known()
        versions = self.realized
        parts: list[tuple[str, NDArray[Any]]] = [
            ("days", self.days.astype(np.int64)),
            ("hourly", self.hourly),
            ("realized.day", versions.day.astype(np.int64)),
            ("realized.asset", versions.asset),
            ("realized.known_on", versions.known_on.astype(np.int64)),
            ("realized.complete", versions.complete.astype(np.int8)),
            ("realized.variance", versions.variance),
            ("realized.return", versions.log_return),
            ("realized.close", versions.close),
            *((f"feature.{name}", self.features[name]) for name in sorted(self.features)),
        ]
        digest.update(repr((self.source, self.assets, self.hourly_fields)).encode())
        if funding is not None and funding.venues:
            digest.update(repr(funding.venues).encode())
            parts.append(("funding", funding.values))
        for name, array in parts:
            if array.dtype.kind == "f":  # one bit pattern for NaN and for zero
                array = np.where(np.isnan(array), np.float32("nan"), array + np.float32(0)).astype(
                    array.dtype
                )
            digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def mean_ahead(daily: Floats, horizon: int) -> Floats:
    """(T, N): row t is the mean of the known values of days t+1 .. t+horizon.

    NaN unless the last of these days lies in the array and at least 80 % of them are known.
    """
    ahead = _ahead(daily, horizon)  # (T, N, h)
    known = np.isfinite(ahead)
    enough = known.sum(axis=-1) >= math.ceil(TARGET_COVERAGE * horizon)
    total = np.where(known, ahead, 0.0).sum(axis=-1)
    return np.where(enough, total / np.maximum(known.sum(axis=-1), 1), np.nan)


def _ahead(daily: Floats, horizon: int) -> Floats:
    """(T, N) -> (T, N, horizon): the values of days t+1 .. t+horizon, NaN past the array's end."""
    if horizon < 1:
        raise ValueError(f"horizon {horizon}: expected a positive number of days")
    beyond = np.full((horizon, daily.shape[1]), np.nan)
    ahead = sliding_window_view(np.concatenate([daily[1:], beyond]), horizon, axis=0)
    complete = np.arange(len(daily)) + horizon < len(daily)
    return np.where(complete[:, None, None], ahead, np.nan)


def _days(values: pd.Series[Any]) -> NDArray[np.datetime64]:
    """Dates, strings or timestamps (naive is UTC) as datetime64[D]."""
    stamps = pd.to_datetime(values, utc=True).dt.tz_localize(None)
    return np.asarray(stamps.to_numpy(), dtype="datetime64[D]")


def _floats(values: pd.Series[Any]) -> Floats:
    return np.asarray(values.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan))


def _positions(days: NDArray[np.datetime64], axis: NDArray[np.datetime64]) -> NDArray[np.int64]:
    return np.asarray((days - axis[0]) / _DAY, dtype=np.int64)


def _columns(values: pd.Series[Any], assets: Sequence[str]) -> NDArray[np.int64]:
    """Index of each value in `assets`, -1 when it is not one of them."""
    return np.asarray(pd.Index(assets).get_indexer(pd.Index(values.astype(str))), dtype=np.int64)


def _refuse_duplicates(
    table: str, frame: pd.DataFrame, keys: list[str], codes: NDArray[np.int64]
) -> None:
    first = np.unique(codes, return_index=True)[1]
    if len(first) < len(codes):
        repeated = np.setdiff1d(np.arange(len(codes)), first)[0]
        key = ", ".join(str(frame[name].iloc[repeated]) for name in keys)
        raise ValueError(
            f"{table} has two rows for ({key}): expected one row for each {', '.join(keys)}"
        )


def _versions(
    realized: pd.DataFrame, days: NDArray[np.datetime64], assets: Sequence[str]
) -> RealizedVersions:
    day, known_on = _days(realized["day"]), _days(realized["known_on"])
    asset = _columns(realized["asset"], assets)
    versions = RealizedVersions(
        day, asset, known_on,
        realized["complete"].astype("boolean").fillna(False).to_numpy(dtype=bool),
        _floats(realized["realized_variance"]), _floats(realized["return"]), _floats(realized["close"]),
    )  # fmt: skip
    known = known_on.astype(np.int64)
    codes = np.stack([day.astype(np.int64), asset, known])
    if len(day) and np.unique(codes, axis=1).shape[1] < len(day):
        key = np.ravel_multi_index(
            tuple(codes - codes.min(axis=1, keepdims=True)), np.ptp(codes, axis=1) + 1
        )
        _refuse_duplicates("features.realized", realized, ["asset", "day", "known_on"], key)
    order = np.lexsort((known, asset, day))
    inside = (asset >= 0) & (day >= days[0]) & (day <= days[-1])
    return versions.select(order[inside[order]])


def _labels(
    values: pd.Series[Any],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    shape: tuple[int, int],
) -> Labels:
    texts = values.astype("string").fillna("").astype(str)
    names = ("", *sorted(set(texts) - {""}))
    codes = np.zeros(shape, dtype=np.int32)
    codes[row, column] = pd.Index(names).get_indexer(pd.Index(texts))
    return Labels(names, codes)


def _venue_funding(
    funding: pd.DataFrame, days: NDArray[np.datetime64], assets: Sequence[str]
) -> VenueFunding:
    venues = tuple(sorted(set(funding["venue"].astype(str))))
    shape = (len(days), len(assets), len(venues), len(FUNDING_FIELDS))
    values = np.full(shape, np.nan, dtype=np.float32)
    if funding.empty:
        return VenueFunding(venues, values)
    day, asset = _days(funding["as_of"]), _columns(funding["asset"], assets)
    venue = _columns(funding["venue"], venues)
    key = (day.astype(np.int64) * (len(assets) + 1) + asset) * len(venues) + venue
    _refuse_duplicates("features.funding_venues", funding, ["asset", "as_of", "venue"], key)
    kept = (asset >= 0) & (day >= days[0]) & (day <= days[-1])
    fields = np.stack([_floats(funding[name])[kept] for name in FUNDING_FIELDS], axis=-1)
    values[_positions(day[kept], days), asset[kept], venue[kept]] = fields.astype(np.float32)
    return VenueFunding(venues, values)


def _hourly_cube(
    hourly: pd.DataFrame | None, days: NDArray[np.datetime64], assets: Sequence[str]
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    if hourly is None:
        return (), np.empty((len(days), 24, len(assets), 0), dtype=np.float32)
    fields = tuple(name for name in HOURLY_FIELDS if name in hourly.columns)
    cube = np.full((len(days), 24, len(assets), len(fields)), np.nan, dtype=np.float32)
    if hourly.empty:
        return fields, cube
    stamp = np.asarray(
        pd.to_datetime(hourly["ts"], utc=True).dt.tz_localize(None).to_numpy(),
        dtype="datetime64[h]",
    )
    day = stamp.astype("datetime64[D]")
    asset = _columns(hourly["asset"], assets)
    hours = stamp.astype(np.int64)
    _refuse_duplicates(
        "features.hourly", hourly, ["asset", "ts"], hours * (len(assets) + 1) + asset
    )
    kept = (asset >= 0) & (day >= days[0]) & (day <= days[-1]) & (_days(hourly["known_on"]) <= day)
    values = np.stack([_floats(hourly[name])[kept] for name in fields], axis=-1)
    cube[_positions(day[kept], days), (hours % 24)[kept], asset[kept]] = values.astype(np.float32)
    return fields, cube

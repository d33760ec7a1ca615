"""Between two daily runs: the published copy, a version's artefact and new bars -> forecasts that begin now.

In: settings, bars from a file or from the source. Out: a ``Nowcast`` with the daily forecast beside it. Reads the published copy, so it waits for no
run; never writes a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from ml.forecasts import HORIZONS, QUANTILE_COLUMNS
from ml.model import fitted_lookback_days
from ml.models import MODELS
from ml.nowcast import BarsError, Nowcast, Nowcaster
from ml.nowcast.nowcaster import LONGEST_LOOKBACK_DAYS
from ml.nowcast.shifting import WINDOWS
from orchestration.champion import champion_on
from orchestration.panels import read_features
from orchestration.settings import Settings
from orchestration.sources.protocol import Source
from orchestration.versions import ServedDays

Floats = NDArray[np.float64]
READABLE = {".csv": "read_csv", ".parquet": "read_parquet"}
LARGEST_FILE_MB = 64
"""A day of 5-minute bars of 200 coins is 5 MB as CSV."""


@dataclass(frozen=True)
class Opened:
    """A nowcaster, and the forecast that it updates."""

    nowcaster: Nowcaster
    model: str
    model_version: str
    daily: pd.DataFrame  # asset, horizon, volatility

    def beside_daily(self, found: Nowcast) -> pd.DataFrame:
        """The nowcast's rows with ``daily_volatility``, the published forecast of the last as_of; coins without either are left in, empty."""
        rows = found.to_frame().merge(self.daily, on=["asset", "horizon"], how="left")
        return rows.assign(model=self.model, model_version=self.model_version, as_of=found.as_of)


def open_nowcaster(
    connection: duckdb.DuckDBPyConnection, settings: Settings, model: str | None = None
) -> Opened:
    """For the newest published as_of. ``model``: by name; None is the champion.

    Raises ``LookupError`` where nothing is published or the model forecasts nothing, ``ValueError`` for a model that cannot be asked between days.
    """
    found = connection.execute("SELECT max(as_of) FROM forecasts.volatility").fetchone()
    if not found or found[0] is None:
        raise LookupError(
            "no forecast published yet: run `./volcast demo` or `./volcast run --as-of DATE` first"
        )
    as_of: date = found[0]
    name = model or champion_on(connection, as_of).model
    if name not in MODELS:
        raise ValueError(f"model {name!r}: expected one of {', '.join(MODELS)}")
    if MODELS[name].is_garch:
        raise ValueError(
            f"{name} runs over years of daily returns: expected a HAR or attention model"
        )
    served = connection.execute(
        """
        SELECT model_version, artifact_uri, artifact_hash FROM models.registry
        WHERE model = $model AND model_version IN (
            SELECT model_version FROM forecasts.volatility WHERE model = $model AND as_of = $as_of
        )
        ORDER BY created_at DESC, model_version DESC LIMIT 1
        """,
        {"model": name, "as_of": as_of},
    ).fetchone()
    if served is None:
        raise LookupError(
            f"{name} forecasts nothing as of {as_of}: expected one of {', '.join(settings.models)}"
        )
    version, uri, digest = map(str, served)
    block = ServedDays(name, version, uri, digest, (as_of,))
    loaded = block.load(settings)
    days = min(fitted_lookback_days(loaded), LONGEST_LOOKBACK_DAYS) + max(WINDOWS) + 2
    panel = read_features(connection, as_of, days).panel
    daily, shift = _published(connection, panel.assets, as_of, name, block.model_version)
    return Opened(
        Nowcaster(loaded, panel, lambda quantiles: quantiles + shift),
        name,
        block.model_version,
        daily,
    )


def _published(
    connection: duckdb.DuckDBPyConnection,
    assets: tuple[str, ...],
    as_of: date,
    model: str,
    version: str,
) -> tuple[pd.DataFrame, Floats]:
    """asset, horizon, daily_volatility; and what outcomes moved each log quantile of variance by, (N, H, Q), 0 where nothing is stored."""
    shifts = ", ".join(f"2 * (ln(f.{q}) - ln(o.{q})) AS {q}" for q in QUANTILE_COLUMNS)
    rows = connection.execute(
        f"""
        SELECT f.asset, f.horizon, f.volatility AS daily_volatility, {shifts}
        FROM forecasts.volatility AS f
        LEFT JOIN forecasts.model_quantiles AS o USING (asset, as_of, horizon, model, model_version)
        WHERE f.as_of = ? AND f.model = ? AND f.model_version = ?
        """,
        [as_of, model, version],
    ).df()
    shift = np.zeros((len(assets), len(HORIZONS), len(QUANTILE_COLUMNS)))
    for row in rows.itertuples():
        asset, horizon = str(row.asset), int(str(row.horizon))
        if asset in assets and horizon in HORIZONS:
            moved = np.array([getattr(row, name) for name in QUANTILE_COLUMNS], dtype=np.float64)
            shift[assets.index(asset), HORIZONS.index(horizon)] = np.nan_to_num(moved)
    return rows[["asset", "horizon", "daily_volatility"]], shift


def bars_of_file(path: Path) -> pd.DataFrame:
    """Bars from CSV or Parquet: asset, ts, high, low, close, volume; open, quote_volume and taker_buy_volume where they are there.

    Raises ``BarsError`` on a file that is not there, too large, of another kind or unreadable.
    """
    if path.suffix not in READABLE:
        raise BarsError(f"{path}: expected a .csv or .parquet file")
    if not path.is_file():
        raise BarsError(f"{path}: no such file")
    megabytes = path.stat().st_size / 2**20
    if megabytes > LARGEST_FILE_MB:
        raise BarsError(
            f"{path}: {megabytes:.0f} MB, expected at most {LARGEST_FILE_MB} MB of bars since the last as_of"
        )
    try:
        frame: pd.DataFrame = getattr(pd, READABLE[path.suffix])(path)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise BarsError(f"{path}: cannot be read ({error})") from None
    return frame


def bars_of_source(source: Source, nowcaster: Nowcaster, until: datetime) -> pd.DataFrame:
    """Bars since the last as_of that were known by ``until``; of several venues each coin is read from the one with most bars.

    Raises ``SourceError`` where the source gives none.
    """
    start = pd.Timestamp(nowcaster.start, tz="UTC").to_pydatetime()
    intervals = {
        asset: "5m" if bars == 288 else "1h"
        for asset, bars in zip(nowcaster.assets, nowcaster.bars_a_day, strict=True)
    }
    tables = [
        page.rows
        for stream in source.streams("ohlcv")
        for page in stream.pages(start - timedelta(microseconds=1), until)
    ]
    rows = pa.concat_tables(tables).to_pandas() if tables else pd.DataFrame()
    if not rows.empty:
        rows = rows.assign(asset=rows["symbol"].str.split("/").str[0])
        rows = rows[(rows["interval"] == rows["asset"].map(intervals)) & (rows["ts"] >= start)]
    if rows.empty:
        raise BarsError(
            f"the source has no bars from {start:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC"
        )
    newest = rows.sort_values("known_at").drop_duplicates(["venue", "symbol", "ts"], keep="last")
    counted = newest.groupby(["asset", "venue", "symbol"]).size().reset_index(name="bars")
    chosen = counted.sort_values(
        ["asset", "bars", "venue", "symbol"], ascending=[True, False, True, True]
    )
    chosen = chosen.drop_duplicates("asset")[["asset", "venue", "symbol"]]
    return newest.merge(chosen, on=["asset", "venue", "symbol"])

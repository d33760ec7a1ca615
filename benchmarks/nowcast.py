"""What a forecast gains from the hours of the day that is not over, on real data: nowcasts against the daily forecast that they update.

Needs real data: an archive folder by `--archive` or ``VOLCAST_TEST_ARCHIVE``. At each hour k the target is the realised variance of the 24, 120 and
528 hours from then on. The peer is the newest daily forecast of the same fitted model, k hours old. Fits every half year on what was known.
"""

from __future__ import annotations

import argparse
import os
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.evaluation.losses import qlike
from ml.forecasts import HORIZONS
from ml.models import create
from ml.nowcast import Nowcaster
from ml.panel import Panel, mean_ahead
from tests.ml.archive_frames import COINS
from tests.ml.baselines.realised_frames import archive_bars, hourly_frame, measured_frames

Floats = NDArray[np.float64]
REFIT_DAYS = 182


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--archive", type=Path, help="archive folder; default: VOLCAST_TEST_ARCHIVE"
    )
    parser.add_argument("--models", nargs="+", default=["har_panel", "attention"])
    parser.add_argument("--hours", nargs="+", type=int, default=[4, 8, 12, 16, 20])
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=date(2021, 9, 1))
    parser.add_argument("--to", dest="last", type=date.fromisoformat, default=date(2023, 12, 1))
    parser.add_argument("--every", type=int, default=3, help="days between the days that are tried")


def run(
    options: argparse.Namespace,
) -> tuple[dict[str, Any], list[tuple[str, list[str], list[list[Any]]]]]:
    archive = options.archive or os.environ.get("VOLCAST_TEST_ARCHIVE")
    if not archive:
        raise SystemExit("no archive: name its folder with --archive or VOLCAST_TEST_ARCHIVE")
    bars = archive_bars(Path(archive), COINS)
    panel = panel_of(bars)
    hourly = _hourly_variance(panel)  # (T * 24, N)
    by_day = dict(list(bars.groupby(bars["ts"].dt.floor("D"))))
    days = [
        options.first + timedelta(days=step)
        for step in range(0, (options.last - options.first).days + 1, options.every)
    ]
    records = []
    for name in options.models:
        records += _walk(name, panel, hourly, by_day, days, options.hours)
    frame = pd.DataFrame(records)
    rows = []
    for (name, hours, horizon), part in frame.groupby(["model", "hours", "horizon"]):
        stale, now = part["stale"].mean(), part["nowcast"].mean()
        by_date = (part["nowcast"] - part["stale"]).groupby(part["day"]).mean()
        rows.append(
            {
                "model": name, "hours": hours, "horizon": horizon, "stale": stale, "nowcast": now, "ratio": now / stale,
                "t": _t(by_date.to_numpy(), -(-horizon // options.every)), "forecasts": len(part),
                "milliseconds": part["milliseconds"].median(),
            }
        )  # fmt: skip
    header = ["model", "hours gone", "h", "daily forecast", "nowcast", "ratio", "t", "forecasts", "ms"]  # fmt: skip
    shown = [[*list(row.values())[:3], *(f"{row[key]:.3f}" for key in ("stale", "nowcast", "ratio")), f"{row['t']:.1f}", row["forecasts"], f"{row['milliseconds']:.1f}"] for row in rows]  # fmt: skip
    return {"rows": rows}, [("QLIKE of the next h days, from the hour of the nowcast on", header, shown)]  # fmt: skip


def panel_of(bars: pd.DataFrame) -> Panel:
    """The panel of hourly bars, with the day's volume."""
    daily, realized = measured_frames(bars, "archive")
    day = bars["ts"].dt.tz_localize(None).dt.floor("D").astype(daily["as_of"].dtype)
    volume = (bars["close"] * bars["volume"]).groupby([bars["asset"], day.rename("as_of")]).sum()
    daily = daily.merge(volume.rename("quote_volume_d").reset_index(), on=["asset", "as_of"], how="left")  # fmt: skip
    return Panel.from_frames(daily, realized, hourly_frame(bars, "archive"))


def _hourly_variance(panel: Panel) -> Floats:
    variance = panel.hourly[..., panel.hourly_fields.index("realized_variance")]
    return variance.reshape(-1, len(panel.assets)).astype(np.float64)


def _walk(
    name: str,
    panel: Panel,
    hourly: Floats,
    by_day: dict[pd.Timestamp, pd.DataFrame],
    days: list[date],
    hours: list[int],
) -> list[dict[str, Any]]:
    ahead = {k: [24 * mean_ahead(hourly, 24 * h)[k - 1 :: 24] for h in HORIZONS] for k in hours}
    model, fitted_on, records = None, date.min, []
    for day in days:
        if (day - fitted_on).days >= REFIT_DAYS:
            model, fitted_on = create(name), day
            model.fit(panel, day, {"window_days": 1500}, 0)
        assert model is not None
        known = panel.until(day)
        daily = model.forecast(known.window(400), [day]).variance[0]
        nowcaster = Nowcaster(model, known)
        tomorrow = by_day[pd.Timestamp(day + timedelta(days=1), tz="UTC")]
        row = panel.row(day) + 1
        for k in hours:
            bars = tomorrow[tomorrow["ts"].dt.hour < k]
            started = time.perf_counter()
            found = nowcaster.update(bars)
            spent = 1000 * (time.perf_counter() - started)
            for column, horizon in enumerate(HORIZONS):
                target = ahead[k][column][row]
                for n, asset in enumerate(panel.assets):
                    y, before, after = target[n], daily[n, column], found.variance[n, column]
                    if y > 0 and np.isfinite(before) and np.isfinite(after):
                        records.append(
                            {
                                "model": name, "hours": k, "horizon": horizon, "asset": asset, "day": day,
                                "stale": float(qlike(y, before)), "nowcast": float(qlike(y, after)), "milliseconds": spent,
                            }
                        )  # fmt: skip
    return records


def _t(values: Floats, lags: int) -> float:
    """t statistic of a mean with a Bartlett window of `lags`."""
    centred = values - values.mean()
    variance = float(centred @ centred)
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag])
    return float(values.mean() / np.sqrt(variance / len(values) ** 2))

"""Forecasts between two daily runs: the bars of the day that is not over yet, and any fitted model that reads prices by day and hour.

In: a fitted model, the panel of the last as_of, new bars. Out: variance and quantiles of the 24 h, 5 and 22 days that begin now.
Never: a row of forecasts.volatility, a fit, or a bar that ends after the instant of the nowcast.
"""

from ml.nowcast.bars import BarsError, NewHours
from ml.nowcast.nowcaster import Nowcast, Nowcaster

__all__ = ["BarsError", "NewHours", "Nowcast", "Nowcaster"]

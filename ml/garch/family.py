"""The members of the family that are registered as models, each with the simpler ones that it falls back to.

In: nothing. Out: classes for `ml.models`. Never: code of their own beyond the choice of members and exogenous columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ml.garch.model import GarchModel
from ml.garch.specification import Density, Mean, Specification, Variance
from ml.panel import Panel

GARCH_T = Specification("garch", "t")
GJR_T = Specification("gjr", "t")


class GarchT(GarchModel):
    """GARCH(1,1). Source: Bollerslev (1987), Review of Economics and Statistics 69."""

    name = "garch_t"
    chain = (GARCH_T,)


class GarchN(GarchModel):
    """GARCH(1,1) with normal errors. Source: Bollerslev (1986), Journal of Econometrics 31."""

    name = "garch_n"
    chain = (Specification("garch", "normal"), GARCH_T)


class GjrT(GarchModel):
    """GJR-GARCH(1,1,1). Source: Glosten, Jagannathan and Runkle (1993), Journal of Finance 48."""

    name = "gjr_t"
    chain = (GJR_T, GARCH_T)


class GjrSkewT(GarchModel):
    """GJR-GARCH(1,1,1) with Hansen's (1994) skewed t."""

    name = "gjr_skewt"
    chain = (Specification("gjr", "skewt"), GJR_T, GARCH_T)


class ArGjrT(GarchModel):
    """GJR-GARCH(1,1,1) around a first-order autoregression of returns."""

    name = "ar_gjr_t"
    chain = (Specification("gjr", "t", "ar", 1), GJR_T, GARCH_T)


class EgarchT(GarchModel):
    """EGARCH(1,1,1). Source: Nelson (1991), Econometrica 59."""

    name = "egarch_t"
    chain = (Specification("egarch", "t"), GARCH_T)


class AparchT(GarchModel):
    """APARCH(1,1,1). Source: Ding, Granger and Engle (1993), Journal of Empirical Finance 1."""

    name = "aparch_t"
    chain = (Specification("aparch", "t"), GJR_T, GARCH_T)


class FigarchT(GarchModel):
    """FIGARCH(1,d,1), 1,000 lags. Source: Baillie, Bollerslev and Mikkelsen (1996), Journal of Econometrics 74."""

    name = "figarch_t"
    chain = (Specification("figarch", "t"), GARCH_T)


class ComponentGarchT(GarchModel):
    """Component GARCH. Source: Engle and Lee (1999), in Cointegration, Causality and Forecasting."""

    name = "component_garch_t"
    chain = (Specification("component", "t"), GARCH_T)


class RealizedGarchT(GarchModel):
    """Log-linear Realized GARCH on rv_d. Source: Hansen, Huang and Shek (2012), Journal of Applied Econometrics 27."""

    name = "realized_garch_t"
    chain = (Specification("realized", "t"), GARCH_T)


class GarchXT(GarchModel):
    """GARCH(1,1) with exogenous variance terms: realised variance, size of funding, distance of sentiment from neutral.

    Config: `variance_terms`, names of columns of features.daily; by default those of `DEFAULT_TERMS` that the panel has. A coin
    that they do not fit tries the first alone, then none.
    """

    name = "garch_x_t"
    config_keys = ("variance_terms",)
    chain = (GARCH_T,)
    DEFAULT_TERMS: ClassVar[tuple[str, ...]] = ("rv_d", "funding_rate_d", "fear_greed")

    def term_columns(self, panel: Panel, config: Mapping[str, Any]) -> tuple[str, ...]:
        if "variance_terms" not in config:
            return tuple(name for name in self.DEFAULT_TERMS if name in panel.features)
        terms = config["variance_terms"]
        if isinstance(terms, str) or not terms or len(set(terms)) < len(terms):
            raise ValueError(
                f"variance_terms {terms!r}: expected a list of different columns of features.daily"
            )
        for name in terms:
            panel.feature(name)  # a KeyError that names a column which is not there
        return tuple(terms)

    def members(self, columns: tuple[str, ...]) -> tuple[Specification, ...]:
        variance: Variance = "garch"
        density: Density = "t"
        mean: Mean = "constant"
        wanted = [columns, columns[:1]] if len(columns) > 1 else [columns]
        return (
            *(Specification(variance, density, mean, 0, terms) for terms in wanted if terms),
            GARCH_T,
        )

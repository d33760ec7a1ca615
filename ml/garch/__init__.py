"""The GARCH family: one maximum-likelihood engine for thousands of windows, verdicts on every fit, forecasts.

In: daily returns of a panel (and realised variance and exogenous columns). Out: forecasts through `ml.model.VolatilityModel`.
Never: a forecast from a fit that did not converge; such a coin falls back to a simpler model and its status says so.

From the outside in: `family` (registered models), `model` and `coins` (panel to windows), `verdicts` (may it be published),
`inference` (standard errors), `estimation` (which engine), `fast` and `lanes` (GARCH-t and GJR-t, eight series a register), `generic`,
`likelihood`, `paths` and `densities` (every member), `ascent` and `quadratic` (the optimiser), `forecasting`, `device` (torch),
`reference` (plain recursions that the tests hold all of it against).
"""

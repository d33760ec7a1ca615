"""The GARCH family with Student t innovations: fitted by `arch`, filtered and forecast here in closed form.

In: daily returns of a panel. Out: forecasts through `ml.model.VolatilityModel`.
Never: a forecast from a fit that did not converge; such a coin falls back to a simpler model and its status says so.
"""

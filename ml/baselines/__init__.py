"""The opponents: random walk, EWMA, and the HAR family with HARX-cal at its top.

In: a panel. Out: forecasts through `ml.model.VolatilityModel`. Never: anything that a line of algebra cannot explain.
"""

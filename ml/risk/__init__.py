"""Value at risk, expected shortfall, an uncertainty score and a leverage advice from variance forecasts.

In: forecast variances, standardised past returns, scores of doubt. Out: fractions of a position, with reasons in words.
Never: knowing which model made the forecast.
"""

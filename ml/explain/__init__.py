"""Explanations of forecasts made from tokens, and the audit that says whether they may be called explanations.

In: anything that satisfies `ml.explain.protocol.TokenForecaster`. Out: frames in the layout of forecasts.explanations.
Never: knowledge of which model made the forecast.
"""

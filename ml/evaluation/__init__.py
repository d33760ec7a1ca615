"""How forecasts are judged: losses, walk-forward folds, comparison tests, tests of VaR and ES.

In: forecasts and what followed. Out: scores, a leaderboard, verdicts. Never: knowing which model made a forecast.
"""

"""Regimes of volatility: Markov switching of log realised variance, filtered day by day.

In: daily log variance. Out: probabilities of calm, normal and turbulent days. Never: a smoothed probability, which knows what came later.
"""

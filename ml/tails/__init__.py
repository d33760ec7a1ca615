"""Rare days: how likely a jump or a crash is, and how far the return may fall beyond what a variance says.

In: measures of past days, tails of standardised returns. Out: probabilities and extreme quantiles, each with what it rests on.
"""

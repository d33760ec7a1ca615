"""The simulated market: a seeded law of prices, volatility and what is known about them. See
``truth`` and ``evolution``.
"""

"""Precursors of volatile days as named detectors, one file each: `liquidity_dry_up`, `large_transfers`, `funding_squeeze`.

In: columns of features.daily by day and coin. Out: a score, whether the event is active, and the inputs behind it.
"""

"""Volatility models, their evaluation and their risk figures: pure functions of arrays and files.

In: a training snapshot (Parquet) or frames in memory. Out: `Forecasts`, model artefacts (safetensors and JSON), scores.
Never: Dagster, a database, the network. Nothing is imported here, so that `import ml` costs nothing.
"""

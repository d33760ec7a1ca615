"""Dagster assets, in the order of the flow: ingest, features, models, forecasts, explanations, evaluation, publish."""

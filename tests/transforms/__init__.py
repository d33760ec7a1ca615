"""Tests of the dbt project: its SQL against plain Python, its rule of time, its layers."""

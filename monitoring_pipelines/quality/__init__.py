"""Completeness, consistency and health: what is missing, since when, and what carries it (C-1xx, C-3xx).

What belongs here: checks over the warehouse, their runs and results, expectation suites, change points. No dagster.
What does not: alerts (``alerts``) and repair (``compensation``).
"""

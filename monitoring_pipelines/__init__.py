"""Trustworthy statistics, checks, alerts and repair for task platforms whose state lives in MySQL."""

__version__ = "0.1.0"

"""Alerts with a life cycle: rules, identity, routing, repeats, delivery (A-xxx). No dagster.

What belongs here: from a condition to a message somebody read, and the history of both.
What does not: finding problems in data (``quality``) and sampling (``collect``).
"""

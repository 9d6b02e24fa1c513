"""Dagster's side of the product: assets, checks, jobs, schedules, sensors, resources.

What belongs here: thin definitions that call the domain packages and report what they did.
What does not: any rule about numbers, sources or storage (``pipeline``, ``source``, ``warehouse``).
"""

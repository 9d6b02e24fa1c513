"""Built-in collectors: HTTP probes, Prometheus text pages, and the product's own processes (E-124).

What belongs here: fetching, turning answers into rows of the unified entities, and the state of a target's health.
What does not: rules over those rows (``alerts.rules``) and moving them into the warehouse.
"""

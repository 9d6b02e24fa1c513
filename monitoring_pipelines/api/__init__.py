"""The HTTP surface: JSON API, pages and metrics, by FastAPI.

What belongs here: access, parameters, envelopes and routes. What does not: the answers themselves (``published`` for
statistics, ``state`` for life cycles, ``metrics`` for Prometheus). Nothing here opens the warehouse.
"""

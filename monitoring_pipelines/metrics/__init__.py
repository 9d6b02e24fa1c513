"""Prometheus families from the published files and the state store (surfaces §5).

What belongs here: which families there are, their values, and the text. What does not: HTTP (``api.routes.metrics``).
"""

"""Life-cycle state in a relational database: checks, alerts, notifications, silences, repair, heartbeats, settings.

What belongs here: tables, migrations, the engine, and repositories per subject. What does not: analytics (``warehouse``),
and rules about when a state changes (``quality``, ``alerts``, ``compensation``).

SQLite (WAL) by default, PostgreSQL or MySQL by URL. Every process of the product sees a commit at once (E-131).
"""

from monitoring_pipelines.state.store import StateStore, StateUnavailable

__all__ = ["StateStore", "StateUnavailable"]

"""Families whose values stand in the state store: alerts, messages, checks, repair, heartbeats.

What belongs here: counting rows. What does not: families of the published files (``from_lake``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from monitoring_pipelines.collect.health import CODES
from monitoring_pipelines.metrics.delivery import channel_counters, gateways
from monitoring_pipelines.metrics.exposition import Family
from monitoring_pipelines.metrics.from_lake import seconds
from monitoring_pipelines.published.reader import Look

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from monitoring_pipelines.config.schema import Settings
    from monitoring_pipelines.state import StateStore
    from monitoring_pipelines.state.counters import Memo

_TYPES: tuple[Literal["quick", "full", "deep"], ...] = ("quick", "full", "deep")


def collect(settings: Settings, state: StateStore, now: datetime, memo: Memo) -> list[Family]:
    """All but deliveries, which follow from published files too.

    Args:
        settings: The configuration.
        state: The state store.
        now: The present instant, naive UTC.
        memo: What is remembered from one call to the next.
    """
    families = _completeness(settings, state)
    with state.read() as con:
        families += [
            *_alerts(con, memo),
            *_messages(con),
            *_checks(con),
            *_repair(con),
            *_heartbeats(con),
            *_targets(con, settings, now),
        ]
    return families


def delivery_families(state: StateStore, look: Look | None) -> list[Family]:
    """S-311."""
    ok = Family("scheduler_notification_success_total", "counter", "Successful delivery attempts", ("channel",))
    failed = Family("scheduler_notification_failure_total", "counter", "Failed delivery attempts", ("channel",))
    for channel, (good, bad) in channel_counters(state, look).items():
        ok.add((channel,), good)
        failed.add((channel,), bad)
    return [ok, failed]


def _completeness(settings: Settings, state: StateStore) -> list[Family]:
    from monitoring_pipelines.state import checks

    labels = ("source", "window")
    rate = Family(
        "mp_completion_rate_percent", "gauge", "Share of settled succeeded tasks with output, newest check", labels
    )
    settled = Family("mp_tasks_settled", "gauge", "Settled succeeded tasks, newest check", labels)
    found = Family("mp_tasks_with_outputs", "gauge", "Tasks with output, newest check", labels)
    missing = Family("mp_tasks_missing_outputs", "gauge", "Tasks without output, newest check", labels)
    health = Family("mp_consistency_health", "gauge", "0 unknown, 1 healthy, 2 degraded, 3 unhealthy", ("source",))
    for source in settings.enabled_sources:
        if not (source.mapped("task") and source.mapped("task_output")):
            continue
        for run_type in _TYPES:
            # A check by hand over another window says nothing of this one: its type alone would put an hour under 24h.
            hours = getattr(settings.checks, run_type).hours
            known = checks.believed(state, "missing_outputs", source.id, run_type=run_type, window_hours=hours)
            if known is None:
                continue
            values: dict[str, Any] = known.outcome.metrics
            key = (source.id, f"{hours}h")
            rate.add(key, values.get("completion_rate_value"))
            settled.add(key, values.get("success_tasks"))
            found.add(key, values.get("tasks_with_outputs"))
            missing.add(key, values.get("missing_count"))
            if run_type == "full":
                health.add((source.id,), CODES[known.outcome.health or "unknown"])
    return [rate, settled, found, missing, health]


def _counted(con: Connection, *columns: Any, where: Any = None) -> list[Any]:
    from sqlalchemy import func, select

    query = select(*columns, func.count()).group_by(*columns).order_by(*columns)
    return list(con.execute(query if where is None else query.where(where)))


def _alerts(con: Connection, memo: Memo) -> list[Family]:
    from monitoring_pipelines.state import counters
    from monitoring_pipelines.state.tables import alert

    open_now = Family("mp_alerts", "gauge", "Open alerts", ("type", "severity", "state"))
    for *key, n in _counted(con, alert.c.type, alert.c.severity, alert.c.state, where=alert.c.state != "resolved"):
        open_now.add(key, n)
    moved = Family("mp_alert_transitions_total", "counter", "Alert state changes", ("type", "to_state"))
    for key, n in counters.TRANSITIONS.total(con, memo).items():
        moved.add(key, n)
    return [open_now, moved]


def _messages(con: Connection) -> list[Family]:
    from monitoring_pipelines.state import counters

    ended = Family("mp_alert_notifications_total", "counter", "Messages by final state", ("channel", "kind", "result"))
    for key, n in counters.MESSAGES.total(con).items():
        ended.add(key, n)
    latency = Family(
        "mp_alert_notification_latency_seconds", "gauge", "Mean latency of the last 100 successful posts", ("channel",)
    )
    for channel, gateway in gateways(con).items():
        latency.add((channel,), None if gateway.mean_ms is None else round(gateway.mean_ms / 1000, 6))
    return [ended, latency]


def _checks(con: Connection) -> list[Family]:
    from monitoring_pipelines.state import counters

    family = Family("mp_check_runs_total", "counter", "Check runs, including missed and skipped", ("type", "status"))
    for key, n in counters.CHECK_RUNS.total(con).items():
        family.add(key, n)
    return [family]


def _repair(con: Connection) -> list[Family]:
    from monitoring_pipelines.state import counters
    from monitoring_pipelines.state.tables import repair_journal, repair_plan, repair_run

    runs = Family("mp_repair_runs_total", "counter", "Repair runs", ("source", "kind", "state"))
    for *key, n in _counted(
        con, repair_run.c.source_id, repair_run.c.kind, repair_run.c.state, where=repair_run.c.state != "running"
    ):
        runs.add(key, n)
    rows = Family(
        "mp_repair_rows_total", "counter", "Rows inserted, deleted and self-reverted by repairs", ("source", "op")
    )
    done = repair_journal.c.state == "committed"
    for *key, n in _counted(con, repair_journal.c.source_id, repair_journal.c.op, where=done):
        rows.add(key, n)
    plans = Family("mp_repair_open_plans", "gauge", "Plans ready or approved", ("source",))
    for *key, n in _counted(con, repair_plan.c.source_id, where=repair_plan.c.state.in_(("ready", "approved"))):
        plans.add(key, n)
    asked = Family("mp_recovery_requests_total", "counter", "Recovery requests by result", ("target", "result"))
    for key, n in counters.RECOVERIES.total(con).items():
        asked.add(key, n)
    return [runs, rows, plans, asked]


def _heartbeats(con: Connection) -> list[Family]:
    from sqlalchemy import select

    from monitoring_pipelines.state.tables import component_heartbeat

    family = Family("mp_component_heartbeat_timestamp_seconds", "gauge", "Last heartbeat", ("component",))
    columns = component_heartbeat.c
    for component, at in con.execute(select(columns.component, columns.at).order_by(columns.component)):
        family.add((component,), round(seconds(at), 3))
    return [family]


def _targets(con: Connection, settings: Settings, now: datetime) -> list[Family]:
    from sqlalchemy import select

    from monitoring_pipelines.state.expectations import health_of
    from monitoring_pipelines.state.tables import expectation

    family = Family("mp_target_health", "gauge", "0 unknown, 1 healthy, 2 degraded, 3 unhealthy", ("source", "target"))
    columns = expectation.c
    query = select(columns.source_id, columns.name, columns.state).where(
        columns.kind == "target", columns.retired_at.is_(None)
    )
    for source, name, state in con.execute(query.order_by(columns.source_id, columns.name)):
        health = health_of(state, settings, now)
        family.add((source, name), CODES[health.state if health else "unknown"])
    return [family]

"""Stored check runs as the alert engine takes them in (A-002).

What belongs here: finding runs that were not taken in yet and reading them. What does not: what they mean
(``contributions``), making them (``quality``).
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from monitoring_pipelines.quality.model import CheckOutcome, CheckRun, Finding
from monitoring_pipelines.state import tables


def not_taken(con: Connection) -> list[str]:
    """Ids of ended runs no evaluation has seen, in the order in which they ended."""
    table = tables.check_run
    query = select(table.c.run_id).where(table.c.alerted_at.is_(None), table.c.status != "running")
    return list(con.execute(query.order_by(table.c.ended_at, table.c.run_id)).scalars())


def mark_taken(con: Connection, run_ids: list[str], now: datetime) -> None:
    """Remember that runs were taken in."""
    for run_id in run_ids:
        con.execute(update(tables.check_run).where(tables.check_run.c.run_id == run_id).values(alerted_at=now))


def load(con: Connection, run_id: str) -> CheckRun:
    """One stored run with its outcomes and findings."""
    run = con.execute(select(tables.check_run).where(tables.check_run.c.run_id == run_id)).mappings().one()
    found: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    table = tables.finding
    for row in con.execute(select(table).where(table.c.run_id == run_id).order_by(table.c.seq)):
        found[row.source_id, row.check_id].append(
            Finding(row.source_id, row.check_id, row.alert_type, row.severity, row.message or "", row.created_at,
                    row.details or {}, tuple(row.task_ids or ()), row.labels or {})
        )  # fmt: skip
    outcomes = []
    results = con.execute(select(tables.check_result).where(tables.check_result.c.run_id == run_id))
    for result in results.mappings():
        findings = tuple(found.pop((result["source_id"], result["check_id"]), ()))
        outcomes.append(_outcome(result, findings))
    for (source_id, check_id), left in found.items():  # findings of the run itself, such as an unreadable source
        outcomes.append(CheckOutcome(source_id, check_id, "error", findings=tuple(left)))
    return CheckRun(
        run["run_id"], run["type"], run["trigger"], run["status"], run["scheduled_at"], run["started_at"],
        run["ended_at"], run["window_from"], run["window_to"], run["window_hours"], tuple(outcomes), run["error"],
    )  # fmt: skip


def _outcome(row: Any, findings: tuple[Finding, ...]) -> CheckOutcome:
    return CheckOutcome(
        row["source_id"], row["check_id"], row["status"], row["window_from"], row["window_to"], row["severity"],
        row["health"], row["metrics"] or {}, findings, row["expectation"], row["as_of"], row["stale"], row["message"],
    )  # fmt: skip

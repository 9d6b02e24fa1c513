"""Records of a busy month beside the tasks: samples of collectors, check runs, alerts, messages, repairs.

What belongs here: filling a store of ``_published`` with them, once. What does not: tasks, statistics and jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from benchmarks._published import DAY, DAYS, NOW

PROCESSES, PERIOD_S = 10, 30
RUNS_APART = timedelta(minutes=5)
FINDINGS_OF_LARGEST = 2_000
ALERTS, OPEN, PLANS, ITEMS = 20_000, 200, 300, 10_000
SAMPLED = ("raw.process_sample", "raw.probe_result", "raw.ingest_counter")
START = NOW - DAYS * DAY


def fill_records(settings: Any) -> None:
    """Add the records unless they are there."""
    from monitoring_pipelines.state import StateStore, tables

    state = StateStore.of(settings)
    with state.read() as con:
        if con.execute(tables.check_run.select().limit(1)).first() is not None:
            return
    _add_samples(settings)
    with state.begin() as con:
        for table, rows in (*_checks(), *_alerts(), *_repairs()):
            for part in _parts(rows):
                con.execute(table.insert(), part)


def _parts(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    part: list[dict[str, Any]] = []
    for row in rows:
        part.append(row)
        if len(part) == 1000:
            yield part
            part = []
    if part:
        yield part


def _add_samples(settings: Any) -> None:
    """A month of samples, probes and counters, published."""
    from monitoring_pipelines.clock import FixedClock
    from monitoring_pipelines.warehouse.connect import Warehouse
    from monitoring_pipelines.warehouse.publish import publish
    from monitoring_pipelines.warehouse.serving import SERVED, mark_whole_table

    count = int(DAYS * DAY / timedelta(seconds=PERIOD_S))
    with Warehouse(settings.warehouse_path, clock=FixedClock(NOW)).writer("records") as con:
        _insert_samples(con, f"?::TIMESTAMP - to_seconds(n * {PERIOD_S} + 5)", 0, count)
        for name in SAMPLED:
            mark_whole_table(con, SERVED[name], NOW)
        while publish(con, settings.lake_path, FixedClock(NOW), budget_s=600).waiting:
            pass


def add_newer_samples(con: Any, number: int) -> None:
    """A sample of everything, as the ``number``-th tick brings it: shortly before now, after those before."""
    from monitoring_pipelines.warehouse.serving import mark

    _insert_samples(con, "?::TIMESTAMP - INTERVAL 4 SECOND + to_milliseconds(n)", number, number + 1)
    for name in SAMPLED:
        mark(con, name, f"SELECT TIMESTAMP '{NOW}' - INTERVAL 4 SECOND", NOW)


def _insert_samples(con: Any, at: str, first: int, last: int) -> None:
    rows = f"(SELECT p, n, {at} AS t FROM range({PROCESSES}) AS a(p), range({first}, {last}) AS b(n))"
    known = "'shop' AS source_id, t AS \"at\", t AS first_seen_at, hash(p, t) AS key_hash, 'collector-' || p"
    con.execute(
        f"INSERT INTO raw.process_sample BY NAME SELECT {known} AS process_id, "
        "2e9::BIGINT + n * 1000 % 500000000 AS rss_bytes, 4e9::BIGINT AS vms_bytes, 12.5 AS mem_pct, "
        "100000 + n % 997 AS objects, (n * 7 + p) % 90 AS cpu_pct, 2 AS effective_cores, 1.5 AS load1, 1.2 AS load5, "
        '200 + n % 50 AS fds, 1024 AS fds_max, 40 AS conns, \'{"ESTABLISHED": 30, "TIME_WAIT": 10}\' AS tcp_by_state, '
        f"30 AS threads, n AS gc_collections, 8000000000 AS host_mem_available_bytes, n * {PERIOD_S} AS uptime_s, "
        f"'process' AS scope FROM {rows}",
        [NOW],
    )
    con.execute(
        f"INSERT INTO raw.probe_result BY NAME SELECT {known} AS target, 'http' AS kind, true AS up, 200 AS http_status, "
        f"3.5 AS latency_ms, 'healthy' AS health_state FROM {rows}",
        [NOW],
    )
    con.execute(
        f"INSERT INTO raw.ingest_counter BY NAME SELECT {known} AS process_id, 'messages_published' AS series, "
        f"'generic' AS kind, (1000000000 - n * 300) AS \"value\" FROM {rows}",
        [NOW],
    )


def _ids(prefix: str) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"{prefix}{number:024d}"


def _checks() -> Iterator[tuple[Any, Iterable[dict[str, Any]]]]:
    from monitoring_pipelines.state import tables as t

    runs: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    findings: list[dict[str, Any]] = []
    at, ids = START, _ids("C")
    while at < NOW:
        run_id = next(ids)
        largest = at + RUNS_APART >= NOW
        found = FINDINGS_OF_LARGEST if largest else 20 if len(runs) % 20 == 0 else 0
        runs.append({
            "run_id": run_id, "type": "full" if largest else "quick", "trigger": "schedule", "status": "issues_detected" if found else "healthy",
            "scheduled_at": at, "started_at": at, "ended_at": at + timedelta(seconds=2), "window_from": at - DAY, "window_to": at,
            "window_hours": 24, "sources": {}, "total_alerts": found, "alerts_by_severity": {"high": found} if found else {}, "duration_ms": 2000.0, "count": 1, "alerted_at": at,
        })  # fmt: skip
        results += [
            {"run_id": run_id, "source_id": "shop", "check_id": check, "status": "findings" if found and n == 0 else "passed",
                 "health": "healthy", "window_from": at - DAY, "window_to": at, "metrics": {"settled": 1000, "rate": 97.5}, "as_of": at, "stale": False}
            for n, check in enumerate(("completeness", "consistency", "queue", "workers", "resources", "extraction"))
        ]  # fmt: skip
        findings += [
            {"run_id": run_id, "seq": n, "source_id": "shop", "check_id": "completeness", "alert_type": "missing_outputs", "severity": "high",
                 "labels": {"endpoint": f"ep-{n % 100}"}, "message": f"12 tasks of ep-{n % 100} have no output", "details": {"missing": 12},
                 "task_ids": [f"task-{n:016x}"], "created_at": at}
            for n in range(found)
        ]  # fmt: skip
        at += RUNS_APART
    yield from ((t.check_run, runs), (t.check_result, results), (t.finding, findings))


def _alerts() -> Iterator[tuple[Any, Iterable[dict[str, Any]]]]:
    from monitoring_pipelines.state import tables as t

    alerts: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    links: list[dict[str, Any]] = []
    alert_ids, event_ids, note_ids = _ids("A"), _ids("E"), _ids("N")
    for n in range(ALERTS):
        alert_id, at = next(alert_ids), START + (NOW - START) * n / ALERTS
        is_open = n >= ALERTS - OPEN
        end = None if is_open else at + timedelta(minutes=20)
        alerts.append({
            "alert_id": alert_id, "fingerprint": f"f{n}", "open_fingerprint": f"f{n}" if is_open else None, "type": "missing_outputs",
            "alertname": "MissingOutputs", "source_id": "shop", "labels": {"endpoint": f"ep-{n % 100}"}, "severity": ("critical", "high", "medium", "low")[n % 4],
            "severity_label": "warning", "state": "firing" if is_open else "resolved", "value": 12.0, "threshold": 5.0,
            "message": f"12 tasks of ep-{n % 100} have no output", "details": {"missing": 12}, "task_ids": [f"task-{n:016x}"],
            "active_at": at, "fired_at": at, "last_seen_at": end or NOW, "resolved_at": end, "occurrences": 4, "is_drill": False,
        })  # fmt: skip
        events += [
            {"event_id": next(event_ids), "alert_id": alert_id, "at": at + timedelta(minutes=m), "kind": kind, "from_state": before, "to_state": after,
                 "severity": "high", "actor": "engine"}
            for m, kind, before, after in (
                (0, "transition", None, "pending"), (0, "transition", "pending", "firing"), (1, "message", None, None),
                *(() if is_open else ((20, "transition", "firing", "resolved"),)),
            )
        ]  # fmt: skip
        note_id = next(note_ids)
        notes.append({
            "notification_id": note_id, "source_id": "shop", "alert_ids": [alert_id], "group_key": f"g{n}", "channel": "ops",
            "channel_type": "dingtalk", "kind": "firing", "state": "sent", "severity": "high", "attempts": 1, "due_at": at, "created_at": at,
            "final_at": at, "sent_at": at, "latency_ms": 120.0, "payload": {"title": "missing outputs", "text": "12 tasks have no output"},
        })  # fmt: skip
        links.append({"alert_id": alert_id, "notification_id": note_id})
    yield from ((t.alert, alerts), (t.alert_event, events), (t.notification, notes), (t.notification_alert, links))
    attempts = [
        {"notification_id": note["notification_id"], "attempt_no": 1, "channel": "ops", "at": note["sent_at"], "ok": True, "latency_ms": 120.0,
             "http_status": 200}
        for note in notes
    ]  # fmt: skip
    yield t.notification_attempt, attempts


def _repairs() -> Iterator[tuple[Any, Iterable[dict[str, Any]]]]:
    """Plans of a task each, and a last one of ``ITEMS`` that was applied."""
    from monitoring_pipelines.state import tables as t

    plan_ids, run_ids, journal_ids = _ids("P"), _ids("R"), _ids("J")
    plans: list[dict[str, Any]] = []
    items: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    journal: list[dict[str, Any]] = []
    for n in range(PLANS):
        size, at = (ITEMS if n == PLANS - 1 else 1), START + (NOW - START) * n / PLANS
        plan_id, run_id = next(plan_ids), next(run_ids)
        counters = {"considered": size, "eligible": size, "rows_planned": size}
        plans.append({
            "plan_id": plan_id, "source_id": "shop", "created_at": at, "created_by": "operator", "mode": "only_if_empty", "window_from": at - DAY,
            "window_to": at, "max_tasks": size, "batch_size": 100, "plan_hash": f"h{n}", "state": "applied", "counters": counters,
        })  # fmt: skip
        runs.append({"run_id": run_id, "plan_id": plan_id, "source_id": "shop", "kind": "apply", "dry_run": False, "actor": "admin",
                         "started_at": at, "ended_at": at, "state": "finished", "counters": counters})  # fmt: skip
        for seq in range(size):
            key = f"task-{n * ITEMS + seq:016x}"
            row = {"task_key": key, "name": "output", "uri": f"store/{key}.wav"}
            items.append({
                "plan_id": plan_id, "seq": seq, "task_key": key, "class": "eligible", "tries": 1, "recoverer_id": "files",
                "task": {"endpoint": "ep-1"}, "run_state": "committed", "run_reason": None,
                "rows": [{"natural_key": key, "values": row, "evidence": {"kind": "file"}}],
            })  # fmt: skip
            journal.append({
                "journal_id": next(journal_ids), "run_id": run_id, "plan_id": plan_id, "source_id": "shop", "op": "insert", "target_table": "task_output",
                "pk": {"id": str(seq)}, "task_key": key, "natural_key": key, "before": None, "after": row, "after_sha256": "0" * 64, "actor": "admin", "at": at,
                "state": "committed",
            })  # fmt: skip
    yield from ((t.repair_plan, plans), (t.repair_item, items), (t.repair_run, runs), (t.repair_journal, journal))

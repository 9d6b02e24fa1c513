"""One of everything in a state store: what the API reads and changes besides published files."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.compensation.model import plan_counters
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.quality.model import CheckOutcome, CheckRun, Finding
from monitoring_pipelines.state import StateStore, checks, heartbeats
from monitoring_pipelines.state import tables as t

#: Values of path parameters that are there, by name.
KNOWN = {
    "alert_id": "A1", "silence_id": "S1", "run_id": "R1", "plan_id": "P1", "process_id": "collector", "endpoint": "e",
    "task_key": "t0", "task_id": "t0", "job_id": "minute_tick_job",
}  # fmt: skip


def fill(settings: Settings, clock: FixedClock) -> None:
    """A firing alert with history and message, a silence, a check run, a plan that is ready and a run of it."""
    now, hour = clock.now(), timedelta(hours=1)
    state = StateStore.of(settings)
    finding = Finding("shop", "missing_outputs", "missing_task_outputs", "high", "3 tasks have no output", now,
                      {"missing_count": 3, "health": "degraded"}, ("t0",), {"endpoint": "e"})  # fmt: skip
    outcome = CheckOutcome("shop", "missing_outputs", "findings", now - hour, now, "high", "degraded",
                           {"missing_count": 3}, (finding,), None, now)  # fmt: skip
    run = checks.start(state, CheckRun("R1", "quick", "manual", "running", now, now, window_hours=1))
    checks.finish(state, replace(run, status="issues_detected", ended_at=now, outcomes=(outcome,)))
    with state.begin() as con:
        con.execute(t.alert.insert().values(
            alert_id="A1", fingerprint="f", open_fingerprint="f", type="missing_task_outputs", alertname="MissingTaskOutputs",
            source_id="shop", severity="high", severity_label="high", state="firing", labels={"source": "shop"}, message="m",
            details={"missing_count": 3}, task_ids=["t0"], active_at=now - hour, fired_at=now - hour, last_seen_at=now, value=3,
            threshold=0,
        ))  # fmt: skip
        con.execute(t.alert_event.insert().values(
            event_id="E1", alert_id="A1", at=now, kind="transition", from_state="pending", to_state="firing"
        ))  # fmt: skip
        con.execute(t.alert_contribution.insert().values(
            fingerprint="f", contributor="quick", is_bad=True, severity="high", run_id="R1", at=now, finding={"message": "m"}
        ))  # fmt: skip
        con.execute(t.notification.insert().values(
            notification_id="N1", source_id="shop", alert_ids=["A1"], group_key="g", channel="ops", channel_type="webhook",
            kind="firing", state="sent", severity="high", attempts=1, due_at=now, created_at=now, final_at=now, sent_at=now,
            latency_ms=12.5,
        ))  # fmt: skip
        con.execute(t.notification_alert.insert().values(alert_id="A1", notification_id="N1"))
        con.execute(t.silence.insert().values(
            silence_id="S1", matchers=[{"name": "type", "op": "=", "value": "x"}], starts_at=now - hour, ends_at=now + hour,
            creator="li", created_at=now - hour,
        ))  # fmt: skip
        con.execute(t.repair_plan.insert().values(
            plan_id="P1", source_id="shop", created_at=now, created_by="li", mode="only_if_empty", window_from=now - hour,
            window_to=now, plan_hash="h", state="ready", counters=plan_counters((), 0, 0.0), recoverers=[],
        ))  # fmt: skip
        con.execute(t.repair_item.insert().values(
            plan_id="P1", seq=1, task_key="t0", tries=0, run_state="pending", rows=[], **{"class": "recoverable"}
        ))  # fmt: skip
        con.execute(t.repair_run.insert().values(
            run_id="R1", plan_id="P1", source_id="shop", kind="apply", dry_run=False, actor="li", started_at=now, ended_at=now,
            state="finished", counters={"rows_inserted": 1},
        ))  # fmt: skip
        con.execute(t.repair_journal.insert().values(
            journal_id="J1", run_id="R1", plan_id="P1", source_id="shop", op="insert", target_table="outputs", pk={"id": 1},
            task_key="t0", natural_key="n", after={"id": 1}, after_sha256="0", actor="li", at=now, state="committed",
        ))  # fmt: skip
        heartbeats.beat(con, "extract", 60.0, now)
    state.dispose()

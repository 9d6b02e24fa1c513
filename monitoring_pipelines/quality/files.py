"""Result and error files of check runs, and removing old ones (S-501, S-504, S-506).

What belongs here: names and contents of these files. What does not: critical alert files (the ``file`` channel writes
them) and service logs.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from monitoring_pipelines.quality.model import CheckRun, Finding
from monitoring_pipelines.state.checks import severity_counts
from monitoring_pipelines.state.types import canonical_json

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings

RESULTS, ERRORS, ALERTS, REPAIRS = "monitoring_results", "errors", "alerts", "repairs"
#: Folders whose files go after ``retention.check_days``; repair files stay (S-506).
PRUNED = (RESULTS, ERRORS, ALERTS)


def prepare(settings: Settings) -> None:
    """Create the folders (S-506)."""
    for name in (*PRUNED, REPAIRS):
        (settings.logs_path / name).mkdir(parents=True, exist_ok=True)


def prepare_at_start(settings: Settings) -> None:
    """``prepare`` for programs that work without these files as well: a disk that takes none is told when one is due."""
    with suppress(OSError):
        prepare(settings)


def finding_dict(settings: Settings, found: Finding) -> dict[str, Any]:
    """A finding as every surface shows it (C-028)."""
    return {
        "alert_type": found.alert_type, "severity": found.severity, "message": found.message, "details": found.details,
        "task_ids": list(found.task_ids), "source_id": found.source_id, "check_id": found.check_id,
        "labels": found.labels, "created_at": found.created_at,
        "created_at_local": local_text(found.created_at, settings.timezone),
    }  # fmt: skip


def run_dict(settings: Settings, run: CheckRun) -> dict[str, Any]:
    """A run as S-501 and S-411 show it: self-contained, times in UTC, ``*_local`` in the configured zone."""
    at = run.started_at or run.scheduled_at
    lasted = run.ended_at - run.started_at if run.ended_at and run.started_at else None
    metrics: dict[str, dict[str, Any]] = {}
    for outcome in run.outcomes:
        of_check = {"status": outcome.status, "health": outcome.health, "as_of": outcome.as_of, "stale": outcome.stale}
        metrics.setdefault(outcome.source_id, {})[outcome.check_id] = of_check | outcome.metrics
    return {
        "timestamp": at, "timestamp_local": local_text(at, settings.timezone), "run_id": run.run_id,
        "check_type": run.type, "trigger": run.trigger, "scheduled_at": run.scheduled_at,
        "window": {"from": run.window_from, "to": run.window_to, "hours": run.window_hours},
        "status": "issues_detected" if run.findings else "healthy", "run_status": run.status,
        "total_alerts": len(run.findings), "alerts_by_severity": severity_counts(run.findings),
        "alerts": [finding_dict(settings, found) for found in run.findings], "metrics": metrics,
        "duration_ms": None if lasted is None else lasted / timedelta(milliseconds=1),
        "errors": run.failed_sources | ({"run": run.error} if run.error else {}),
    }  # fmt: skip


def write_result(settings: Settings, run: CheckRun) -> Path:
    """Append the run's line to the file of the local day on which it was due (S-501)."""
    prepare(settings)
    day = _local(run.scheduled_at, settings.timezone)
    path = settings.logs_path / RESULTS / f"monitoring_{day:%Y%m%d}.jsonl"
    # In the file ``status`` is the status of the run, as in check_run.
    line = run_dict(settings, run) | {"status": run.status}
    with path.open("ab") as file:  # one write of a whole line: two processes do not mix theirs
        file.write((canonical_json(line) + "\n").encode())
    return path


def write_errors(settings: Settings, run: CheckRun) -> Path | None:
    """One file per run with errors of sources and checks (S-504); None when there were none."""
    failed = [outcome for outcome in run.outcomes if outcome.status == "error"]
    if not failed and not run.error:
        return None
    at = run.ended_at or run.scheduled_at
    path = settings.logs_path / ERRORS / f"monitoring_error_{at:%Y%m%dT%H%M%S%f}Z_{run.run_id}.json"
    errors = [{"source_id": o.source_id, "check_id": o.check_id, "error": o.message} for o in failed]
    content = {"timestamp": at, "run_id": run.run_id, "check_type": run.type, "error": run.error, "errors": errors}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(json.loads(canonical_json(content)), ensure_ascii=False, indent=2) + "\n", "utf-8")
    return path


def prune_logs(settings: Settings, now: datetime) -> list[Path]:
    """Remove result, alert and error files last written more than ``retention.check_days`` ago (S-506).

    Returns:
        The files removed.
    """
    limit = now - timedelta(days=settings.retention.check_days)
    removed = []
    for folder in PRUNED:
        for path in sorted((settings.logs_path / folder).glob("*")):
            if path.is_file() and not path.is_symlink() and _written(path) < limit:
                path.unlink(missing_ok=True)
                removed.append(path)
    return removed


def local_text(instant: datetime, zone: str) -> str:
    """``%Y-%m-%d %H:%M:%S`` in the zone (C-028)."""
    return f"{_local(instant, zone):%Y-%m-%d %H:%M:%S}"


def _local(instant: datetime, zone: str) -> datetime:
    return instant.replace(tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo(zone))


def _written(path: Path) -> datetime:
    return datetime(1970, 1, 1) + timedelta(seconds=os.stat(path).st_mtime)

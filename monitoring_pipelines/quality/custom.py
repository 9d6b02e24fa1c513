"""Checks of one's own: finding them, running each in a process of its own with a time limit (C-601).

What belongs here: discovery, isolation, turning answers into outcomes. What does not: the process itself
(``custom_child``). A process of its own keeps a crash, a hang or a leak of such a check from the run (C-026), and the
warehouse is free again when it is ended.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.quality.model import CheckOutcome, CheckRun, Finding
from monitoring_pipelines.quality.registry import MONITORING_ERROR
from monitoring_pipelines.severity import SEVERITIES, highest

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings
    from monitoring_pipelines.pipeline import Pipeline

log = logging.getLogger(__name__)

GROUP = "monitoring_pipelines.checks"
#: Longest a custom check may take, seconds (C-601).
LIMIT_S = 60.0
#: Findings taken from one check and run; the outcome says when there were more.
MOST_FINDINGS = 20_000


@dataclass(frozen=True)
class Custom:
    """One custom check. ``types`` empty: the function may declare ``run_types``, else it belongs to full runs."""

    id: str
    target: str
    types: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)


class BadAnswer(ValueError):
    """A custom check returned something that is no list of findings."""


def discover(settings: Settings) -> list[Custom]:
    """Checks of installed packages by their entry points, then the configured ones; by id, each once."""
    found = {f"custom.{point.name}": Custom(f"custom.{point.name}", point.value) for point in entry_points(group=GROUP)}
    for entry in settings.checks.custom:
        check_id = f"custom.{entry.check.partition(':')[2]}"
        found[check_id] = Custom(check_id, entry.check, tuple(entry.types), entry.params)
    return [check for check in found.values() if check.id not in settings.checks.disabled]


def run(
    check: Custom, pipe: Pipeline, run: CheckRun, source_ids: list[str], limit_s: float = LIMIT_S
) -> list[CheckOutcome]:
    """Outcomes per source; none when the check does not belong to this type of run.

    Args:
        check: The check.
        pipe: Where the warehouse is.
        run: The run: type, window, instant.
        source_ids: Sources that could be read.
        limit_s: Seconds after which it is ended.
    """
    try:
        answer = _answer(check, pipe, run, source_ids, limit_s)
        if answer.get("not_for") == run.type:
            return []
        if "error" in answer:
            return [_failed(check, run, source_ids[0], str(answer["error"]))]
        findings = [_finding(check, run, source_ids, entry) for entry in answer["findings"]]
    except (BadAnswer, OSError, subprocess.SubprocessError, json.JSONDecodeError) as error:
        return [_failed(check, run, source_ids[0], _reason(error, limit_s))]
    outcomes = []
    for source_id in source_ids:
        mine = tuple(found for found in findings if found.source_id == source_id)
        outcomes.append(CheckOutcome(
            source_id, check.id, "findings" if mine else "passed", run.window_from, run.window_to,
            highest(found.severity for found in mine), metrics={"findings": len(mine)}, findings=mine,
            message=f"more than {MOST_FINDINGS} findings" if answer.get("more") else None,
        ))  # fmt: skip
    return outcomes


def _answer(check: Custom, pipe: Pipeline, run: CheckRun, source_ids: list[str], limit_s: float) -> dict[str, Any]:
    # Loading the Dagster location asks which checks there are; it must not load the state store's library.
    from monitoring_pipelines.state.types import canonical_json

    with tempfile.TemporaryDirectory(prefix="mp-check-") as folder:
        result = Path(folder) / "answer.json"
        request = {
            "target": check.target, "run_type": run.type, "explicit": bool(check.types), "source_ids": source_ids,
            "window_from": run.window_from, "window_to": run.window_to, "now": run.started_at, "most": MOST_FINDINGS,
            "params": dict(check.params), "warehouse": str(pipe.warehouse.path), "result": str(result),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "monitoring_pipelines.quality.custom_child"],
            input=canonical_json(request), text=True, capture_output=True, timeout=limit_s, check=False,
        )  # fmt: skip
        if done.returncode or not result.exists():
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise BadAnswer(last[:500])
        return json.loads(result.read_text("utf-8"))


def _finding(check: Custom, run: CheckRun, source_ids: list[str], entry: Mapping[str, Any]) -> Finding:
    source_id = entry.get("source_id") or (source_ids[0] if len(source_ids) == 1 else None)
    if source_id not in source_ids:
        raise BadAnswer(f"a finding names the source {source_id!r}; checked were {', '.join(source_ids)}")
    if entry.get("severity") not in SEVERITIES:
        raise BadAnswer(f"a finding has the severity {entry.get('severity')!r}; one of {', '.join(SEVERITIES)}")
    assert run.started_at is not None
    labels = {str(name): str(value) for name, value in (entry.get("labels") or {}).items()}
    return Finding(
        str(source_id), check.id, str(entry.get("alert_type") or check.id), entry["severity"],
        str(entry.get("message") or ""), run.started_at, dict(entry.get("details") or {}),
        tuple(str(key) for key in (entry.get("task_ids") or ())[:10]), labels,
    )  # fmt: skip


def _failed(check: Custom, run: CheckRun, source_id: str, reason: str) -> CheckOutcome:
    """The error of one custom check affects only itself (C-026)."""
    log.error("custom check %s: %s", check.id, reason)
    assert run.started_at is not None
    found = Finding(
        source_id, check.id, MONITORING_ERROR, "high", f"check {check.id} failed: {reason}", run.started_at,
        {"check": check.id, "error": reason}, (), {"check": check.id},
    )  # fmt: skip
    return CheckOutcome(
        source_id, check.id, "error", run.window_from, run.window_to, "high", findings=(found,), message=reason
    )


def _reason(error: BaseException, limit_s: float) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"not finished after {limit_s:g} s"
    return str(error)[:500]

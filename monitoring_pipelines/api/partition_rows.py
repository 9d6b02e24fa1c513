"""Partition by time with what the checks say: one set of rows for the page and the API (S-820, M-101).

What belongs here: putting statistics and checks together. What does not: reading either (``published.partitions``,
``state``), words and colours (``api.pages.partitions``).

Three kinds of checks: audits (M-9xx), which judge a partition when it is computed; expectations of deep checks, which name the
hours whose rows break them; and check runs, which judge a window and stand at the hour in which they were due.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from monitoring_pipelines.api import summaries
from monitoring_pipelines.api.services import Services
from monitoring_pipelines.partition_keys import day_key, hour_key
from monitoring_pipelines.published import partitions
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.quality.suites import SUITES
from monitoring_pipelines.severity import health_of
from monitoring_pipelines.state import checks, partition_checks
from monitoring_pipelines.warehouse.audits import load_audits

#: Check ids of expectations are this and the id of their suite.
PREFIX = "expectations."
#: Worst first: what several runs of one hour look like together.
RUN_STATES = ("error", "issues_detected", "missed", "running", "skipped", "unknown", "healthy")
_UNEXECUTED = ("missed", "skipped", "running")


def rows(
    services: Services, look: Look, sources: Sequence[str], grain: partitions.Grain, start: datetime, end: datetime, *,
    with_state: bool = True,
) -> list[dict[str, Any]]:  # fmt: skip
    """One row per source and table: source_id, table, and its cells, oldest first (see ``_cell``).

    Without ``with_state`` nothing is asked of the state store, and the state of all checks is ``unknown``.

    Raises:
        StateUnavailable: What the checks say cannot be read.
    """
    # Only the newest range is kept: who asks chooses it, and one is up to some thousand cells.
    found: partitions.Found = services.newest(
        ("partitions", grain, *sources), (look.lake.version, start, end),
        lambda: partitions.matrix(look, sources, grain, start, end),
    )  # fmt: skip
    said: dict[tuple[str, str, datetime], partition_checks.Said] = {}
    expected: dict[tuple[str, str], _Suite] = {}
    if with_state:
        said = services.of_state(
            ("partition checks", grain, *sources),
            lambda: partition_checks.read(services.state, sources, partitions.TABLES[grain], start, end), start, end,
        )  # fmt: skip
        expected = services.of_state(("expectations", *sources), partial(_expectations, services, sources))
    bands, audits = summaries.bands_of(services), frozenset(audit.table for audit in load_audits())
    made: list[dict[str, Any]] = []
    for table, source in sorted(found, key=lambda row: (row[1], row[0])):
        cells = found[table, source]
        suite = expected.get((source, table))
        made.append({"source_id": source, "table": table, "cells": [
            _cell(cells[at], at, grain, said.get((source, table, at)), audits, suite, bands) for at in sorted(cells)
        ]})  # fmt: skip
    if not with_state:
        for cell in (cell for row in made for cell in row["cells"]):
            cell["checks"]["state"] = "unknown"
    return made


def runs(
    services: Services, sources: Sequence[str], start: datetime, end: datetime
) -> dict[str, dict[datetime, list[dict[str, Any]]]]:
    """Source → hour → check runs that were due in it, worst first: run_id, type, status of this source, scheduled_at.

    ``status`` is that of the run where it was not executed, else what it found at this source; ``unknown``: no check of the
    run had an answer. A run that was executed without the source is left out.

    Raises:
        StateUnavailable: They cannot be read.
    """
    return services.of_state(
        ("runs by source", *sources),
        lambda: _runs(checks.runs_by_source(services.state, start, end), sources),
        start,
        end,
    )


def _runs(
    known: Sequence[Mapping[str, Any]], sources: Sequence[str]
) -> dict[str, dict[datetime, list[dict[str, Any]]]]:
    found: dict[str, dict[datetime, list[dict[str, Any]]]] = {source: {} for source in sources}
    for run in known:
        hour = run["scheduled_at"].replace(minute=0, second=0, microsecond=0)
        for source in sources:
            status = (
                run["status"] if run["status"] in _UNEXECUTED else _status(run["sources"].get(source), run["status"])
            )
            if status is not None:
                one = {name: run[name] for name in ("run_id", "type", "scheduled_at")} | {"status": status}
                found[source].setdefault(hour, []).append(one)
    for hours in found.values():
        for due in hours.values():
            due.sort(key=lambda one: RUN_STATES.index(one["status"]))
    return found


def _status(results: Mapping[str, int] | None, of_run: str) -> str | None:
    if not results:
        return "error" if of_run == "error" else None
    for word, status in (("error", "error"), ("findings", "issues_detected"), ("passed", "healthy")):
        if results.get(word):
            return status
    return "unknown"


def _cell(
    row: Mapping[str, Any], at: datetime, grain: partitions.Grain, said: partition_checks.Said | None, audits: frozenset[str],
    suite: _Suite | None, bands: Any,
) -> dict[str, Any]:  # fmt: skip
    """One partition: key, from, state, rows, revision, tasks with outputs of all, their health, and ``checks``.

    ``checks``: state ``failed``, ``passed``, ``outdated`` (before the partition became another one they passed, or an
    expectation failed) or ``unchecked``; evaluated, failed: ``[{check, bad_rows}]``; checked_at, of the audits if there are
    any. ``bad_rows`` null: the whole table is wrong. Of audits only those in ``audits`` count: others were renamed or removed.
    """
    found = {name: n for name, n in said.checks.items() if name in audits} if said else {}
    failed = [{"check": name, "bad_rows": n} for name, n in sorted(found.items()) if n]
    evaluated = len(found)
    checked_at = said.checked_at if said and found else None
    is_outdated = False
    if suite is not None and suite.start <= at < suite.end and row["state"] == "closed":
        evaluated += 1
        checked_at = checked_at or suite.judged_at
        bad = suite.bad_rows(at)
        if bad != 0:
            is_outdated = _is_newer(row["computed_at"], suite.judged_at)
            failed += [] if is_outdated else [{"check": suite.check_id, "bad_rows": bad}]
    if failed:
        state = "failed"
    elif checked_at is None:
        state = "unchecked"
    elif is_outdated or _is_newer(row["computed_at"], checked_at):
        state = "outdated"
    else:
        state = "passed"
    total, done = row["total"], row["done"]
    return {
        "partition": hour_key(at) if grain == "hour" else day_key(at.date()), "from": at, "state": row["state"],
        "rows": row["rows"], "revision": row["revision"], "tasks_with_outputs": done, "success_tasks": total,
        "completion_health": health_of(done, total, bands) if total and row["state"] == "closed" else None,
        "checks": {"state": state, "evaluated": evaluated, "failed": failed, "checked_at": checked_at},
    }  # fmt: skip


def _is_newer(computed: datetime | None, judged: datetime) -> bool:
    return computed is not None and computed > judged


class _Suite:
    """The newest answer of an expectation suite over hourly statistics of one source."""

    def __init__(self, known: checks.Believed) -> None:
        outcome = known.outcome
        assert known.started_at is not None  # it was executed
        self.check_id, self.judged_at = outcome.check_id, known.started_at
        self.start, self.end = outcome.window_from or datetime.max, outcome.window_to or datetime.min
        self._failed = [one for one in (outcome.expectation or {}).get("expectations", ()) if not one["success"]]

    def bad_rows(self, at: datetime) -> int | None:
        """Rows of the hour that break an expectation, at least; None: what is wrong is no single row."""
        if any(not one.get("hours") for one in self._failed):
            return None
        return max((one["hours"].get(str(at)[:13], 0) for one in self._failed), default=0)


def _expectations(services: Services, sources: Sequence[str]) -> dict[tuple[str, str], _Suite]:
    return {(source, table): _Suite(known) for source, table, known in _believed(services, sources)}


def _believed(services: Services, sources: Sequence[str]) -> Iterator[tuple[str, str, checks.Believed]]:
    for suite in SUITES.values():
        for source in sources if "stat_hour" in suite.index else ():
            known = checks.believed(services.state, f"{PREFIX}{suite.id}", source, answers_only=True)
            if known is not None and known.outcome.expectation is not None:  # else there were no rows to judge
                yield source, suite.table, known

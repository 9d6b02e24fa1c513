"""Alerts of checks: one alert per problem, fed by quick, full, deep and the tick (A-001, A-002, A-202).

What belongs here: which results are still bad and what the alert therefore is. What does not: running checks
(``quality``), rules (``lifecycle``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, select

from monitoring_pipelines.alerts.book import Book, Row, chunks
from monitoring_pipelines.alerts.configured import NOT_CONFIGURED
from monitoring_pipelines.alerts.lifecycle import runbook_of
from monitoring_pipelines.alerts.model import fingerprint
from monitoring_pipelines.severity import rank
from monitoring_pipelines.state import tables
from monitoring_pipelines.state.store import upsert

if TYPE_CHECKING:
    from monitoring_pipelines.alerts.configured import ConfiguredChecks
    from monitoring_pipelines.alerts.model import Observation
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.quality.model import CheckOutcome, CheckRun, Finding

#: Runs of these types speak for alerts; reports do not.
CONTRIBUTORS = ("quick", "full", "deep")
TICK = "tick"
#: Types whose evaluation at every tick is one more contribution to the alert of the check (A-002, C-107).
TICK_TYPES = ("output_flow",)
#: Raised when a check or a source could not be examined (C-025, C-026).
MONITORING_ERROR = "monitoring_error"


@dataclass
class Contribution:
    """The newest result of one contributor for one alert."""

    fingerprint: str
    contributor: str
    is_bad: bool
    severity: str | None
    run_id: str | None
    at: datetime
    finding: dict[str, Any]


class Contributions:
    """Stored contributions; changes are collected until ``write``.

    Args:
        con: A transaction of the state store.
        only: Fingerprints to load; default all, which taking in a run needs.
    """

    def __init__(self, con: Connection, only: Iterable[str] | None = None) -> None:
        self._known: dict[tuple[str, str], Contribution] = {}
        query = select(tables.alert_contribution)
        if only is not None:
            query = query.where(tables.alert_contribution.c.fingerprint.in_(list(only)))
        for row in con.execute(query):
            self._known[row.fingerprint, row.contributor] = Contribution(*row)
        self._changed: set[tuple[str, str]] = set()
        #: Fingerprints with a new result → runs that found the problem.
        self._touched: dict[str, int] = {}
        #: Of those, the ones that were seen bad now.
        self._seen: set[str] = set()
        #: And those that lost a result because its check or source is gone.
        self._gone: set[str] = set()

    def take(self, run: CheckRun, at: datetime) -> None:
        """Take in one executed run; skipped, missed and reporting ones say nothing."""
        if run.type not in CONTRIBUTORS or run.status in ("skipped", "missed", "running"):
            return
        seen = {outcome.source_id for outcome in run.outcomes if outcome.status != "error"}
        ran = {(outcome.source_id, outcome.check_id) for outcome in run.outcomes}
        for outcome in run.outcomes:
            self._outcome(run, outcome, at)
        for known in self._of(run.type):  # the source can be read again
            source = known.finding["source_id"]
            was_blind = known.is_bad and known.finding["alert_type"] == MONITORING_ERROR and source in seen
            if was_blind and (source, known.finding["check_id"]) not in ran:
                self._put(known, is_bad=False, run_id=run.run_id, at=at)

    def retire(self, configured: ConfiguredChecks, at: datetime) -> None:
        """Let go of results whose check or source was taken out of the configuration: no run will replace them."""
        for known in list(self._known.values()):
            finding = known.finding
            if known.is_bad and not configured.has(finding["source_id"], finding["check_id"], known.contributor):
                self._put(known, is_bad=False, run_id=known.run_id, at=at)
                self._gone.add(known.fingerprint)

    def take_tick(self, seen: Observation, at: datetime) -> None:
        """Take in an evaluation of a type in ``TICK_TYPES``."""
        if seen.condition not in ("true", "false"):
            return
        key = (seen.fingerprint, TICK)
        known = self._known.get(key)
        if seen.condition == "false":
            if known is not None and known.is_bad:
                self._put(known, is_bad=False, run_id=None, at=at)
            return
        finding = {
            "source_id": seen.source_id, "check_id": seen.type, "alert_type": seen.type, "labels": dict(seen.labels),
            "message": seen.message, "details": seen.details, "task_ids": list(seen.task_ids[:10]),
        }  # fmt: skip
        if known is None or not known.is_bad or (known.severity, known.finding) != (seen.severity, finding):
            self._known[key] = Contribution(*key, True, seen.severity, None, at, finding)
            self._changed.add(key)
        self._touch(seen.fingerprint, seen=True)

    def _outcome(self, run: CheckRun, outcome: CheckOutcome, at: datetime) -> None:
        bad = {_fingerprint(found): found for found in outcome.findings}
        for print_, found in bad.items():
            key = (print_, run.type)
            self._known[key] = Contribution(*key, True, found.severity, run.run_id, at, _stored(found))
            self._changed.add(key)
            self._touch(print_, runs=1, seen=True)
        if outcome.status not in ("passed", "findings", "error") and not _is_empty(outcome):
            return  # no answer: what was bad stays bad
        for known in self._of(run.type):
            same = (known.finding["source_id"], known.finding["check_id"]) == (outcome.source_id, outcome.check_id)
            if not same or not known.is_bad or known.fingerprint in bad:
                continue
            if outcome.status == "error" and known.finding["alert_type"] != MONITORING_ERROR:
                continue
            self._put(known, is_bad=False, run_id=run.run_id, at=at)

    def _of(self, contributor: str) -> list[Contribution]:
        return [known for key, known in self._known.items() if key[1] == contributor]

    def _put(self, known: Contribution, *, is_bad: bool, run_id: str | None, at: datetime) -> None:
        known.is_bad, known.run_id, known.at = is_bad, run_id, at
        self._changed.add((known.fingerprint, known.contributor))
        self._touch(known.fingerprint)

    def _touch(self, print_: str, runs: int = 0, seen: bool = False) -> None:
        self._touched[print_] = self._touched.get(print_, 0) + runs
        if seen:
            self._seen.add(print_)

    def apply(self, book: Book, settings: Settings) -> None:
        """Bring the alerts of all touched fingerprints up to date."""
        bad: dict[str, list[Contribution]] = defaultdict(list)
        for known in self._known.values():
            if known.is_bad:
                bad[known.fingerprint].append(known)
        for print_, runs in self._touched.items():
            alert = book.find(print_)
            if bad[print_]:
                worst = max(bad[print_], key=_speaks)
                _raise(book, alert, worst, runs, settings, print_ in self._seen)
            elif alert is not None:
                book.resolve(alert, NOT_CONFIGURED if print_ in self._gone else None)

    def write(self, con: Connection) -> None:
        """Write what changed; the results of alerts that are over are not kept."""
        alive = {known.fingerprint for known in self._known.values() if known.is_bad}
        over = [print_ for print_ in self._touched if print_ not in alive]
        for part in chunks(over):
            con.execute(delete(tables.alert_contribution).where(tables.alert_contribution.c.fingerprint.in_(part)))
        rows = [vars(self._known[key]) for key in sorted(self._changed) if key[0] in alive]
        upsert(con, tables.alert_contribution, rows)


def _speaks(one: Contribution) -> tuple[int, datetime, int]:
    """Of the gravest results the newest gives the alert its message, and of one instant's that of the widest window (A-002)."""
    widths = (TICK, *CONTRIBUTORS)
    return rank(one.severity or "info"), one.at, widths.index(one.contributor)


def bad_contributions(con: Connection, fingerprints: Iterable[str]) -> dict[str, list[Row]]:
    """What carries each alert (A-309): its bad contributions by fingerprint, worst first."""
    done: dict[str, list[Row]] = defaultdict(list)
    table = tables.alert_contribution
    for part in chunks(sorted(set(fingerprints))):
        query = select(table).where(table.c.fingerprint.in_(part), table.c.is_bad)
        for row in con.execute(query).mappings():
            done[row["fingerprint"]].append(dict(row))
    for rows in done.values():
        rows.sort(key=lambda row: (-rank(row["severity"] or "info"), row["contributor"]))
    return done


def _raise(book: Book, alert: Row | None, worst: Contribution, runs: int, settings: Settings, seen: bool) -> None:
    finding = worst.finding
    severity = worst.severity or "info"
    subject = MONITORING_ERROR if finding["alert_type"] == MONITORING_ERROR else finding["check_id"]
    news = {
        "message": finding["message"],
        "details": finding["details"] or None,
        "task_ids": finding["task_ids"] or None,
    }
    if alert is None:
        alert = book.open({
            "fingerprint": worst.fingerprint, "type": finding["alert_type"],
            "alertname": _alertname(settings, finding), "source_id": finding["source_id"],
            "labels": finding["labels"], "service": finding["labels"].get("service"), "severity": severity,
            "severity_label": severity, "occurrences": max(runs, 1), "runbook_url": runbook_of(settings, subject), **news,
        })  # fmt: skip
        book.fire(alert)
        return
    if seen:
        book.set(alert, last_seen_at=book.now)
    book.set(alert, occurrences=alert["occurrences"] + runs, **news)
    book.rate(alert, severity, severity)


def _alertname(settings: Settings, finding: dict[str, Any]) -> str:
    own = (rule.alertname for rule in settings.rules if rule.id == finding["check_id"] and rule.alertname)
    return next(own, finding["alert_type"])


def _is_empty(outcome: CheckOutcome) -> bool:
    """Whether a window held no task to judge: then it holds no loss either (C-002), and a repaired night can end."""
    return outcome.status == "insufficient_data" and outcome.metrics.get("success_tasks") == 0


def _fingerprint(found: Finding) -> str:
    return fingerprint(found.alert_type, found.source_id, found.labels)


def _stored(found: Finding) -> dict[str, Any]:
    return {
        "source_id": found.source_id, "check_id": found.check_id, "alert_type": found.alert_type,
        "labels": dict(found.labels), "message": found.message, "details": found.details,
        "task_ids": list(found.task_ids[:10]),
    }  # fmt: skip

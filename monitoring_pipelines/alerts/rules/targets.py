"""Targets: scraped pages and health pages (C-421, C-422, C-440, C-480).

What belongs here: conditions on probe results and the stored health of each target. What does not: asking targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from monitoring_pipelines.alerts.model import Condition
from monitoring_pipelines.alerts.rules.scope import Expected, Scope
from monitoring_pipelines.collect.health import TargetHealth

if TYPE_CHECKING:
    import duckdb

LOOK_BACK = timedelta(hours=1)
KEPT = 12
KIND = "target"
#: Kind of probe → the rule that judges it.
RULES = {"scrape": "target.down", "http": "target.health_down"}
_SQL = f"""
SELECT source_id, target, kind, "at", up, http_status FROM raw.probe_result
WHERE "at" > $since AND "at" <= $now AND target IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY source_id, target, kind ORDER BY "at" DESC) <= {KEPT}
"""


@dataclass(frozen=True)
class Probe:
    """One result: whether the target answered, and with which status."""

    at: datetime
    up: bool
    status: int | None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the probe was good: answered, and 2xx where a status is known (C-422)."""
        return self.up and (self.status is None or 200 <= self.status < 300)

    def reason(self, scope: Scope) -> str:
        """What was wrong."""
        if self.status is None or (200 <= self.status < 300 and self.error):
            return self.error or scope.word("no answer", "没有应答")
        return f"HTTP {self.status}"


@dataclass
class Targets:
    """Probe results of the last hour by (source, target, kind)."""

    probes: dict[tuple[str, str, str], dict[datetime, Probe]] = field(default_factory=dict)

    def recall(self, con: Connection, scope: Scope) -> None:
        """Nothing beyond the collected samples in the scope."""

    def look(self, con: duckdb.DuckDBPyConnection, scope: Scope) -> None:
        """Results that extraction has stored."""
        for source_id, target, kind, at, up, status in con.execute(
            _SQL, {"since": scope.now - LOOK_BACK, "now": scope.now}
        ).fetchall():
            self._add(source_id, target, kind, Probe(at, bool(up), status))

    def judge(self, scope: Scope) -> None:
        """Every target that was ever seen and is not retired."""
        for sample in scope.samples:
            if sample.entity == "probe_result" and sample.at <= scope.now:
                values = sample.values
                probe = Probe(sample.at, bool(values["up"]), values.get("http_status"), values.get("error"))
                self._add(sample.source_id, values["target"], values["kind"], probe)
        for (source_id, target, kind), by_time in sorted(self.probes.items()):
            expected = scope.expect(source_id, KIND, target, min(by_time))
            if kind not in expected.state:
                expected.set(**{kind: TargetHealth().as_json()})
        for expected in scope.of_kind(KIND):
            for kind in RULES:
                if kind in expected.state:
                    probes = self.probes.get((expected.source_id, expected.name, kind), {})
                    _judge(scope, expected, kind, [probes[at] for at in sorted(probes)][-KEPT:])

    def _add(self, source_id: str, target: str, kind: str, probe: Probe) -> None:
        if kind in RULES:
            self.probes.setdefault((source_id, target, kind), {})[probe.at] = probe


def _judge(scope: Scope, expected: Expected, kind: str, probes: Sequence[Probe]) -> None:
    """Step the health by new probes and answer for each of them; then for the absence of probes."""
    rule_id, labels = RULES[kind], {"target": expected.name}
    service = scope.service_of(expected.source_id, expected.name)
    health = TargetHealth.from_json(expected.state[kind])
    newest = probes[-1].at if probes else health.at or expected.last_seen_at
    if expected.retired_at is not None and expected.retired_at >= newest:
        return
    until, works = scope.view(expected.source_id, expected.name)
    interval_s = scope.interval_s(expected.source_id, expected.name, [probe.at for probe in probes])
    fresh = [probe for probe in probes if health.at is None or probe.at > health.at]
    for probe in fresh:
        health = health.at_instant(probe.at, interval_s).after(probe.at, probe.ok, scope.settings.health)
        expected.seen(probe.at)
    if works:
        health = health.at_instant(until, interval_s)
    expected.set(**{kind: _jsonable(health), "interval_s": interval_s})

    def say(condition: Condition, value: float | None = None, **details: Any) -> None:
        details = {**details, "health": health.state} if condition == "true" else {}
        scope.say(rule_id, expected.source_id, labels, condition, value=value, details=details, service=service)

    for probe in fresh[:-1]:
        if probe.ok != fresh[-1].ok:
            say("false" if probe.ok else "true", float(probe.ok), reason=probe.reason(scope))
    missing = (until - newest).total_seconds() > 2 * interval_s
    if not works:
        say("insufficient_data")
    elif missing:
        since = f"{newest:%Y-%m-%d %H:%M:%S} UTC"
        reason = scope.word(f"no sample since {since}", f"自 {since} 起没有样本")
        say("true", 0.0, reason=reason, samples=_tail(probes))
    elif probes:
        last = probes[-1]
        say("false" if last.ok else "true", float(last.ok), reason=last.reason(scope), samples=_tail(probes))
    else:
        say("insufficient_data")


def _jsonable(health: TargetHealth) -> dict[str, Any]:
    return {name: _text(value) if isinstance(value, datetime) else value for name, value in health.as_json().items()}


def _text(instant: datetime) -> str:
    return instant.isoformat() + "Z"


def _tail(probes: Sequence[Probe]) -> list[dict[str, Any]]:
    return [{"at": probe.at, "up": probe.up, "http_status": probe.status} for probe in probes[-10:]]

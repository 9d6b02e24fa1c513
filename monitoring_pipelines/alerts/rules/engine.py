"""One evaluation of all rules: a read of the state store, one short look at the warehouse, then judging.

What belongs here: the order of an evaluation and what one failing family may stop. What does not: conditions.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, or_, select

from monitoring_pipelines.alerts.configured import NOT_CONFIGURED
from monitoring_pipelines.alerts.model import Observation
from monitoring_pipelines.alerts.recovery import EXHAUSTED
from monitoring_pipelines.alerts.rules import scope as scopes
from monitoring_pipelines.alerts.rules.configured import Configured
from monitoring_pipelines.alerts.rules.ingest import LOOK_BACK, Ingest
from monitoring_pipelines.alerts.rules.jobs import Jobs
from monitoring_pipelines.alerts.rules.notifications import Notifications
from monitoring_pipelines.alerts.rules.own import Own, judge_heartbeats
from monitoring_pipelines.alerts.rules.own_results import OwnResults
from monitoring_pipelines.alerts.rules.resource import LOOK_BACK as LONGEST_LOOK_BACK
from monitoring_pipelines.alerts.rules.resource import Resources
from monitoring_pipelines.alerts.rules.scope import Family, Scope
from monitoring_pipelines.alerts.rules.table import in_force
from monitoring_pipelines.alerts.rules.targets import Targets
from monitoring_pipelines.alerts.rules.tasks import Flow, Tasks
from monitoring_pipelines.alerts.rules.trend import SAMPLES
from monitoring_pipelines.collect.own import SELF
from monitoring_pipelines.compensation import notices
from monitoring_pipelines.errors import WarehouseBusy
from monitoring_pipelines.lean import without_pandas
from monitoring_pipelines.quality.registry import MONITORING_ERROR, checks
from monitoring_pipelines.state import collected
from monitoring_pipelines.state.tables import alert, alert_contribution, threshold
from monitoring_pipelines.warehouse.connect import WarehouseMissing

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings
    from monitoring_pipelines.pipeline import Pipeline
    from monitoring_pipelines.state import StateStore

#: Longest wait for the warehouse, seconds; a tick that does not get it judges what needs no warehouse.
WAREHOUSE_WAIT_S = 10.0
_FAMILIES: tuple[Callable[[], Family], ...] = (
    Own, OwnResults, Targets, Resources, Ingest, Tasks, Flow, Jobs, Notifications, Configured,
)  # fmt: skip


@without_pandas()
def evaluate(pipe: Pipeline, state: StateStore, now: datetime) -> list[Observation]:
    """What every rule says of each of its scopes at ``now``.

    Several observations of one fingerprint are in the order of their samples (C-451). A scope without an observation
    is unchanged: nothing is known about it this time.

    Args:
        pipe: Configuration and warehouse.
        state: Expectations, heartbeats and collected samples; what was seen is stored there.
        now: Naive UTC instant of the evaluation.

    Raises:
        ProductError: The state store or the warehouse cannot be used (a busy warehouse is waited for and left out).
    """
    families = [(make.__name__, make()) for make in _FAMILIES]
    failed: dict[str, str] = {}
    with state.read() as con:
        scope = Scope(pipe.settings, now, in_force(pipe.settings, _task_thresholds(con)))
        scopes.recall(con, scope)
        for name, family in families:
            _guarded(name, failed, family.recall, con, scope)
    scope.samples = _recent(state, now - _look_back(scope))
    try:
        with pipe.warehouse.reader("rules", WAREHOUSE_WAIT_S) as warehouse:
            scopes.look(warehouse, scope)
            for name, family in families:
                _guarded(name, failed, family.look, warehouse, scope)
    except (WarehouseMissing, WarehouseBusy) as error:
        pipe.log.info("rules without the warehouse: %s", error.message)
    for name, family in families:
        if name not in failed:
            _guarded(name, failed, family.judge, scope)
    _judge_families(scope, [name for name, _ in families], failed)
    _retire_removed(scope)
    with state.begin() as con:
        _withdraw(con, scope)
        scopes.remember(con, [one for one in scope.expected.values() if one.changed])
    for name, text in failed.items():
        pipe.log.error("rules of %s: %s", name, text)
    return scope.observations


def heartbeats(settings: Settings, state: StateStore, now: datetime) -> list[Observation]:
    """Observations of ``self.heartbeat`` alone, for a process that watches the others (C-501)."""
    with state.read() as con:
        scope = Scope(settings, now, in_force(settings))
        scopes.recall(con, scope)
    judge_heartbeats(scope)
    return scope.observations


#: What was read before, by state store: a tick reads only what is new. Nothing but time depends on it.
_known: dict[str, collected.Recent] = {}


def _recent(state: StateStore, start: datetime) -> list[collected.Sample]:
    return _known.setdefault(str(state.url), collected.Recent()).read(state, start)


def _look_back(scope: Scope) -> timedelta:
    """How far back collected samples are read: a rate's window, and a trend's samples at the slowest interval."""
    slowest = max((interval_s for interval_s, _ in scope.collected_names.values()), default=0.0)
    return min(max(LOOK_BACK, timedelta(seconds=slowest * (SAMPLES + 2))), LONGEST_LOOK_BACK)


def _task_thresholds(con: Connection) -> dict[str, Any]:
    return {row.name: row.value for row in con.execute(select(threshold.c.name, threshold.c.value))}


def _guarded(name: str, failed: dict[str, str], step: Callable[..., None], *arguments: Any) -> None:
    """Run a step of a family; what goes wrong in it is told by ``self.check_error`` and stops only this family."""
    try:
        step(*arguments)
    except Exception as error:  # noqa: BLE001 - one broken family must not silence the others (C-026)
        failed.setdefault(name, f"{type(error).__name__}: {error}")


def _judge_families(scope: Scope, names: list[str], failed: dict[str, str]) -> None:
    """C-507 for the rules themselves."""
    scope.say("self.check_error", SELF, {"check": "rules"}, "false")  # said by the alert engine when nothing works
    for name in names:
        labels = {"check": f"rules.{name.lower()}"}
        details = {"reason": failed[name]} if name in failed else None
        scope.say("self.check_error", SELF, labels, "true" if details else "false", details=details)


def _retire_removed(scope: Scope) -> None:
    """What was collected and is configured no more is not expected any longer; tables of a source are no configuration."""
    mapped = {source.id for source in scope.settings.sources}
    for one in scope.expected.values():
        name = one.state.get("process", one.name)
        if (
            one.retired_at is None
            and one.source_id not in {SELF, *mapped}
            and not scope.is_collected(one.source_id, name)
        ):
            one.retired_at, one.changed = scope.now, True


def _withdraw(con: Connection, scope: Scope) -> None:
    """Answer false for open alerts whose scope has ended: rule switched off or removed, source removed, subject retired.

    What checks carry is not looked at: their results say when it is over (``alerts.contributions``).
    """
    sources = {SELF, *(s.id for s in scope.settings.enabled_sources), *(key[0] for key in scope.collected_names)}
    result = alert_contribution
    open_alerts = select(alert.c.type, alert.c.source_id, alert.c.labels, alert.c.service, alert.c.fingerprint).where(
        alert.c.open_fingerprint.is_not(None), alert.c.is_drill.is_(False), alert.c.type != EXHAUSTED,
        or_(
            alert.c.type.in_(tuple(scope.rules)),
            ~select(result.c.fingerprint).where(result.c.fingerprint == alert.c.fingerprint).exists(),
        ),
    )  # fmt: skip
    rows = con.execute(open_alerts).all()
    types = {row.type for row in rows}
    known = {*scope.rules, *notices.TYPES, MONITORING_ERROR, *(check.alert_type for check in checks().values())}
    said = {one.fingerprint for one in scope.observations if one.type in types}
    for row in rows:
        if row.fingerprint in said:
            continue
        removed = row.source_id not in sources or row.type not in known
        if removed or _is_over(scope, row):
            reason = NOT_CONFIGURED if removed or not _is_on(scope, row.type) else None
            ended = Observation(
                row.type, row.source_id, "false", "info", "info", row.type, "ended", row.labels, row.service, ended=reason,
            )  # fmt: skip
            scope.observations.append(ended)


def _is_on(scope: Scope, rule_id: str) -> bool:
    return rule_id not in scope.rules or scope.rules[rule_id].enabled


def _is_over(scope: Scope, row: Any) -> bool:
    """Whether a rule that exists says nothing more of the scope of an open alert."""
    if row.type not in scope.rules:
        return False  # repair's own, which says every time how it is
    if row.type == "self.config" and row.labels.get("check", "").startswith("route."):
        return False  # the alert engine's own
    configured = {channel.id.upper() for channel in scope.settings.channels}
    unused = row.source_id == SELF and "channel" in row.labels and row.labels["channel"] not in configured
    if unused or not _is_on(scope, row.type) or _is_retired(scope, row.source_id, row.labels):
        return True
    return row.type in scope.complete and not _is_unread(scope, row.source_id)


def _is_retired(scope: Scope, source_id: str, labels: dict[str, str]) -> bool:
    """Whether the target, process or series of an alert was retired and has not come back (C-440)."""
    names = [("target", labels.get("target")), ("process", labels.get("process"))]
    if "series" in labels:
        names = [("series", f"{labels.get('process')}/{labels['series']}")]
    found = [scope.expected.get((source_id, kind, name)) for kind, name in names if name]
    known = [one for one in found if one is not None]
    if not known and "process" in labels:
        prefix = f"{labels['process']}/"
        known = [one for one in scope.of_kind("series") if one.source_id == source_id and one.name.startswith(prefix)]
    return bool(known) and all(one.retired_at is not None for one in known)


def _is_unread(scope: Scope, source_id: str) -> bool:
    """Whether a mapped source is not read at present, so that nothing is known of its scopes."""
    seen = scope.sources.get(source_id)
    return seen is not None and scope.is_late(seen)

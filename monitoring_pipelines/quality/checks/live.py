"""Rules of the alert tick shown as checks (C-311 to C-350).

What belongs here: asking the rules for one source and answering in the shape of checks. What does not: the conditions,
their thresholds and texts (``alerts.rules``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.alerts.rules import jobs, scope, tasks
from monitoring_pipelines.alerts.rules.notifications import RULES as NOTIFY
from monitoring_pipelines.alerts.rules.notifications import Notifications
from monitoring_pipelines.alerts.rules.table import in_force
from monitoring_pipelines.lean import without_pandas

if TYPE_CHECKING:
    from monitoring_pipelines.alerts.model import Observation
    from monitoring_pipelines.quality.context import CheckContext
    from monitoring_pipelines.quality.model import CheckOutcome, CheckStatus

#: Rules that are asked at once; what one of them cannot read is no error of the others (C-026).
_GROUPS: tuple[tuple[Callable[[], scope.Family], tuple[str, ...]], ...] = (
    *((tasks.Tasks, group) for group in tasks.READ_TOGETHER), (jobs.Jobs, jobs.RULES), (Notifications, NOTIFY),
)  # fmt: skip


def observed(ctx: CheckContext) -> CheckOutcome:
    """What the rule with the check's id says of the source now: one finding per scope in which it holds."""
    rule = in_force(ctx.settings, ctx.thresholds.model_dump())[ctx.check.id]
    if not rule.enabled:
        return ctx.outcome("not_applicable", message="the rule is switched off")
    said = [one for one in _observations(ctx) if one.type == rule.id and one.source_id == ctx.source_id]
    findings = [
        ctx.finding(one.severity, one.message, _figures(one), one.task_ids, one.labels)
        for one in said
        if one.condition == "true"
    ]
    single = said[0] if len(said) == 1 and not said[0].labels else None
    metrics = _figures(single) if single else {"judged": len(said), "holding": len(findings)}
    silent = None if said else "there is nothing to judge, or the source is not being read"
    return ctx.outcome(_status(said), findings, metrics=metrics, message=silent)


def _observations(ctx: CheckContext) -> list[Observation]:
    """All observations of the check's group; the checks of one source in one run share them."""
    make, group = next((make, group) for make, group in _GROUPS if ctx.check.id in group)
    if group not in ctx.memo:
        known = in_force(ctx.settings, ctx.thresholds.model_dump())
        rules = {name: rule if name in group else replace(rule, enabled=False) for name, rule in known.items()}
        asked, family = scope.Scope(ctx.settings, ctx.now, rules), make()
        if ctx.state is not None:
            with ctx.state.read() as con:
                family.recall(con, asked)
        with without_pandas():
            scope.look(ctx.session.con, asked)
            family.look(ctx.session.con, asked)
        family.judge(asked)
        ctx.memo[group] = asked.observations
    return ctx.memo[group]


def _status(said: Sequence[Observation]) -> CheckStatus:
    conditions = {one.condition for one in said}
    if "true" in conditions:
        return "findings"
    if "false" in conditions:
        return "passed"
    return "not_applicable" if conditions == {"not_applicable"} else "insufficient_data"


def _figures(one: Observation) -> dict[str, Any]:
    return {"value": one.value, "threshold": one.threshold, **one.details}

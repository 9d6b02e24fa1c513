"""``mp rules backtest``: what a rule would have done.

What belongs here: options and wording. What does not: replaying (``quality.backtest``).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from monitoring_pipelines.cli.context import Ctx, Whole
from monitoring_pipelines.cli.output import table
from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.readable import sentence

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema_alerts import RuleSettings

_SHOWN = 20


def rules(
    action: Literal["backtest"],
    rule: str,
    /,
    *,
    ctx: Ctx,
    days: Whole = 30,
    metric: str | None = None,
    op: Literal[">", ">=", "<", "<=", "=", "!="] | None = None,
    threshold: float | None = None,
    window: Whole = 1,
    for_: Annotated[str | None, Parameter(name="--for")] = None,
    severity: str = "medium",
    filter_: Annotated[list[str] | None, Parameter(name="--filter", negative="")] = None,
    absent: Literal["ignore", "fire"] = "ignore",
) -> int:
    """Replay a rule over the published statistics: when it would have fired, how long, how often.

    Args:
        ctx: Global options.
        action: backtest.
        rule: A configured rule, a shipped endpoint rule, or any name together with --metric: a rule not saved yet.
        days: How far back.
        metric: table.column of the statistics.
        op: Comparison of a new rule.
        threshold: Its threshold.
        window: Closed buckets it looks at.
        for_: How long it must hold: 300 or 5m.
        severity: Its severity.
        filter_: Scope, e.g. endpoint=flux; may be repeated.
        absent: Whether a missing row counts as true.
    """
    from monitoring_pipelines.quality.backtest import MOST_DAYS, backtest, candidate
    from monitoring_pipelines.warehouse.lake import Lake

    if not 1 <= days <= MOST_DAYS:
        raise UsageError(f"--days must be from 1 to {MOST_DAYS}")
    given = None
    if metric is not None:
        given = _new_rule({
            "id": rule, "metric": metric, "op": op, "threshold": threshold, "window": window, "for": for_,
            "severity": severity, "absent": absent, "filter": _filters(filter_ or []),
        })  # fmt: skip
    wanted = candidate(ctx.settings, rule, given)
    now = ctx.clock.now()
    found = backtest(Lake(ctx.settings.lake_path), wanted, now - timedelta(days=days), now)
    ctx.emit(found, lambda: _text(found))
    return 0


def _new_rule(values: dict[str, Any]) -> RuleSettings:
    from pydantic import ValidationError

    from monitoring_pipelines.config.schema_alerts import RuleSettings

    try:
        return RuleSettings.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{place}: {first['msg']}" if place else str(first["msg"])) from None


def _filters(given: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--filter: not NAME=VALUE: {text!r}")
        found.setdefault(name, []).append(value)
    return found


def _text(found: dict[str, Any]) -> str:
    levels = ", ".join(f"{found['op']} {level['threshold']:g} {level['severity']}" for level in found["levels"])
    counts = sentence(
        "{subjects} subjects: fired {firings} times for {subjects_fired} subjects",
        **{name: found[name] for name in ("subjects", "firings", "subjects_fired")},
    )
    lines = [
        f"{found['rule']}: {found['metric']} over {found['window']} buckets, {levels}, for {found['for_s']:g} s",
        (
            f"{found['from']:%Y-%m-%d %H:%M} to {found['to']:%Y-%m-%d %H:%M} UTC, {counts}, "
            f"{found['firing_s'] / 3600:.1f} h in all, longest {found['longest_s'] / 60:.0f} min, {found['still_firing']} still firing"
        ),
    ]
    rows = [
        [one["source_id"], " ".join(one["labels"].values()), one["severity"], one["from"], one["to"], one["worst"]]
        for one in found["list"][:_SHOWN]
    ]
    if rows:
        lines += ["", table(["source", "subject", "severity", "from", "to", "worst"], rows)]
    if found["firings"] > _SHOWN:
        lines.append(f"… {found['firings'] - _SHOWN} more; --json lists up to 200")
    return "\n".join(lines)

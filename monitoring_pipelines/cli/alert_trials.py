"""``mp test-alert`` and ``mp route test``: does a message reach anybody, and whom (A-504, S-606).

What belongs here: arguments and output. What does not: sending (``alerts.testing``), routing (``alerts.routing``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from cyclopts import App

from monitoring_pipelines.cli.alerts import actor
from monitoring_pipelines.cli.context import Ctx
from monitoring_pipelines.cli.output import table
from monitoring_pipelines.errors import UsageError

if TYPE_CHECKING:
    from monitoring_pipelines.alerts.rules.table import Rule

route = App(name="route", help="Who hears of what.", help_format="plaintext")
Severity = Literal["info", "low", "medium", "high", "critical"]


def send_test(
    *,
    channel: str | None = None,
    drill: str | None = None,
    lasts_s: float = 120.0,
    level: Severity | None = None,
    message: str | None = None,
    ctx: Ctx,
) -> int:
    """Send a test message through the real path, or run a rule's whole life cycle as an exercise.

    Exit code 1 if a message was not delivered.

    Args:
        channel: Only this channel.
        drill: Rule whose alert fires, is told, and resolves, with the label drill=true.
        lasts_s: How long the exercise lasts, seconds.
        level: Severity shown.
        message: Text of the message.
        ctx: Global options.
    """
    from monitoring_pipelines.alerts.drills import start_drill
    from monitoring_pipelines.alerts.testing import send_test as send
    from monitoring_pipelines.state import StateStore

    store = StateStore.of(ctx.settings)
    if drill is not None:
        if channel is not None:
            raise UsageError("--channel and --drill exclude each other: an exercise takes the rule's own route")
        if lasts_s <= 0:
            raise UsageError("--lasts-s must be above 0")
        severity = start_drill(store, drill, ctx.clock.now(), lasts_s, level, actor())
        data = {"rule": drill, "severity": severity, "lasts_s": lasts_s}
        ctx.emit(data, f"exercise of {drill} ({severity}) for {lasts_s:g} s; it fires at the next tick: mp alerts list")
        return 0
    rows = send(ctx.settings, store, ctx.clock, channel=channel, level=level or "info", message=message)
    shown = [
        (r["channel"], r["channel_type"], r["state"], r["latency_ms"], r["provider_code"], r["error"]) for r in rows
    ]
    ctx.emit({"items": rows}, table(("channel", "type", "state", "ms", "answer", "error"), shown))
    return 0 if all(row["state"] == "sent" for row in rows) else 1


@route.command(name="test")
def route_test(
    rule: str | None = None,
    *,
    severity: Severity | None = None,
    alertname: str | None = None,
    type: str | None = None,  # noqa: A002 - the option's name
    service: str | None = None,
    label: list[str] | None = None,
    ctx: Ctx,
) -> int:
    """Show which receivers an alert would reach, when, and why. Exit code 1 if nobody would hear of it.

    Args:
        rule: A rule in force: its name, type and highest severity, unless given.
        severity: Severity of the alert; needed without a rule.
        alertname: Its name.
        type: Its type; default the name.
        service: Its service.
        label: name=value; may be repeated.
        ctx: Global options.
    """
    from monitoring_pipelines.alerts.routing import explain
    from monitoring_pipelines.alerts.standing import active_silences, inhibitions, silenced_by
    from monitoring_pipelines.state import StateStore

    labels = dict(_pair(text) for text in label or [])
    if rule is not None:
        known = _rule(ctx, rule)
        severity, alertname, type = severity or known.levels[-1].severity, alertname or known.name, type or rule  # noqa: A001
    if severity is None:
        raise UsageError("whose severity?", "name a rule, or give --severity")
    alertname = alertname or "Example"
    alert: dict[str, Any] = {
        "severity": severity, "alertname": alertname, "type": type or alertname, "service": service,
        "source_id": ctx.source[0] if ctx.source else "example", "labels": labels,
    }  # fmt: skip
    found = explain(ctx.settings, alert)
    with StateStore.of(ctx.settings).read() as con:
        found["silenced_by"] = silenced_by(alert, active_silences(con, ctx.clock.now()))
    found["may_be_inhibited_by"] = [
        " ".join(f"{m.name}{m.op}{m.value}" for m in rule.source)
        for rule in inhibitions(ctx.settings)
        if rule.means(alert)
    ]
    ctx.emit(found, lambda: _text(found))
    return 0 if found["receivers"] and not found["silenced_by"] else 1


def _rule(ctx: Ctx, rule_id: str) -> Rule:
    from monitoring_pipelines.alerts.rules.table import in_force
    from monitoring_pipelines.config.suggest import did_you_mean

    rules = in_force(ctx.settings)
    if rule_id not in rules:
        raise UsageError(f"unknown rule {rule_id!r}{did_you_mean(rule_id, list(rules))}")
    return rules[rule_id]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"not a label: {text!r}", "write name=value")
    return name, value


def _text(found: dict[str, Any]) -> str:
    lines = [found["why"]]
    if found["receivers"]:
        shown = [
            (r["channel"], r["type"], r["language"], r["per_minute"], r["quiet_hours"]) for r in found["receivers"]
        ]
        lines.append(table(("receiver", "type", "language", "posts/min", "quiet hours"), shown))
        lines.append(
            f"group {found['group']}: first after {found['first_message_s']:g} s, newcomers after "
            f"{found['group_interval_s']:g} s, repeated every {found['repeat_s']:g} s"
        )
    for name in found.get("switched_off", []):
        lines.append(f"channel {name} is switched off")
    if found["silenced_by"]:
        lines.append(f"silence {found['silenced_by']} is in force: nothing would be sent now")
    for rule in found["may_be_inhibited_by"]:
        lines.append(f"held back while an alert with {rule} fires")
    return "\n".join(lines)

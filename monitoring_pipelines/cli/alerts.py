"""``mp alerts``: what is wrong, who was told, and what people do about it (S-606).

What belongs here: arguments and output. What does not: the life cycle (``alerts``).
"""

from __future__ import annotations

import getpass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from monitoring_pipelines.cli.context import Context, Ctx, Whole
from monitoring_pipelines.cli.output import table
from monitoring_pipelines.errors import UsageError

app = App(name="alerts", help="Alerts: list, show, acknowledge, silence, history.", help_format="plaintext")
Severity = Literal["info", "low", "medium", "high", "critical"]
State = Literal["pending", "firing", "inhibited", "silenced", "resolved"]


def _state(ctx: Context) -> Any:
    from monitoring_pipelines.state import StateStore

    return StateStore.of(ctx.settings)


def actor() -> str:
    """Who works at this terminal, for the history."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user may have no name
        return "cli"


@app.command(name="list")
def list_(
    *,
    state: list[State] | None = None,
    severity: list[Severity] | None = None,
    type: list[str] | None = None,  # noqa: A002 - the option's name
    all: bool = False,  # noqa: A002 - the option's name
    silences: bool = False,
    limit: Whole = 50,
    ctx: Ctx,
) -> int:
    """List open alerts, newest first. Exit code 1 if one is firing.

    Args:
        state: Only alerts in this state; may be repeated.
        severity: Only this severity; may be repeated.
        type: Only this alert type; may be repeated.
        all: Resolved ones too.
        silences: List silences instead.
        limit: Most rows shown.
        ctx: Global options.
    """
    from monitoring_pipelines.alerts.routing import unheard
    from monitoring_pipelines.state import alerts as stored

    if limit < 1:
        raise UsageError("--limit must be at least 1")
    store = _state(ctx)
    if silences:
        return _silences(ctx, store, limit, all)
    rows, total = stored.list_alerts(
        store, states=state or (), severities=severity or (), types=type or (), source_ids=ctx.source,
        open_only=None if all or state else True, page_size=limit,
    )  # fmt: skip
    deaf = [route.name for route in unheard(ctx.settings)]
    data = {"total": total, "items": rows, "routes_without_receiver": deaf}
    ctx.emit(data, lambda: _list_text(rows, total, deaf, ctx.clock.now()))
    return 1 if any(row["state"] == "firing" for row in rows) else 0


def _list_text(rows: list[dict[str, Any]], total: int, deaf: list[str], now: datetime) -> str:
    lines = [f"warning: nobody hears of route {name}: it has no receiver" for name in deaf]
    if not rows:
        return "\n".join([*lines, "no alerts"])
    shown = [
        (row["alert_id"], row["state"] + (" ack" if row["acknowledged_at"] else ""), row["severity"], row["alertname"],
         row["service"] or row["source_id"], _age(now - row["active_at"]), row["occurrences"], _short(row["message"]))
        for row in rows
    ]  # fmt: skip
    lines.append(table(("alert", "state", "severity", "name", "service/source", "age", "n", "message"), shown))
    if total > len(rows):
        lines.append(f"{total - len(rows)} more; --limit shows them")
    return "\n".join(lines)


def _silences(ctx: Context, store: Any, limit: int, everything: bool) -> int:
    from monitoring_pipelines.state import alerts as stored

    now = ctx.clock.now()
    rows, total = stored.list_silences(store, now, active=None if everything else True, page_size=limit)

    def text() -> str:
        if not rows:
            return "no silences"
        shown = [
            (row["silence_id"], " ".join(f"{m['name']}{m['op']}{m['value']}" for m in row["matchers"]),
             row["starts_at"], row["ends_at"], row["creator"], _short(row["comment"]))
            for row in rows
        ]  # fmt: skip
        return table(("silence", "matchers", "from (UTC)", "to (UTC)", "by", "comment"), shown)

    ctx.emit({"total": total, "items": rows}, text)
    return 0


@app.command
def show(alert_id: str, *, ctx: Ctx) -> int:
    """Show one alert with what carries it, its history and its messages.

    Args:
        alert_id: Id from `mp alerts list`.
        ctx: Global options.
    """
    from monitoring_pipelines.alerts.actions import NotFound
    from monitoring_pipelines.state import alerts as stored

    store = _state(ctx)
    alert = stored.find_alert(store, alert_id)
    if alert is None:
        raise NotFound(f"no alert {alert_id}", "`mp alerts list --all` shows them")
    events, messages = stored.events_of(store, alert_id), stored.notifications_of(store, alert_id)
    data = {"alert": alert, "events": events, "notifications": messages}
    ctx.emit(data, lambda: _show_text(alert, events, messages))
    return 0


def _show_text(alert: dict[str, Any], events: list[dict[str, Any]], messages: list[dict[str, Any]]) -> str:
    names = ("alert_id", "type", "alertname", "source_id", "service", "labels", "severity", "state", "message", "value",
             "threshold", "active_at", "fired_at", "last_seen_at", "resolved_at", "occurrences", "acknowledged_by",
             "acknowledged_note", "inhibited_by", "silence_id", "details", "task_ids", "runbook_url")  # fmt: skip
    lines = [f"{name:<18} {alert[name]}" for name in names if alert[name] not in (None, {}, [])]
    for one in alert["contributions"]:
        lines.append(f"carried by         {one['contributor']}: {one['severity']}, run {one['run_id'] or '-'}")
    steps = [
        (e["at"], e["kind"], e["from_state"], e["to_state"], e["severity"], e["actor"], _short(e["reason"]))
        for e in events
    ]
    lines += ["", table(("at (UTC)", "what", "from", "to", "severity", "by", "reason"), steps)]
    told = [
        (m["notification_id"], m["channel"], m["kind"], m["state"], m["reason"], m["attempts"], m["due_at"], m["sent_at"],
         _short(m["error"])) for m in messages
    ]  # fmt: skip
    if told:
        heads = ("message", "channel", "kind", "state", "reason", "tries", "due (UTC)", "sent (UTC)", "error")
        lines += ["", table(heads, told)]
    return "\n".join(lines)


@app.command
def ack(alert_id: str, *, note: str | None = None, undo: bool = False, ctx: Ctx) -> int:
    """Acknowledge a firing alert: no more repeats; its end is still told.

    Args:
        alert_id: Id from `mp alerts list`.
        note: Why, or who works on it.
        undo: Take the acknowledgement back.
        ctx: Global options.
    """
    from monitoring_pipelines.alerts import actions

    store, now = _state(ctx), ctx.clock.now()
    if undo:
        row = actions.withdraw_acknowledgement(store, alert_id, actor(), now)
    else:
        row = actions.acknowledge(store, alert_id, actor(), note, now)
    ctx.emit(row, f"{alert_id}: " + ("repeats go on" if undo else f"acknowledged by {row['acknowledged_by']}"))
    return 0


@app.command
def silence(
    matchers: Annotated[list[str], Parameter(negative="")],
    *,
    lasts: Annotated[str, Parameter(name="--for")] = "1h",
    comment: str | None = None,
    ctx: Ctx,
) -> int:
    """Send nothing about matching alerts for a while. They are stored and shown as silenced.

    Args:
        matchers: name=value, name!=value, name=~pattern or name!~pattern; all must hold. Names: type, alertname,
            source, service, severity or a label.
        lasts: How long, for example 30m, 2h, 1d.
        comment: Why.
        ctx: Global options.
    """
    from monitoring_pipelines.alerts import actions
    from monitoring_pipelines.alerts.matching import parse_matcher
    from monitoring_pipelines.config.base import parse_duration

    try:
        seconds = float(parse_duration(lasts))
    except ValueError as error:
        raise UsageError(f"--for {lasts}: {error}") from None
    now = ctx.clock.now()
    found = [parse_matcher(text).as_dict() for text in matchers]
    row = actions.create_silence(_state(ctx), found, now, now + timedelta(seconds=seconds), actor(), comment, now)
    ctx.emit(row, f"silence {row['silence_id']} until {row['ends_at'].isoformat(sep=' ')} UTC")
    return 0


@app.command
def unsilence(silence_id: str, *, ctx: Ctx) -> int:
    """End a silence now; what still fires speaks at the next tick.

    Args:
        silence_id: Id from `mp alerts list --silences`.
        ctx: Global options.
    """
    from monitoring_pipelines.alerts import actions

    row = actions.end_silence(_state(ctx), silence_id, ctx.clock.now())
    ctx.emit(row, f"silence {silence_id} has ended")
    return 0


@app.command
def history(*, hours: float = 24.0, kind: str | None = None, limit: Whole = 100, ctx: Ctx) -> int:
    """Show what happened to all alerts, newest first.

    Args:
        hours: How far back.
        kind: transition, severity, acknowledge, unacknowledge or message.
        limit: Most rows shown.
        ctx: Global options.
    """
    from monitoring_pipelines.state import alerts as stored

    if not hours > 0 or limit < 1:  # NaN is not above 0 either
        raise UsageError("--hours and --limit must be above 0")
    start = ctx.clock.now() - timedelta(hours=hours)
    rows, total = stored.list_events(_state(ctx), start=start, kind=kind, page_size=limit)
    shown = [
        (row["at"], row["alert_id"], row["kind"], row["from_state"], row["to_state"], row["severity"], row["actor"],
         _short(row["reason"])) for row in rows
    ]  # fmt: skip
    heads = ("at (UTC)", "alert", "what", "from", "to", "severity", "by", "reason")
    ctx.emit({"total": total, "items": rows}, lambda: table(heads, shown) if rows else "nothing happened")
    return 0


@app.command
def tick(*, ctx: Ctx) -> int:
    """Evaluate all rules and send what is due, once, now. The running product does this by itself.

    Args:
        ctx: Global options.
    """
    from monitoring_pipelines.alerts import engine, outbox
    from monitoring_pipelines.pipeline import Pipeline

    store = _state(ctx)
    done = engine.tick(Pipeline.of(ctx.settings, ctx.clock), store, ctx.clock.now())
    sent = outbox.dispatch(ctx.settings, store, ctx.clock)
    data = {
        "skipped": done.skipped, "runs": done.runs, "observations": done.observations, "fired": done.fired,
        "resolved": done.resolved, "sent": sent.sent, "failed": sent.failed,
    }  # fmt: skip
    ctx.emit(data, ", ".join(f"{name} {value}" for name, value in data.items()))
    return 0


def _age(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _short(text: str | None, most: int = 80) -> str | None:
    return text if text is None or len(text) <= most else text[: most - 1] + "…"

"""What a message says, from the rows as they are when it is sent (A-309, A-501).

What belongs here: collecting and ordering the facts of a message. What does not: their wording (``wording``), the bodies
receivers expect (``bodies``), sending (``channels``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select

from monitoring_pipelines.alerts import loss, wording
from monitoring_pipelines.alerts.book import Row, chunks
from monitoring_pipelines.alerts.configured import NOT_CONFIGURED
from monitoring_pipelines.alerts.contributions import bad_contributions
from monitoring_pipelines.alerts.links import dashboard_of
from monitoring_pipelines.alerts.routing import route_of
from monitoring_pipelines.alerts.rules.table import in_force
from monitoring_pipelines.said import said
from monitoring_pipelines.severity import rank
from monitoring_pipelines.state import tables

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings

#: Alerts described one by one; the others are counted.
MOST_ALERTS = 20
#: Alerts in machine-readable bodies.
MOST_IN_BODY = 200
#: Alerts about what repair can bring back.
REPAIRED = "missing_task_outputs"
_DAY = timedelta(days=1)
#: First word of the title (A-309); a rise is still firing.
TAGS = {"firing": "FIRING", "severity_up": "FIRING", "repeat": "REPEAT", "resolved": "RESOLVED", "test": "TEST",
        "digest": "DIGEST"}  # fmt: skip


@dataclass(frozen=True)
class Links:
    """Addresses of one alert; None where there is none."""

    alert: str | None = None
    dagster: str | None = None
    runbook: str | None = None


@dataclass(frozen=True)
class Message:
    """One message, ready for any channel.

    ``markdown`` and ``text`` say the same; ``alerts`` are rows of the alert table with ``links``, most severe first.
    """

    notification_id: str
    kind: str
    title: str
    text: str
    markdown: str
    severity: str
    language: str
    group_key: str
    created_at: datetime
    dashboard: str
    alerts: list[Row] = field(default_factory=list)
    truncated: int = 0

    @property
    def tag(self) -> str:
        """FIRING, REPEAT, RESOLVED, TEST or DIGEST."""
        return TAGS[self.kind]


def compose(
    con: Connection, settings: Settings, row: Row, alerts: list[Row], language: str | None, now: datetime,
    repair: Callable[[str], dict[str, Any] | None] | None = None,
) -> Message:  # fmt: skip
    """The message of a notification row as of ``now``.

    Args:
        con: For contributions and earlier occurrences.
        settings: Links, zone, language.
        row: The notification row.
        alerts: Rows of the alerts it speaks of; a digest finds its own.
        language: zh-CN or en; None: the configured one.
        now: For durations.
        repair: What repair has done about missing outputs of a source.
    """
    words = wording.words_of(language or settings.language, settings.timezone, now)
    shown = sorted(alerts, key=lambda one: (-rank(one["severity"]), one["active_at"], one["alert_id"]))[:MOST_IN_BODY]
    base = dashboard_of(settings)
    if row["kind"] == "test":
        return _test(row, words, base)
    if row["kind"] == "digest":
        return _digest(con, row, words, base)
    told = shown[:MOST_ALERTS]
    carriers = bad_contributions(con, [one["fingerprint"] for one in told])
    often = _occurrences(con, told, now - _DAY)
    flaps = _occurrences(con, told, now - timedelta(seconds=settings.alerts.flapping.window_s))
    rules = in_force(settings)
    run_links = _run_links(con, settings, carriers)
    removed = _removed(con, told) if row["kind"] == "resolved" else set()
    for one in shown:
        one["message"] = one["message"] and said(one["message"], words.language)
        one["is_removed"] = one["alert_id"] in removed
        one["links"] = links_of(settings, one, run_links.get(one["fingerprint"]))
        is_repaired = repair is not None and one["type"] == REPAIRED and row["kind"] != "resolved"
        one["unit"] = rules[one["type"]].unit if one["type"] in rules else ""
        one["more"] = loss.facts(one, words, settings.checks.bands)
        one["said"] = loss.SAID if any(text for _, text in one["more"][:1]) else frozenset()
        one["more"] += _flapping(settings, one, flaps.get(one["fingerprint"], 1), words)
        one["repair"] = repair(one["source_id"]) if repair is not None and is_repaired else None
    parts = [
        words.alert(one, row["kind"], carriers.get(one["fingerprint"], []), often.get(one["fingerprint"], 1))
        for one in told
    ]
    title = words.title(TAGS[row["kind"]], shown, len(alerts))
    more = len(alerts) - len(told)
    if more > 0:
        parts.append(words.more(more, f"{base}/alerts"))
    severity = max((one["severity"] for one in shown), key=rank, default=row["severity"] or "info")
    return _message(row, title, parts, severity, words, base, shown, len(alerts) - len(shown))


def _message(
    row: Row, title: str, parts: list[str], severity: str, words: wording.Words, base: str, alerts: list[Row],
    truncated: int = 0,
) -> Message:  # fmt: skip
    body = "\n\n".join(parts)
    return Message(
        row["notification_id"], row["kind"], title, wording.plain(f"{title}\n\n{body}"), f"### {title}\n\n{body}",
        severity, words.language, row["group_key"], row["created_at"], base, alerts, max(truncated, 0),
    )  # fmt: skip


def _test(row: Row, words: wording.Words, base: str) -> Message:
    payload: dict[str, Any] = row["payload"] or {}
    title = f"[TEST] {payload.get('title') or words.test_title()}"
    return _message(
        row, title, words.test(payload, row["channel"], base), payload.get("level", "info"), words, base, []
    )


def _digest(con: Connection, row: Row, words: wording.Words, base: str) -> Message:
    """All alerts of all messages a digest stands for, counted by what they are (A-503)."""
    note, table = tables.notification, tables.alert
    members = con.execute(
        select(note.c.kind, note.c.alert_ids).where(
            note.c.via_digest == row["notification_id"], note.c.state.in_(("pending", "failed"))
        )
    ).all()
    tag_of = {alert_id: TAGS[member.kind] for member in members for alert_id in member.alert_ids}
    counts: Counter[tuple[str, str, str, str]] = Counter()
    since: dict[tuple[str, str, str, str], datetime] = {}
    columns = (
        table.c.alert_id,
        table.c.severity,
        table.c.alertname,
        table.c.service,
        table.c.source_id,
        table.c.active_at,
    )
    for part in chunks(sorted(tag_of)):
        for one in con.execute(select(*columns).where(table.c.alert_id.in_(part))):
            key = (tag_of[one.alert_id], one.severity, one.alertname, one.service or one.source_id)
            counts[key] += 1
            since[key] = min(since.get(key, one.active_at), one.active_at)
    order = sorted(counts, key=lambda key: (key[0] == "RESOLVED", -rank(key[1]), -counts[key], key))
    lines = [words.digest_line(key, counts[key], since[key]) for key in order]
    title = f"[DIGEST] {words.digest_title(sum(counts.values()))}"
    severity = max((key[1] for key in counts), key=rank, default="info")
    parts = [words.digest_intro(len(members), f"{base}/alerts"), "\n".join(lines)]
    return _message(row, title, parts, severity, words, base, [])


def _occurrences(con: Connection, alerts: list[Row], since: datetime) -> dict[str, int]:
    """How often each alert fired after ``since``, this time included."""
    table = tables.alert
    query = select(table.c.fingerprint, func.count()).where(
        table.c.fingerprint.in_([one["fingerprint"] for one in alerts]), table.c.fired_at > since
    )
    return {row[0]: row[1] for row in con.execute(query.group_by(table.c.fingerprint))}


def _flapping(settings: Settings, alert: Row, fired: int, words: wording.Words) -> list[tuple[str, str]]:
    """An alert that comes and goes so often that not every time is told."""
    flap, route = settings.alerts.flapping, route_of(settings, alert["severity"])
    if fired < flap.count or route is None:
        return []
    window, repeat = words.duration(flap.window_s), words.duration(route.repeat_s)
    return [(words.say("flapping"), words.say("flapped", n=fired, window=window, repeat=repeat))]


def _removed(con: Connection, alerts: list[Row]) -> set[str]:
    """Alerts that ended because nobody looks any more, not because all is well."""
    event = tables.alert_event
    ids = [one["alert_id"] for one in alerts]
    query = select(event.c.alert_id).where(event.c.alert_id.in_(ids), event.c.to_state == "resolved")
    return set(con.execute(query.where(event.c.reason == NOT_CONFIGURED)).scalars())


def links_of(settings: Settings, alert: Row, run_link: str | None) -> Links:
    """Where to look at an alert, at the run that found it, and at what to do."""
    details: dict[str, Any] = alert["details"] or {}
    if details.get("dagster_run_id"):
        run_link = f"{_dagster_of(settings)}/runs/{details['dagster_run_id']}"
    return Links(f"{dashboard_of(settings)}/alerts/{alert['alert_id']}", run_link, alert["runbook_url"])


def _dagster_of(settings: Settings) -> str:
    return (settings.alerts.links.dagster or "http://127.0.0.1:3000").rstrip("/")


def _run_links(con: Connection, settings: Settings, carriers: dict[str, list[Row]]) -> dict[str, str]:
    """By fingerprint: the Dagster run in which the worst check result was found, else the runs of its job."""
    runs = {found[0]["run_id"]: print_ for print_, found in carriers.items() if found and found[0]["run_id"]}
    check, job = tables.check_run, tables.self_job_run
    done: dict[str, str] = {}
    for row in con.execute(select(check).where(check.c.run_id.in_(list(runs)))).mappings():
        name = f"{row['type']}_check_job"
        query = select(job.c.run_key).where(job.c.job_id == name, job.c.scheduled_at == row["scheduled_at"])
        run_key = con.execute(query.order_by(job.c.changed_at.desc())).scalar()
        place = f"/runs/{run_key}" if run_key else f"/runs?q[0]=job:{name}"
        done[runs[row["run_id"]]] = f"{_dagster_of(settings)}{place}"
    return done

"""What a message says of tasks without outputs in time: the share, since when, and where they are (A-309).

What belongs here: the details of completeness findings in words. What does not: finding them (``quality.explain``).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.alerts.wording import escape, number
from monitoring_pipelines.severity import rate_text

if TYPE_CHECKING:
    from monitoring_pipelines.alerts.book import Row
    from monitoring_pipelines.alerts.wording import Words
    from monitoring_pipelines.config.schema_alerts import Bands

#: Alert type → names of its details: tasks judged, tasks that are bad.
_SHARES = {
    "missing_task_outputs": ("total_success_tasks", "missing_count"),
    "task_output_creation_delay": ("total_recent_tasks", "delayed_count"),
}
#: Details that these sentences say better.
SAID = frozenset(
    {"missing_count", "missing_rate", "total_success_tasks", "time_range_hours", "total_recent_tasks", "delayed_count"}
)
_MOST_CARRIERS = 3


def facts(alert: Row, words: Words, bands: Bands) -> list[tuple[str, str]]:
    """Lines of a message, none for other alerts."""
    if alert["type"] not in _SHARES:
        return []
    details: dict[str, Any] = alert["details"] or {}
    done = [(words.say("complete"), _share(alert, details, words, bands))]
    since = details.get("since")
    if isinstance(since, dict) and since.get("at"):
        at = datetime.fromisoformat(str(since["at"]).removesuffix("Z"))
        rates = {name: since.get(f"{name}_rate") for name in ("before", "after")}
        done.append((words.say("loss_began"), words.say("loss_rates", at=words.instant(at), **rates)))
    carriers = details.get("carried_by") or []
    shown = "; ".join(_carrier(one, words) for one in carriers[:_MOST_CARRIERS] if isinstance(one, dict))
    return [*done, (words.say("mostly_in"), shown)]


def _share(alert: Row, details: dict[str, Any], words: Words, bands: Bands) -> str:
    """Completeness against its bands; empty when the finding does not say how many tasks were judged."""
    total, bad = (details.get(name) for name in _SHARES[alert["type"]])
    if not isinstance(total, int) or not isinstance(bad, int) or total <= 0:
        return ""
    limits = {name: number(float(getattr(bands, name))) for name in ("healthy", "degraded", "critical")}
    return words.say("share", rate=rate_text(total - bad, total), bad=number(bad), total=number(total), **limits)


def _carrier(one: dict[str, Any], words: Words) -> str:
    value = "–" if one.get("value") is None else escape(str(one["value"]))
    return words.say(
        "carrier", what=f"{one.get('dimension')}={value}", missing=one.get("missing"), tasks=one.get("tasks"),
        loss=one.get("share_of_loss"), traffic=one.get("share_of_traffic"),
    )  # fmt: skip

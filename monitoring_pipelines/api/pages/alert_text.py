"""What an alert says in the reader's language, what carries it, and its figures with their units (A-309, A-702).

Messages are stored in the configured language. A reader of the other one gets the sentence made again from the alert's
labels and details; where that cannot be done the stored message stands.

What belongs here: words about one alert. What does not: messages that are sent (``alerts.wording``).
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.alerts.configured import NOT_CONFIGURED
from monitoring_pipelines.alerts.rules.table import describe, shipped
from monitoring_pipelines.readable import size, span

if TYPE_CHECKING:
    from monitoring_pipelines.api.pages.base import View

STRINGS = {
    "alerttext.missing_task_outputs": (
        "过去 {time_range_hours} 小时的 {total_success_tasks} 个成功任务中有 {missing_count} 个没有输出（{missing_rate}）",
        ("{missing_count} of {total_success_tasks} succeeded tasks of the last {time_range_hours} h have no output "
        "({missing_rate})"),
    ),
    "alerttext.task_output_creation_delay": (
        "{total_recent_tasks} 个任务中有 {delayed_count} 个的输出晚于 {delay_threshold_minutes} 分钟才写入",
        ("outputs of {delayed_count} of {total_recent_tasks} tasks came more than {delay_threshold_minutes} min after "
        "their end"),
    ),
    "alerttext.data_integrity_trend_decline": (
        "最近几天的平均完整率 {recent_avg_rate}% 明显低于 {days_analyzed} 天均值 {overall_avg_rate}%",
        "mean completion of the last days is {recent_avg_rate}%, clearly below {overall_avg_rate}% of {days_analyzed} days",
    ),
    "alerttext.excessive_task_outputs": (
        "{total_tasks} 个任务有 {total_outputs} 条输出记录", "{total_outputs} output rows for {total_tasks} tasks",
    ),
    "alerttext.output_flow": (
        "过去一小时结束了 {tasks} 个任务，但没有写入任何输出",
        "{tasks} tasks ended in the last hour and no output row was written",
    ),
    "alerttext.duplicate_outputs": ("重复的输出记录 {surplus} 条", "{surplus} surplus output rows"),
    "alerttext.orphan_outputs": ("{count} 条输出没有对应的任务", "{count} outputs belong to no task"),
    "alerttext.outputs_of_unsuccessful": (
        "{count} 条输出属于未成功的任务", "{count} outputs belong to tasks that did not succeed",
    ),
    "alerttext.no_end_time": ("{count} 个成功任务没有结束时间", "{count} succeeded tasks have no end time"),
    "alerttext.bad_times": ("{count} 行的时间不合理", "{count} rows have times that cannot be right"),
    "alerttext.no_remote_id": (
        "{count} 个成功任务没有远程编号，无法恢复", "{count} succeeded tasks have no remote id and cannot be recovered",
    ),
    "alerttext.status_mismatch": (
        "{count} 个本地成功的任务在远端失败", "{count} tasks succeeded here and failed at the remote service",
    ),
    "carried.began": ("缺失始于 {at}（完整率 {before} → {after}）", "loss began {at} (completion {before} → {after})"),
    "carried.endpoint": ("端点", "endpoint"),
    "carried.worker": ("工作器", "worker"),
    "carried.hour_of_day": ("时刻", "hour of the day"),
    "carried.status": ("状态", "status"),
    "reason.alert": ("被告警 {id} 抑制", "by alert {id}"),
    "reason.silence": ("被静默规则 {id} 覆盖", "by silence {id}"),
    "reason.severity": ("级别升高", "the severity rose"),
    "reason.unconfigured": ("不再配置", "no longer configured"),
    "unsent.quiet_hours": ("静默时段", "quiet hours"),
    "unsent.merged": ("已并入另一条通知", "part of another message"),
    "unsent.attempts_used_up": ("已用完重试次数", "all attempts used up"),
    "unsent.resolved_before_delivery": ("发送前已恢复", "resolved before delivery"),
    "unsent.channel_removed": ("通道已删除", "the channel was removed"),
    "unsent.flapping": ("状态反复变化", "flapping"),
    "unsent.resolved_in_quiet_hours": ("静默时段内已恢复", "resolved in quiet hours"),
    "unsent.no_receiver": ("没有接收者", "no receiver"),
    "unsent.inhibited": ("被抑制", "inhibited"),
    "unsent.rerouted": ("改由其他通道发送", "sent on another channel"),
    "unsent.superseded": ("被更新的通知取代", "a newer message took its place"),
    "unsent.silenced": ("已静默", "silenced"),
}  # fmt: skip
#: Phrases inside a rule's details that were made in the configured language.
_WORDED = ("reason",)


def sentence(view: View, alert: dict[str, Any]) -> str:
    """What the alert says, in the reader's language where that is possible."""
    stored = alert["message"] or alert["alertname"]
    if view.language == view.services.settings.language:
        return view.said(str(stored))
    details = alert["details"] or {}
    key = f"alerttext.{alert['type']}"
    if view.knows(key):
        try:
            return view.t(key, **details)
        except (KeyError, IndexError):
            return view.said(str(stored))
    known = {
        name: value for name, value in details.items() if name not in _WORDED and not isinstance(value, dict | list)
    }
    figures = {"value": alert["value"], "threshold": alert["threshold"], "source": alert["source_id"]}
    found = describe(alert["type"], view.language, {**figures, **(alert["labels"] or {}), **known})
    # What was worded in the configured language is left out for a reader of the other one.
    return re.sub(r" ?[(（]–[)）]", "", found) if found else view.said(str(stored))


def is_foreign(view: View, text: str, alert: dict[str, Any]) -> bool:
    """Whether ``text`` is the stored message and its language not the reader's, so that it can be marked as such."""
    return view.language != view.services.settings.language and text == alert["message"]


def carrier(view: View, alert: dict[str, Any]) -> str | None:
    """What carries most of it, e.g. ``endpoint wan-video (100.0%)``; None where nothing stands out."""
    carried = (alert["details"] or {}).get("carried_by") or []
    if not carried:
        return None
    first = carried[0]
    name = view.word("carried", first["dimension"])
    return f"{name} {part_of(view, first)} ({view.percent(first['share_of_loss'], 0)})"


def part_of(view: View, carried: dict[str, Any]) -> str:
    """What carries a loss, by name; an hour of the day in the zone of all other times of the page; it is stored as UTC."""
    value = str(carried["value"])
    if carried["dimension"] != "hour_of_day":
        return value
    return view.local(view.now.replace(hour=int(value), minute=0), "%H:%M")


def reason(view: View, text: str | None) -> str:
    """Why an alert changed, in the reader's language: history keeps the reason in English; a person's note stands as it is."""
    if not text:
        return view.number(None)
    sent = re.fullmatch(r"(\w+) to (.+): (sent|abandoned)", text)
    if sent:
        kind, channel, state = sent.groups()
        return f"{view.word('notifykind', kind)} · {channel} · {view.word('notifystate', state)}"
    changed = re.fullmatch(r"(\w+) → (\w+)", text)
    if changed:
        return " → ".join(view.word("severity", word) for word in changed.groups())
    by = re.fullmatch(r"by (alert|silence) (\S+)", text)
    if by:
        return view.t(f"reason.{by[1]}", id=by[2])
    known = {"the severity rose": "severity", NOT_CONFIGURED: "unconfigured"}
    return view.t(f"reason.{known[text]}") if text in known else text


def began(view: View, alert: dict[str, Any]) -> str | None:
    """Since when tasks are without outputs and what completeness was before and after; None where that is not known."""
    since = (alert["details"] or {}).get("since")
    if not isinstance(since, dict) or not since.get("at"):
        return None
    at = datetime.fromisoformat(str(since["at"]).removesuffix("Z"))
    before, after = (view.percent(since.get(f"{name}_rate")) for name in ("before", "after"))
    return view.t("carried.began", at=view.local(at, "%m-%d %H:%M"), before=before, after=after)


def figure(view: View, alert: dict[str, Any], name: str) -> str:
    """``value`` or ``threshold`` with the unit of the alert's rule."""
    value = alert[name]
    rule = shipped().get(alert["type"])
    unit = rule.unit if rule else ""
    if value is None:
        return view.number(None)
    if unit == "s":
        return span(value, view.language, brief=abs(value) >= 1)
    if unit == "bytes":
        return size(value)
    return view.number(value) + (unit if unit in ("%", "") or unit.startswith("/") else f" {unit}")

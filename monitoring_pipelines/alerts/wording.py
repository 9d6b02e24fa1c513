"""The sentences of messages in zh-CN and en (A-309), written for somebody who has just been woken.

What belongs here: words, numbers, times. What does not: which facts a message has (``messages``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from monitoring_pipelines.alerts.book import Row
from monitoring_pipelines.readable import counted, size, span

_TEXTS: dict[str, tuple[str, str]] = {
    # key: (zh-CN, en)
    "severity": ("级别", "Severity"),
    "raised": ("级别升高到", "raised to"),
    "value": ("当前值", "Value"),
    "last_value": ("最后的值", "Last value"),
    "over": ("已恢复：", "Over: "),
    "removed": ("不再监控：", "No longer watched: "),
    "why": ("原因", "Reason"),
    "not_configured": ("检查、规则或数据源已从配置中移除；不代表问题已恢复",
                       "its check, rule or source was taken out of the configuration; this does not say that all is well"),
    "threshold": ("阈值", "threshold"),
    "scope": ("范围", "Scope"),
    "since": ("开始", "Since"),
    "for": ("已持续", "for"),
    "ended": ("恢复", "Resolved"),
    "after": ("历时", "after"),
    "carried": ("依据", "Carried by"),
    "rule": ("规则", "rule"),
    "check": ("检查", "check"),
    "run": ("次运行发现", "runs found it"),
    "occurrences": ("次数", "Occurrences"),
    "today": ("24 小时内第 {n} 次触发", "fired {n} times in 24 h"),
    "found": ("共 {n} 次运行发现", "found by {n} runs"),
    "first": ("24 小时内首次", "first time in 24 h"),
    "complete": ("完整率", "Completeness"),
    "share": ("{rate}（{total} 个任务中 {bad} 个异常；≥{healthy}% 健康，<{degraded}% 高，<{critical}% 严重）",
              "{rate} ({bad} of {total} tasks; healthy from {healthy}%, high below {degraded}%, critical below {critical}%)"),
    "loss_began": ("缺失始于", "Loss began"),
    "loss_rates": ("{at}，完整率由 {before}% 变为 {after}%", "{at}, completeness went from {before}% to {after}%"),
    "mostly_in": ("主要来自", "Mostly in"),
    "carrier": ("{what}（{tasks} 个任务缺 {missing} 个，占缺失 {loss}%、占流量 {traffic}%）",
                "{what} ({missing} of {tasks} tasks; {loss}% of the loss, {traffic}% of the traffic)"),
    "flapping": ("频繁波动", "Flapping"),
    "flapped": ("{window}内第 {n} 次触发；之后每 {repeat}最多通知一次",
                "fired {n} times within {window}; from here on told at most once every {repeat}"),
    "channel": ("通道", "Channel"),
    "page": ("页面", "Page"),
    "tasks": ("任务", "Tasks"),
    "details": ("详情", "Details"),
    "repair": ("修复", "Repair"),
    "repair_plan": ("计划 {plan_id}（{state}）：已修复 {tasks_repaired} 个任务，剩余 {tasks_left} 个",
                    "plan {plan_id} ({state}): {tasks_repaired} tasks repaired, {tasks_left} left"),
    "ack": ("已确认", "Acknowledged"),
    "by": ("由", "by"),
    "alert_link": ("告警详情", "Alert"),
    "dagster_link": ("Dagster 运行", "Dagster run"),
    "runbook_link": ("处置手册", "Runbook"),
    "runbook": ("处置手册", "Runbook"),
    "more": ("另有 {n} 条告警：{link}", "{n} more alerts: {link}"),
    "drill": ("这是演练，并无故障。", "This is a drill; nothing is wrong."),
    "test_title": ("测试告警", "Test alert"),
    "test": ("这是一条测试消息，无需处理。", "This is a test message; nothing needs to be done."),
    "digest_title": ("{n} 条告警合并通知", "{n} alerts in one message"),
    "digest": ("通道发送频率已到上限，{n} 条消息合并为一条。全部告警：{link}",
               "The channel has reached its rate limit; this stands for {n} messages. All alerts: {link}"),
    "tick": ("每次评估", "every evaluation"),
    "quick": ("快速检查", "quick check"),
    "full": ("完整检查", "full check"),
    "deep": ("深度检查", "deep check"),
    "earliest": ("最早", "earliest"),
    "cut": ("…（内容过长，已截断，完整内容见告警页面）", "… (cut; the alert page has all of it)"),
}  # fmt: skip
_SEVERITIES = {"critical": "严重", "high": "高", "medium": "中", "low": "低", "info": "提示"}
#: Details that repeat what a message already says, or that only programs read.
_HIDDEN = {"samples", "dagster_run_id", "daily_stats", "message", "value", "threshold"}
_MOST_DETAILS = 6
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?")


@dataclass(frozen=True)
class Words:
    """Wording in one language and zone, as of one instant."""

    language: str
    zone: str
    now: datetime

    def say(self, key: str, **values: Any) -> str:
        """One fixed text."""
        text = _TEXTS[key][0 if self.language == "zh-CN" else 1]
        return counted(text, values).format(**values) if values else text

    def severity(self, word: str) -> str:
        """A severity: the word, with its translation."""
        return f"{_SEVERITIES[word]} ({word})" if self.language == "zh-CN" else word

    def instant(self, at: datetime) -> str:
        """Local time with its offset, and UTC."""
        local = at.replace(tzinfo=UTC).astimezone(ZoneInfo(self.zone))
        offset = local.strftime("%z")
        return f"{local:%Y-%m-%d %H:%M:%S} (UTC{offset[:3]}:{offset[3:]}) = {at:%H:%M:%S}Z"

    def duration(self, seconds: float) -> str:
        """A length of time in whole seconds with its two largest units."""
        return span(max(int(seconds), 0), self.language)

    def title(self, tag: str, alerts: list[Row], total: int) -> str:
        """``[FIRING] alertname (service or source)``, with the number of alerts if there are several."""
        first = alerts[0]
        name = f"{first['alertname']} ({first['service'] or first['source_id']})"
        return f"[{tag}] {name}" + (f" ×{total}" if total > 1 else "")

    def alert(self, alert: Row, kind: str, carriers: list[Row], fired_today: int) -> str:
        """Everything about one alert, most needed first; ``alert["more"]``: lines of its type."""
        severity = self.severity(alert["severity"])
        if kind == "severity_up":
            severity = f"{self.say('raised')} {severity}"
        over = self.say("removed" if alert.get("is_removed") else "over") if kind == "resolved" else ""
        lines = [f"**{severity}** {over}{escape(alert['message'] or alert['type'])}"]
        if alert["is_drill"]:
            lines.insert(0, f"**{self.say('drill')}**")
        lines += [f"- {name}: {value}" for name, value in self._facts(alert, kind, carriers, fired_today) if value]
        return "\n".join([*lines, "", self._links(alert)])

    def _facts(self, alert: Row, kind: str, carriers: list[Row], fired_today: int) -> list[tuple[str, str]]:
        scope = {"source": alert["source_id"], **({"service": alert["service"]} if alert["service"] else {})}
        scope |= {name: value for name, value in alert["labels"].items() if name != "drill"}
        start = alert["active_at"]
        facts = [
            (self.say("last_value" if kind == "resolved" else "value"), self._value(alert)),
            (self.say("scope"), ", ".join(f"{name}={escape(str(value))}" for name, value in scope.items())),
        ]
        if kind == "resolved" and alert["resolved_at"] is not None:
            ended = alert["resolved_at"]
            facts += [
                (
                    self.say("ended"),
                    f"{self.instant(ended)}, {self.say('after')} {self.duration((ended - start).total_seconds())}",
                ),
                (self.say("since"), self.instant(start)),
                (self.say("why"), self.say("not_configured") if alert.get("is_removed") else ""),
            ]
            return facts
        lasted = self.duration((self.now - start).total_seconds())
        facts.append((self.say("since"), f"{self.instant(start)}, {self.say('for')} {lasted}"))
        facts[1:1] = alert.get("more") or []
        facts.append((self.say("carried"), self._carried(alert, carriers)))
        facts.append((self.say("occurrences"), self._times(alert, carriers, fired_today)))
        if alert["task_ids"]:
            facts.append((self.say("tasks"), ", ".join(escape(str(one)) for one in alert["task_ids"])))
        facts.append((self.say("details"), self._details(alert["details"] or {}, alert.get("said") or frozenset())))
        if alert.get("repair"):
            facts.append((self.say("repair"), self.say("repair_plan", **alert["repair"])))
        if alert["acknowledged_at"] is not None:
            note = f": {escape(alert['acknowledged_note'])}" if alert["acknowledged_note"] else ""
            facts.append((self.say("ack"), f"{self.say('by')} {alert['acknowledged_by']}{note}"))
        return facts

    def _value(self, alert: Row) -> str:
        if alert["value"] is None:
            return ""
        text = self._measured(alert["value"], alert.get("unit") or "")
        if alert["threshold"] is None:
            return text
        return f"{text} ({self.say('threshold')} {self._measured(alert['threshold'], alert.get('unit') or '')})"

    def _measured(self, value: float, unit: str) -> str:
        if unit == "s":
            return span(value, self.language)
        if unit == "bytes":
            return size(value)
        return f"{number(value)} {unit}".rstrip()

    def _carried(self, alert: Row, carriers: list[Row]) -> str:
        if not carriers:
            return f"{self.say('rule')} {alert['type']}"
        return ", ".join(f"{self.say(one['contributor'])} ({one['severity']})" for one in carriers)

    def _times(self, alert: Row, carriers: list[Row], fired_today: int) -> str:
        parts = [self.say("today", n=fired_today) if fired_today > 1 else self.say("first")]
        if carriers:
            parts.append(self.say("found", n=alert["occurrences"]))
        return ", ".join(parts)

    def _details(self, details: dict[str, Any], said: frozenset[str]) -> str:
        """The first details that nothing else in the message says; instants in local time."""
        shown = []
        for name, value in details.items():
            if name in _HIDDEN or name in said or value is None or isinstance(value, (dict, list)):
                continue
            if isinstance(value, str) and _INSTANT.fullmatch(value):
                text = self.instant(datetime.fromisoformat(value.removesuffix("Z")))
            else:
                text = number(value) if isinstance(value, float) else escape(str(value))
            shown.append(f"{name} {text}")
        return ", ".join(shown[:_MOST_DETAILS])

    def _links(self, alert: Row) -> str:
        links = alert["links"]
        named = [("alert_link", links.alert), ("dagster_link", links.dagster), ("runbook_link", links.runbook)]
        done = []
        for key, address in named:
            if address is not None:
                is_web = address.startswith(("http://", "https://"))
                done.append(f"[{self.say(key)}]({address})" if is_web else f"{self.say(key)}: {address}")
        return " · ".join(done)

    def more(self, count: int, link: str) -> str:
        """How many alerts are not described."""
        return self.say("more", n=count, link=link)

    def test_title(self) -> str:
        """Title of a test message without one of its own."""
        return self.say("test_title")

    def test(self, payload: dict[str, Any], channel: str, page: str) -> list[str]:
        """Body of a test message (A-504): which channel of which installation it proves."""
        lines = [f"**{self.say('test')}**"]
        if payload.get("message"):
            lines.append(escape(str(payload["message"])))
        lines.append(f"{self.say('severity')}: {self.severity(payload.get('level', 'info'))}")
        if payload.get("details"):
            lines.append(f"{self.say('details')}: {self._details(payload['details'], frozenset())}")
        lines += [f"{self.say('channel')}: {escape(channel)}", f"{self.say('page')}: {page}"]
        return [*lines, self.instant(self.now)]

    def digest_title(self, count: int) -> str:
        """Title of a digest, without its tag."""
        return self.say("digest_title", n=count)

    def digest_intro(self, messages: int, link: str) -> str:
        """Why there is a digest."""
        return self.say("digest", n=messages, link=link)

    def digest_line(self, key: tuple[str, str, str, str], count: int, since: datetime) -> str:
        """One kind of alert in a digest."""
        tag, severity, name, place = key
        return f"- [{tag}] {self.severity(severity)} {name} ({place}) ×{count}, {self.say('earliest')} {self.instant(since)}"


def words_of(language: str, zone: str, now: datetime) -> Words:
    """The wording for a language and zone."""
    return Words(language, zone, now)


def number(value: float) -> str:
    """A number people can read: whole ones grouped, others with the digits that matter."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"


def escape(text: str) -> str:
    """Text without line breaks and with Markdown's own signs made harmless."""
    return re.sub(r"([\\`*\[\]<>])", r"\\\1", " ".join(text.split()))


def plain(markdown: str) -> str:
    """The same without Markdown's signs, for mail and logs."""
    text = re.sub(r"(?<!\\)\[([^\]]+)\]\((\S+?)\)", r"\1: \2", markdown)
    text = text.replace("**", "").replace(" · ", "\n")
    return re.sub(r"\\([\\`*\[\]<>])", r"\1", text)


def cut(text: str, limit: int, mark: str) -> str:
    """``text`` in at most ``limit`` bytes of UTF-8, cut at a character border and marked."""
    raw = text.encode()
    if len(raw) <= limit:
        return text
    return raw[: max(limit - len(mark.encode()), 0)].decode(errors="ignore") + mark


def cut_mark(language: str) -> str:
    """What stands at the end of a text that was cut."""
    return _TEXTS["cut"][0 if language == "zh-CN" else 1]

"""Alerts: what fires, one alert with its history and messages, acknowledging and silencing (S-819)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.alerts.messages import REPAIRED
from monitoring_pipelines.alerts.routing import unheard
from monitoring_pipelines.api import alert_rows
from monitoring_pipelines.api.answers import instant_text, missing
from monitoring_pipelines.api.pages import alert_text
from monitoring_pipelines.api.pages.base import View, render
from monitoring_pipelines.api.pages.repair import PLAN_HOURS, PLAN_TONES, why_no_plan
from monitoring_pipelines.api.pages.runbooks import page_of
from monitoring_pipelines.api.pages.silences import shown_silences
from monitoring_pipelines.api.params import PageParam, SourceParam, chosen_sources
from monitoring_pipelines.api.routes.alerts import SearchParam, SortParam
from monitoring_pipelines.api.services import Services, services_of
from monitoring_pipelines.state import alerts as stored
from monitoring_pipelines.state.repair import list_plans

STRINGS = {
    "alerts.title": ("告警", "Alerts"),
    "alerts.none": ("没有活动告警", "No active alerts"),
    "alerts.show": ("显示", "Show"),
    "alerts.open": ("未解决", "Unresolved"),
    "alerts.search": ("内容、类型、编号、标签", "Message, type, id, labels"),
    "alerts.none_found": ("没有符合条件的告警", "No alert matches"),
    "alerts.everything": ("全部", "All"),
    "alerts.resolved": ("已恢复", "Resolved"),
    "alerts.occurrences": ("次数", "Occurrences"),
    "alerts.since": ("开始", "Since"),
    "alerts.last_seen": ("最近一次", "Last seen"),
    "alerts.value": ("当前值 / 阈值", "Value / threshold"),
    "alerts.scope": ("范围", "Scope"),
    "alerts.tasks": ("任务", "Tasks"),
    "alerts.runbook": ("处置手册", "Runbook"),
    "alerts.history": ("历史", "History"),
    "alerts.messages": ("通知", "Notifications"),
    "alerts.newest_messages": ("仅显示最新 {n} 条。", "These are the newest {n}."),
    "alerts.samples": ("明细", "Details"),
    "alerts.ack": ("确认", "Acknowledge"),
    "alerts.is_acked": ("已确认", "acknowledged"),
    "alerts.unack": ("撤销确认", "Withdraw"),
    "alerts.acked": ("{who} 已确认：{note}", "Acknowledged by {who}: {note}"),
    "alerts.silence": ("静默 2 小时", "Silence for 2 h"),
    "alerts.confirm_ack": ("确认此告警？之后不再重复通知。", "Acknowledge this alert? It will not repeat."),
    "alerts.confirm_silence": ("静默同类告警 2 小时？", "Silence alerts like this for two hours?"),
    "alerts.test": ("测试告警", "Test alert"),
    "alerts.confirm_test": ("向所有通道发送一条测试消息？", "Send one test message to the channels?"),
    "alerts.unheard": (
        "以下级别没有配置接收者，告警不会发送给任何人：{names}",
        "Nobody is configured to receive these severities; their alerts reach nobody: {names}",
    ),
    "alerts.channel": ("通道", "Channel"),
    "alerts.about": ("关于", "About"),
    "alerts.more_alerts": ("另有 {n} 个告警", "and {n} more alerts"),
    "alerts.rows": ("数据行", "Rows"),
    "alerts.carried": ("主要来自", "What carries it"),
    "alerts.dimension": ("维度", "By"),
    "alerts.which": ("取值", "Which"),
    "alerts.missing": ("缺失 / 任务", "Missing / tasks"),
    "alerts.share_loss": ("占缺失的比例", "Share of the loss"),
    "alerts.share_traffic": ("占任务的比例", "Share of the tasks"),
    "alerts.rate_now": ("缺失率", "Missing rate"),
    "alerts.rate_before": ("之前的缺失率", "Missing rate before"),
    "alerts.plans": ("修复计划", "Repair plans"),
    "alerts.silences": ("静默规则", "Silences"),
    "alerts.until": ("至", "Until"),
    "alerts.matches": ("匹配", "Matches"),
    "alerts.end_silence": ("结束静默", "End"),
    "alerts.confirm_end": ("现在结束此静默？", "End this silence now?"),
    "alerts.reason": ("原因", "Reason"),
    "alerts.kind": ("种类", "Kind"),
    "alerts.attempts": ("尝试", "Attempts"),
    "alerts.actor": ("操作者", "Actor"),
    "alerts.no_messages": ("没有通知", "No notifications"),
    "eventkind.transition": ("状态变化", "State change"),
    "eventkind.severity": ("级别变化", "Severity change"),
    "eventkind.acknowledge": ("确认", "Acknowledged"),
    "eventkind.unacknowledge": ("撤销确认", "Withdrawn"),
    "eventkind.message": ("通知", "Message"),
    "notifykind.firing": ("触发", "Firing"),
    "notifykind.resolved": ("恢复", "Resolved"),
    "notifykind.repeat": ("重复", "Repeat"),
    "notifykind.severity_up": ("级别升高", "Severity up"),
    "notifykind.test": ("测试", "Test"),
    "notifykind.digest": ("摘要", "Digest"),
    "notifystate.pending": ("待发送", "Waiting"),
    "notifystate.sent": ("已发送", "Sent"),
    "notifystate.failed": ("失败，将重试", "Failed, will be tried again"),
    "notifystate.abandoned": ("已放弃", "Given up"),
    "notifystate.suppressed": ("未发送", "Suppressed"),
    "alertstate.inactive": ("未激活", "Inactive"),
    "alertstate.pending": ("待定", "Pending"),
    "alertstate.firing": ("触发中", "Firing"),
    "alertstate.inhibited": ("被抑制", "Inhibited"),
    "alertstate.silenced": ("已静默", "Silenced"),
    "alertstate.resolved": ("已恢复", "Resolved"),
}
STRINGS |= alert_text.STRINGS
router = APIRouter(include_in_schema=False)
#: First letters of a type → where its figures are shown.
_ROWS = (("resource.", "/resources"), ("leak.", "/resources"), ("fd.", "/resources"), ("ingest.", "/ingest"), ("self.", "/self"),
         ("tasks.", "/tasks"), ("jobs.", "/scheduler-monitoring"), ("target.", "/resources"))  # fmt: skip
#: Pages of figures that show one source where it is named.
_BY_SOURCE = ("/resources", "/ingest", "/tasks")
TONES = {"firing": "bad", "pending": "warning", "resolved": "good"}


Show = Literal["open", "all", "resolved", "firing", "pending", "inhibited", "silenced"]
SeverityParam = Annotated[str | None, Query(pattern="^(critical|high|medium|low|info|)$")]
TypeParam = Annotated[str | None, Query(max_length=255)]


def shown_alerts(
    services: Services, source: str | None, show: Show, severity: str | None, type_: str | None, text: str | None,
    sort: str | None, page: int, page_size: int,
) -> tuple[list[dict[str, Any]], int]:  # fmt: skip
    """Rows of the list and how many there are: firing and gravest first unless sorted otherwise."""
    return stored.list_alerts(
        services.state, states=[show] if show in alert_rows.OPEN_STATES else [], severities=[severity] if severity else (),
        open_only={"open": True, "resolved": False}.get(show), types=[type_] if type_ else (),
        source_ids=chosen_sources(services, source) if source else (), text=text, page=page, page_size=page_size,
        sort=sort or "urgency", remember=services.of_state,
    )  # fmt: skip


@router.get("/alerts")
def listed(
    request: Request, page: PageParam, source: SourceParam = None, show: Show = "open", severity: SeverityParam = None,
    type: TypeParam = None, q: SearchParam = None, sort: SortParam = None,  # noqa: A002 - the parameter's name
) -> Response:  # fmt: skip
    """The list, unresolved and gravest first unless sorted otherwise."""
    view = View(request)
    services = services_of(request)
    rows, total = shown_alerts(services, source, show, severity, type, q, sort, page.number, page.size)
    messages, message_total = stored.list_notifications(services.state, page_size=20)
    silences, silence_total = shown_silences(services, "active", None, 1, 20)
    return render(
        request, "alerts.html", title=view.t("alerts.title"), as_of=view.now, view=view, page=page.wrap(rows, total),
        show=show, severity=severity, source=source, tones=TONES, type=type, messages=messages, silences=silences,
        message_total=message_total, silence_total=silence_total,
        query={"show": show, "severity": severity, "source": source, "type": type, "q": q, "sort": sort}, sort=sort, q=q or "",
        unheard=sorted({word for route in unheard(services.settings) for word in route.severities}),
    )  # fmt: skip


def rows_at(alert: dict[str, Any]) -> str | None:
    """The page with the rows an alert speaks of."""
    source, labels = alert["source_id"], alert["labels"]
    if alert["type"] == REPAIRED:
        return f"/consistency?source={quote(source)}#tasks"
    for name in ("endpoint", "job"):
        if name in labels:
            return label_at(alert, name, labels[name])
    page = next((page for prefix, page in _ROWS if alert["type"].startswith(prefix)), None)
    if page not in _BY_SOURCE:
        return page
    query = {"source": source}
    if page == "/resources" and "process" in labels:
        query["process"] = labels["process"]
    if alert["type"].startswith("target."):
        return f"{page}?{urlencode(query)}#targets"
    if alert["type"] == "tasks.timeouts":
        query["show"] = "failed"
    return f"{page}?{urlencode(query)}"


def label_at(alert: dict[str, Any], name: str, value: str) -> str | None:
    """The page of what a label of an alert names; None where there is none."""
    source = quote(alert["source_id"])
    return {
        "endpoint": f"/endpoints/{quote(value, safe='')}?source={source}",
        "job": f"/scheduler-monitoring/jobs/{quote(value, safe='')}?source={source}",
        "process": f"/resources?{urlencode({'source': alert['source_id'], 'process': value})}",
    }.get(name)


@router.get("/alerts/{alert_id}")
def one(request: Request, alert_id: Annotated[str, Path(max_length=40)]) -> Response:
    """One alert."""
    view = View(request)
    found = alert_rows.one(services_of(request).state, alert_id)
    if found is None:
        raise missing("unknown alert")
    alert = found["alert"]
    matchers = [
        {"name": "type", "op": "=", "value": alert["type"]},
        {"name": "source", "op": "=", "value": alert["source_id"]},
    ]
    silence = {
        "matchers": matchers, "comment": "", "starts_at": instant_text(view.now),
        "ends_at": instant_text(view.now + timedelta(hours=2)),
    }  # fmt: skip
    source = next((one for one in services_of(request).settings.enabled_sources if one.id == alert["source_id"]), None)
    is_repairable = alert["type"] == REPAIRED and source is not None and bool(source.mapped("task_output"))
    with services_of(request).state.read() as con:
        plans = list_plans(con, alert["source_id"], (), 5) if is_repairable else []
    return render(
        request, "alert.html", title=alert["alertname"], as_of=view.now, view=view, alert=alert, tones=TONES,
        runbook=page_of(services_of(request).settings, alert["runbook_url"]),
        plans=plans,
        plan_hours=PLAN_HOURS if is_repairable else None, why_no_plan=why_no_plan(view, alert["source_id"]) if is_repairable else None,
        plan_tones=PLAN_TONES, rows_at=rows_at(alert), label_at=label_at,
        carried=(alert["details"] or {}).get("carried_by") or [], events=found["events"],
        messages=found["notifications"], silence=silence,
    )  # fmt: skip

"""Scheduler monitoring: figures, search, failure heat map, delivery (S-815).

What belongs here: jobs. What does not: their runs (``job_runs``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api.pages.base import View, render
from monitoring_pipelines.api.params import PageParam, ordered
from monitoring_pipelines.api.routes.compat_scheduler import (
    COLUMNS,
    Scope,
    SortParam,
    chosen_scope,
    heatmap,
    is_running,
    job_rows,
    matching,
    overview_of,
    searched,
)
from monitoring_pipelines.api.routes.job_actions import why_not_startable
from monitoring_pipelines.api.services import Services, services_of
from monitoring_pipelines.metrics.delivery import Gateway, channel_counters, gateways, mapped_gateways
from monitoring_pipelines.published import jobs
from monitoring_pipelines.published.job_runs import FAILED
from monitoring_pipelines.self_jobs import product_jobs
from monitoring_pipelines.state.alerts import count_sent
from monitoring_pipelines.warehouse.lake import LakeMissing

STRINGS = {
    "jobs.title": ("调度器监控仪表盘", "Scheduler monitoring"),
    "jobs.export": ("Prometheus 导出", "Prometheus export"),
    "jobs.total": ("总任务数", "Total jobs"),
    "jobs.success": ("成功率", "Success rate"),
    "jobs.success_note": ("{a} / {b} 次执行", "{a} of {b} runs"),
    "jobs.mean": ("平均耗时", "Mean duration"),
    "jobs.mean_note": ("按执行次数加权", "weighted by runs"),
    "jobs.failing": ("失败任务数", "Jobs with failures"),
    "jobs.failing_note": ("总失败次数 {n}", "{n} failures in all"),
    "jobs.scheduler": ("调度器状态", "Scheduler"),
    "jobs.running": ("运行中", "Running"),
    "jobs.stopped": ("已停止", "Stopped"),
    "jobs.registered": ("已注册任务 {n}", "{n} registered jobs"),
    "jobs.delivery": ("通知链路指标", "Delivery of notifications"),
    "jobs.channel": ("通道 / 任务", "Channel / job"),
    "jobs.ok": ("成功次数", "Successes"),
    "jobs.failed": ("失败次数", "Failures"),
    "jobs.latency": ("网关响应时间", "Gateway latency"),
    "jobs.latency_note": (
        "最近 100 次成功发送；数据源的通道为最近一天",
        "last 100 successful posts; of a source's channel, its newest day",
    ),
    "jobs.pick": ("选择 {job}", "Select {job}"),
    "jobs.pick_all": ("全选本页", "Select all on this page"),
    "jobs.picked": ("已选任务：", "Selected jobs:"),
    "jobs.confirm_trigger_many": (
        "立即各执行一次所选任务？计划不变。",
        "Run each selected job once now? Their schedules stay.",
    ),
    "jobs.confirm_enable_many": ("启用所选任务？", "Enable the selected jobs?"),
    "jobs.confirm_disable_many": (
        "停用所选任务？重启后仍保持停用。",
        "Disable the selected jobs? They stay disabled after a restart.",
    ),
    "jobs.table": ("任务运行表", "Jobs"),
    "jobs.heatmap": ("失败热力图（24 小时）", "Failure heat map (24 h)"),
    "jobs.of_worst": ("最多类别的 {share}", "{share} of the worst category"),
    "jobs.id": ("任务ID", "Job id"),
    "jobs.name": ("任务名称", "Name"),
    "jobs.owner": ("负责人", "Owner"),
    "jobs.category": ("类别", "Category"),
    "jobs.no_category": ("未分类", "No category"),
    "jobs.rate": ("成功率", "Success rate"),
    "jobs.avg": ("平均耗时", "Avg duration"),
    "jobs.p95": ("P95 耗时", "P95 duration"),
    "jobs.last": ("最后执行时间", "Last run"),
    "jobs.next": ("下次执行", "Next run"),
    "jobs.search": ("任务ID、名称、负责人", "Id, name, owner"),
    "jobs.none": ("没有找到匹配的任务", "No matching job"),
    "jobs.no_failures": ("24 小时内没有失败", "No failures in 24 h"),
    "jobs.scope": ("范围", "Scope"),
    "jobs.scope_default": ("默认", "Default"),
    "jobs.scope_mapped": ("业务任务", "Your jobs"),
    "jobs.scope_self": ("本系统任务", "The product's jobs"),
    "jobs.scope_all": ("全部", "All"),
    "jobs.trigger": ("触发", "Trigger"),
    "jobs.enable": ("启用", "Enable"),
    "jobs.disable": ("停用", "Disable"),
    "jobs.confirm_trigger": ("立即执行一次 {job}？计划不变。", "Run {job} once now? Its schedule stays."),
    "jobs.triggered": (
        "已启动；一两分钟后出现在执行记录中。",
        "Started; it shows among the runs in a minute or two.",
    ),
    "jobs.confirm_switch": ("{what} {job}？", "{what} {job}?"),
    "jobs.why_not_triggerable": (
        "由数据源自己的调度器启动；配置 trigger_hook 后可在此触发",
        "Its own scheduler starts it; with a trigger_hook it can be started here",
    ),
    "jobs.why_needs_plan": (
        "此任务处理一个修复计划，请在计划页面启动",
        "It works on a repair plan and is started from the plan's page",
    ),
    "jobs.why_needs_source": (
        "此任务加载一个新数据源，由传感器启动",
        "It loads one new source; a sensor starts it",
    ),
    "jobs.why_disabled": ("任务已停用", "The job is disabled"),
    "jobs.why_running": ("任务正在运行", "The job is running"),
    "jobs.why_no_dagster": ("未连接 Dagster", "Dagster's address is not known"),
    "jobs.disabled": ("已停用", "Disabled"),
    "jobs.runs": ("执行记录", "Runs"),
    "jobs.no_runs": ("尚无执行记录", "No runs yet"),
    "jobs.scheduled": ("计划", "Scheduled"),
    "jobs.started": ("开始", "Started"),
    "jobs.ended": ("结束", "Ended"),
    "jobs.duration": ("耗时", "Duration"),
    "jobs.outcome": ("结果", "Outcome"),
    "jobs.error": ("错误", "Error"),
    "jobs.trigger_kind": ("触发方式", "Trigger"),
    "jobs.percentiles": ("最近 1000 次", "Last 1000 runs"),
    "jobs.missed": ("错过 / 跳过", "Missed / skipped"),
    "jobs.missed_since": ("此后错过 {n} 次", "{n} missed since"),
    "jobs.sla": ("SLA 上限", "SLA limit"),
    "jobs.over_sla": ("超过 SLA", "Over the SLA"),
    "jobs.schedule": ("计划", "Schedule"),
    "jobs.actions": ("操作", "Actions"),
    "jobcategory.extraction": ("抽取", "extraction"),
    "jobcategory.statistics": ("统计", "statistics"),
    "jobcategory.checks": ("检查", "checks"),
    "jobcategory.maintenance": ("维护", "maintenance"),
    "jobcategory.repair": ("修复", "repair"),
    "jobstatus.success": ("成功", "Success"),
    "jobstatus.failure": ("失败", "Failure"),
    "jobstatus.timeout": ("超时", "Timeout"),
    "jobstatus.missed": ("错过", "Missed"),
    "jobstatus.skipped": ("跳过", "Skipped"),
    "jobstatus.running": ("运行中", "Running"),
    "jobstatus.never": ("从未运行", "Never ran"),
}
router = APIRouter(include_in_schema=False, prefix="/scheduler-monitoring")
TONES = {"success": "good", "failure": "bad", "timeout": "bad", "running": "warning", "missed": "warning"}
#: Colour of a heat-map cell (M-505) → class; the number stands in the cell as well.
HEAT = {"red": "bad", "amber": "warning", "yellow": "slight", None: "neutral"}


@router.get("")
def listed(
    request: Request, page: PageParam, scope: Scope | None = None,
    q: Annotated[str | None, Query(max_length=200)] = None,
    category: Annotated[str | None, Query(max_length=255)] = None,
    tab: Literal["jobs", "heatmap"] = "jobs", sort: SortParam = None,
) -> Response:  # fmt: skip
    """All jobs with their figures."""
    view = View(request)
    services = services_of(request)
    rows: Sequence[Mapping[str, Any]] = []
    heat: list[dict[str, Any]] = []
    texts: list[str] = []
    categories: list[str] = []
    as_of, channels, totals = None, {}, dict.fromkeys(jobs.overview([]))
    latency: dict[str, Gateway] = {}
    sent: dict[str, list[tuple[str, int]]] = {}
    runs_now: bool | None = None
    end = services.moment()
    try:
        with services.published.look() as look:
            as_of = look.as_of
            rows = called(view, job_rows(services, look, scope))
            texts, categories = services.newest(
                ("job texts", scope, view.language), look.stamp(jobs.TABLES), partial(searched, rows)
            )
            heat = heatmap(services, look, scope, end)
            totals = overview_of(services, look, scope)
            runs_now = view.stored(partial(is_running, services, look), None)
            attempts = partial(channel_counters, services.state, look)
            channels = view.stored(lambda: services.of_state(("channels",), attempts, look.lake.version), {})
            latency = mapped_gateways(look)
            sent = view.stored(lambda: services.of_state(("sent messages",), partial(sent_of, services)), {})
    except LakeMissing:
        rows = []
    found = ordered(matching(rows, q, category, texts), sort, COLUMNS)
    latency = view.stored(partial(latencies, services, latency), latency)
    return render(
        request, "scheduler.html", title=view.t("jobs.title"), as_of=as_of, view=view, page=page.cut(found), tones=TONES,
        overview=totals, heat=heat, heat_tones=HEAT, running=runs_now, channels=channels, scope=scope, latency=latency,
        sent={name: known[0][0] for name, known in sent.items() if [n for _, n in known] == [channels.get(name, (0, 0))[0]]},
        why=lambda row: why_not(view, row),
        q=q or "", category=category, tab=tab, self_id=jobs.SELF,
        categories=categories, many=len(chosen_scope(services, scope)) > 1,
        failures=",".join(FAILED), failed={"outcome": ",".join(FAILED), "from": view.utc(end - jobs.DAY), "to": view.utc(end)},
        sender=next(iter(jobs.of_id(rows, "send_alert_notifications", chosen_scope(services, scope))), None),
        query={"scope": scope, "q": q, "category": category, "tab": tab, "sort": sort}, sort=sort,
        file=f"scheduler_metrics_{view.local(view.now, '%Y-%m-%d')}.txt",
    )  # fmt: skip


def called(view: View, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The rows, the product's own jobs by their names in the reader's language; others are called what their source says."""
    first = jobs.own_from(rows)
    if first == len(rows):
        return rows
    own = product_jobs(view.services.settings)
    return [
        *rows[:first],
        *({**row, "job_name": own[row["job_id"]].name(view.language)} if row["job_id"] in own else row for row in rows[first:]),
    ]  # fmt: skip


def latencies(services: Services, mapped: dict[str, Gateway]) -> dict[str, Gateway]:
    """Figures of the gateway behind each channel, by its name in upper case; the product's own posts come first."""
    found = dict(mapped)
    for name, own in services.of_state(("gateways",), partial(_own_gateways, services)).items():
        other = mapped.get(name.upper())
        latest = max((one.last_at for one in (own, other) if one and one.last_at), default=None)
        found[name.upper()] = replace(other if own.mean_ms is None and other else own, last_at=latest)
    return found


def _own_gateways(services: Services) -> dict[str, Gateway]:
    with services.state.read() as con:
        return gateways(con)


def sent_of(services: Services) -> dict[str, list[tuple[str, int]]]:
    """Channels and how many messages were sent through each, by their names in upper case, as attempts are counted."""
    found: dict[str, list[tuple[str, int]]] = {}
    with services.state.read() as con:
        for channel, n in count_sent(con):
            found.setdefault(channel.upper(), []).append((channel, n))
    return found


def why_not(view: View, row: Mapping[str, Any]) -> str | None:
    """Why the trigger button of a job is off, in words; None when it is on (S-425)."""
    word = why_not_startable(view.services, row)
    if word is None and row["source_id"] == jobs.SELF and view.services.dagster_url is None:
        word = "no_dagster"
    if word is not None:
        return view.t(f"jobs.why_{word}")
    return None if view.may("operator") else view.t("common.forbidden", role="operator")

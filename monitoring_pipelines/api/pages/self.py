"""The product itself: components, extraction lag, coverage, anomalies, size (S-820)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from monitoring_pipelines.api import health, summaries
from monitoring_pipelines.api.pages.base import View, render
from monitoring_pipelines.api.params import PageParam, SourceParam, chosen_sources
from monitoring_pipelines.api.routes.sources import KindParam
from monitoring_pipelines.api.services import services_of
from monitoring_pipelines.published import anomalies, jobs
from monitoring_pipelines.warehouse.lake import LakeMissing

STRINGS = {
    "self.title": ("自监控", "Self-monitoring"),
    "self.components": ("组件", "Components"),
    "self.component": ("组件", "Component"),
    "self.beat": ("心跳", "Heartbeat"),
    "self.period": ("周期", "Period"),
    "self.no_components": ("还没有组件报告心跳", "No component has reported a heartbeat yet"),
    "self.aggregation": ("聚合成功率", "Aggregation success"),
    "self.runs": ("{a} / {b} 次", "{a} of {b} runs"),
    "self.behind": ("落后 {span}", "{span} behind"),
    "self.coverage": ("快照覆盖率", "Snapshot coverage"),
    "self.restated": ("重述的行（24h）", "Restated rows (24 h)"),
    "self.store": ("存储大小", "Store size"),
    "self.published": ("已发布版本", "Published version"),
    "self.waiting": ("待发布变更 {n}", "{n} changes waiting"),
    "self.extraction": ("采集", "Extraction"),
    "self.table": ("表", "Table"),
    "self.strategy": ("方式", "Strategy"),
    "self.rows": ("已读行数", "Rows read"),
    "self.success": ("最近成功", "Last success"),
    "self.error": ("错误", "Error"),
    "self.late": ("已 {span} 没有成功", "no success for {span}"),
    "self.drift": ("结构漂移", "Schema drift"),
    "self.closed": ("统计到", "Statistics up to"),
    "self.anomalies": ("异常", "Anomalies"),
    "self.kind": ("种类", "Kind"),
    "self.count": ("数量", "Count"),
    "self.no_anomalies": ("没有异常", "No anomalies"),
    "self.anomalies_listed": ("异常，按天（共 {n} 个）", "Anomalies by day ({n} in all)"),
    "self.day": ("日期（UTC）", "Day (UTC)"),
    "self.entity": ("数据表", "Data"),
    "self.between": ("首个与最后", "First and last"),
    "self.newest": ("最新的几个", "The newest ones"),
    "self.undated": ("没有时间", "without a time"),
    "self.features_off": ("不适用的功能", "Features that are not applicable"),
    "anomaly.late_terminal_event": ("结束事件晚到", "Final event came late"),
    "anomaly.duplicate_event": ("重复的事件", "Event twice"),
    "anomaly.negative_duration": ("耗时为负", "Negative duration"),
    "anomaly.absurd_duration": ("耗时不合理", "Absurd duration"),
    "anomaly.future_time": ("时间在未来", "Time in the future"),
    "anomaly.zero_date": ("零日期", "Zero date"),
    "anomaly.time_out_of_range": ("时间超出范围", "Time out of range"),
    "anomaly.ambiguous_time": ("时间有歧义", "Ambiguous time"),
    "anomaly.unmapped_status": ("未映射的状态", "Status that is not mapped"),
    "anomaly.worker_mismatch": ("工作器不一致", "Workers differ"),
    "anomaly.terminal_without_attempt": ("没有执行就结束", "End without an attempt"),
    "anomaly.event_without_task": ("事件没有任务", "Event without a task"),
    "anomaly.evidence_after_end": ("结束后仍有活动", "Active after its end"),
    "anomaly.attempt_outside_life": ("执行超出工作器寿命", "Attempt outside its worker's life"),
    "anomaly.snapshot_contradiction": ("快照相互矛盾", "Snapshots contradict"),
    "anomaly.duplicate_snapshot": ("重复的快照", "Snapshot twice"),
    "anomaly.gpu_not_collected": ("未采集到 GPU", "GPU not collected"),
    "anomaly.queue_wait_mismatch": ("排队时长不一致", "Queue waits differ"),
    "anomaly.case_variant_endpoint": ("端点名仅大小写不同", "Endpoints differ in case only"),
    "anomaly.late_beyond_retention": ("晚于保留期才到", "Came after its retention"),
    "anomaly.bad_value": ("无法使用的值", "Value that cannot be used"),
    "component.api": ("页面与接口", "Page and API"),
    "component.extract": ("抽取", "Extraction"),
    "component.aggregate": ("聚合", "Aggregation"),
    "component.collect": ("采样", "Sampling of processes"),
    "component.evaluator": ("告警评估", "Evaluation of alerts"),
    "component.dispatcher": ("消息发送", "Delivery of messages"),
    "component.sweeper": ("超时清理", "Sweep of timeouts"),
    "component.quick": ("快速检查", "Quick check"),
    "component.full": ("完整检查", "Full check"),
    "component.deep": ("深度检查", "Deep check"),
    "component.published": ("已发布的文件", "Published files"),
    "component.state_store": ("状态库", "State store"),
    "component.source": ("数据源", "Source"),
    "strategy.append": ("追加", "append"),
    "strategy.updated": ("按更新时间", "by update time"),
    "strategy.rescan": ("重新扫描", "scan again"),
    "strategy.auto": ("自动", "auto"),
    "strategy.full": ("全量", "all rows"),
    "self.needs": ("需要映射", "needs"),
}
router = APIRouter(include_in_schema=False)
#: The job that computes the statistics.
TICK = "minute_tick_job"


@router.get("/self")
def page(request: Request) -> Response:
    """The page."""
    view = View(request)
    services = services_of(request)
    data = summaries.self_state(services)
    ticks = None
    try:
        with services.published.look() as look:
            ticks = next((row for row in jobs.figures(look, [jobs.SELF]) if row["job_id"] == TICK), None)
    except LakeMissing:
        ticks = None
    return render(
        request, "self.html", title=view.t("self.title"), as_of=data["as_of"], view=view, data=data,
        components=health.component_states(services, view.now), ticks=ticks, tick=TICK,
    )  # fmt: skip


@router.get("/self/anomalies")
def listed_anomalies(request: Request, page: PageParam, source: SourceParam = None, kind: KindParam = None) -> Response:
    """Anomalies by day with the newest of each, of a source and kind or of all."""
    view = View(request)
    services = services_of(request)
    rows: list[dict[str, Any]] = []
    total, count, as_of = 0, 0, None
    try:
        with services.published.look() as look:
            as_of = look.as_of
            chosen = chosen_sources(services, source or None)
            rows, total, count = anomalies.of_days(look, chosen, kind or None, page.offset, page.size)
    except LakeMissing:
        rows = []
    return render(
        request, "anomalies.html", title=view.t("self.anomalies_listed", n=view.number(count)), as_of=as_of, view=view,
        page=page.wrap(rows, total), source=source, kind=kind, query={"source": source, "kind": kind},
    )  # fmt: skip

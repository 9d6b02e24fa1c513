"""Task monitor: what runs and waits, all tasks with filters, one task with its history (S-812)."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api.pages.base import View, render
from monitoring_pipelines.api.params import FromParam, PageParam, SourceParam, ToParam, chosen_sources, window
from monitoring_pipelines.api.routes.tasks import OLDEST_FIRST, SortParam, TaskKey, found_task, shaped
from monitoring_pipelines.api.services import services_of
from monitoring_pipelines.api.summaries import index_of, live_totals, task_totals
from monitoring_pipelines.entities import TASK_STATUSES
from monitoring_pipelines.published import one_task, tasks
from monitoring_pipelines.published.overview import task_counters
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.warehouse.lake import LakeMissing

STRINGS = {
    "tasks.title": ("任务监控", "Task monitor"),
    "tasks.active": ("活跃任务", "Active tasks"),
    "tasks.active_note": (
        "运行中 {running} · 排队中 {queued} · 泄漏 {leaked}",
        "Running {running} · queued {queued} · leaked {leaked}",
    ),
    "tasks.total": ("总任务数", "Total"),
    "tasks.total_note": (
        "完成 {completed} · 失败 {failed} · 超时 {timeout}",
        "Completed {completed} · failed {failed} · timeout {timeout}",
    ),
    "tasks.success": ("成功率", "Success rate"),
    "tasks.success_note": ("完成 /（完成 + 失败 + 超时）", "completed / (completed + failed + timeout)"),
    "tasks.duration": ("平均耗时", "Avg duration"),
    "tasks.duration_note": ("已完成的执行", "completed attempts"),
    "tasks.key": ("文本ID / 任务ID", "Text / task id"),
    "tasks.stage": ("阶段", "Stage"),
    "tasks.started": ("开始时间", "Started"),
    "tasks.running_for": ("已运行", "Running for"),
    "tasks.took": ("耗时", "Took"),
    "tasks.endpoint": ("端点", "Endpoint"),
    "tasks.worker": ("工作器", "Worker"),
    "tasks.show": ("显示", "Show"),
    "tasks.show_all": ("全部", "All"),
    "tasks.show_failed": ("仅失败·超时", "Failed/timeout only"),
    "tasks.show_active": ("处理中", "Processing"),
    "tasks.output": ("输出", "Output"),
    "tasks.output_all": ("全部", "All"),
    "tasks.output_yes": ("已生成", "Generated"),
    "tasks.output_no": ("未生成", "Not generated"),
    "tasks.outputs": ("输出", "Outputs"),
    "tasks.window": ("创建于 {start} 至 {end}", "Created {start} to {end}"),
    "tasks.any_time": ("不限时间", "At any time"),
    "tasks.none_active": ("暂无活跃任务", "No active tasks"),
    "tasks.none": ("没有符合条件的任务", "No task matches"),
    "tasks.attempts": ("执行", "Attempts"),
    "tasks.attempt": ("第几次", "Attempt"),
    "tasks.enqueued": ("入队", "Enqueued"),
    "tasks.ended": ("结束", "Ended"),
    "tasks.outcome": ("结果", "Outcome"),
    "tasks.wait": ("等待", "Wait"),
    "tasks.timeline": ("时间线", "Timeline"),
    "tasks.what": ("事件", "What"),
    "tasks.anomalies": ("异常", "Irregularities"),
    "tasks.remote": ("远程 ID", "Remote id"),
    "tasks.created": ("创建", "Created"),
    "tasks.error": ("错误", "Error"),
    "tasks.raw": ("来源状态", "Source's status"),
    "tasks.no_output": ("没有有效输出", "No valid output"),
    "tasks.size": ("大小（字节）", "Size (bytes)"),
    "tasks.valid": ("有效", "Valid"),
    "tasks.origin": ("来源", "Origin"),
    "tasks.nothing_more": ("没有记录", "Nothing recorded"),
    "tasks.attempt_of": ("第 {n} 次执行", "attempt {n}"),
    "happened.assigned": ("分配", "Assigned"),
    "happened.completed": ("完成", "Completed"),
    "happened.failed": ("失败", "Failed"),
    "happened.timeout": ("超时", "Timed out"),
    "happened.cancelled": ("取消", "Cancelled"),
    "happened.orphaned": ("工作器丢失", "Orphaned"),
    "happened.requeued": ("重新排队", "Requeued"),
    "happened.created": ("创建", "Created"),
    "happened.queued": ("排队", "Queued"),
    "happened.started": ("开始", "Started"),
    "happened.ended": ("结束", "Ended"),
    "happened.output_created": ("写入输出", "Output written"),
    "happened.attempt_started": ("执行开始", "Attempt started"),
    "happened.attempt_completed": ("执行完成", "Attempt completed"),
    "happened.attempt_failed": ("执行失败", "Attempt failed"),
    "happened.attempt_timeout": ("执行超时", "Attempt timed out"),
    "happened.attempt_cancelled": ("执行取消", "Attempt cancelled"),
    "happened.attempt_lost": ("执行丢失", "Attempt lost"),
    "outcome.completed": ("完成", "Completed"),
    "outcome.failed": ("失败", "Failed"),
    "outcome.timeout": ("超时", "Timeout"),
    "outcome.cancelled": ("取消", "Cancelled"),
    "outcome.lost": ("丢失", "Lost"),
    "outcome.open": ("进行中", "Open"),
    "origin.app": ("业务程序", "the platform"),
    "origin.repair": ("修复", "a repair"),
    "origin.placeholder": ("占位", "a placeholder"),
    "origin.inline": ("任务行", "the task row"),
    "tasks.inline": ("任务行中的输出", "output in the task row"),
    "yes.true": ("是", "Yes"),
    "yes.false": ("否", "No"),
}
router = APIRouter(include_in_schema=False)
TONES = {"succeeded": "good", "failed": "bad", "timed_out": "bad", "running": "warning", "queued": "warning"}
#: What the list shows: the filters people use, then one status alone, to which its count leads.
SHOWN: dict[str, tuple[str, ...]] = {"active": ("running", "queued"), "failed": ("failed", "timed_out"), "all": ()}
SHOWN |= {f"status_{word}": (word,) for word in TASK_STATUSES}
Show = Annotated[str, Query(pattern=f"^({'|'.join(SHOWN)})$")]


@router.get("/tasks")
def listed(
    request: Request, page: PageParam, source: SourceParam = None,
    show: Show = "active", output: Literal["all", "yes", "no"] = "all",
    endpoint: Annotated[str | None, Query(max_length=255)] = None,
    q: Annotated[str | None, Query(max_length=200)] = None, start: FromParam = None, end: ToParam = None,
    sort: SortParam = None,
) -> Response:  # fmt: skip
    """The list; filters and total are the server's, so they survive restarts."""
    view = View(request)
    services = services_of(request)
    first, last = window(start or None, end or None, services.clock.now())
    chosen = chosen_sources(services, source or None)
    has_output = {"yes": True, "no": False}.get(output)
    wanted = tasks.TaskFilter(tuple(chosen), SHOWN[show], (), endpoint or None, q or None, has_output, first, last)
    found: list[dict[str, Any]] = []
    total, as_of = 0, None
    cards: list[dict[str, Any]] = []
    try:
        with services.published.look() as look:
            index, as_of = index_of(services), look.as_of
            found, total = index.list_page(look, wanted, page.offset, page.size, oldest_first=sort == OLDEST_FIRST)
            able = [name for name in chosen if name != "_self" and services.settings.source(name).mapped("task")]
            cards = [counters(view, look, name) for name in able]
    except LakeMissing:
        found = []
    return render(
        request, "tasks.html", title=view.t("tasks.title"), as_of=as_of, view=view, refresh="tasks", tones=TONES,
        page=page.wrap(found, total), cards=cards, source=source, show=show, output=output, endpoint=endpoint or "", q=q or "",
        statuses=SHOWN[show], shown=SHOWN, has_output=None if has_output is None else str(has_output).lower(),
        during=view.span_said("tasks.window", first, last), sort=sort,
        query={"source": source, "show": show, "output": output, "endpoint": endpoint, "q": q, "from": start, "to": end,
               "sort": sort},
    )  # fmt: skip


def counters(view: View, look: Look, name: str) -> dict[str, Any]:
    """The cards of one source."""
    totals = task_totals(view.services, look, name)
    source = view.services.settings.source(name)
    found = task_counters(totals, source)
    statuses = live_totals(view.services, look, name)
    # Where executors cannot report, every task that ever timed out stays leaked (C-330): no news, so not red.
    leaks = bool(source.mapped("task_event") or source.mapped("worker_snapshot")) and found["slots"]["leaked"] > 0
    return {
        "source": name, "counters": found, "leaks": leaks, "total": sum(statuses.values()), "queued": statuses.get("queued", 0),
        "mean_s": tasks.mean_execution_s(totals),
    }  # fmt: skip


@router.get("/tasks/{task_key:path}")
def one(request: Request, task_key: TaskKey, source: SourceParam = None) -> Response:
    """One task: facts, attempts, outputs, everything that happened."""
    view = View(request)
    services = services_of(request)
    with services.published.look() as look:
        task = found_task(services, look, task_key, source or None)
        as_of = look.as_of
    return render(
        request, "task.html", title=task_key, as_of=as_of, view=view, tones=TONES, timeline=one_task.timeline(task),
        happened=partial(happened, view), output_name=output_name,
        source=task["source_id"], **shaped(task),
    )  # fmt: skip


def output_name(view: View, name: str | None, key: str) -> str:
    """What an output is called; one that is a column of its task has neither name nor key of its own."""
    return name or (view.t("tasks.inline") if key.startswith("inline ") else key)


def happened(view: View, line: dict[str, Any]) -> list[str]:
    """The parts of one line of a task's timeline; what the source itself wrote stands as it is."""
    detail = line["detail"]
    if line["kind"] == "attempt":
        detail = view.t("tasks.attempt_of", n=detail.removeprefix("attempt "))
    elif line["kind"] == "output":
        detail = output_name(view, None, detail)
    group = "anomaly" if line["kind"] == "anomaly" else "happened"
    return [text for text in (view.word(group, line["what"]), line["worker_key"], detail) if text]

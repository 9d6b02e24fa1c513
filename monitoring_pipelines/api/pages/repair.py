"""Repair: plans, one plan with its rows, approval, runs, rollback and journal (S-814)."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api.pages.base import View, render
from monitoring_pipelines.api.params import PageParam, SourceParam, chosen_sources
from monitoring_pipelines.api.routes.repair import (
    PLAN_STATES,
    ItemSort,
    JournalSort,
    ObjectId,
    PlanSort,
    PlanState,
    found_run,
    whole_plan,
)
from monitoring_pipelines.api.services import Services, services_of
from monitoring_pipelines.compensation.model import CLASSES, ItemState, RowOutcome
from monitoring_pipelines.compensation.plan import masked_uri
from monitoring_pipelines.compensation.target import why_not_repairable
from monitoring_pipelines.state import repair as stored

STRINGS = {
    "repair.title": ("修复", "Repair"),
    "repair.none_found": ("没有符合条件的修复计划", "No repair plan matches"),
    "repair.none": ("没有修复计划", "No repair plans"),
    "repair.plan": ("计划", "Plan"),
    "repair.new": ("新建计划", "New plan"),
    "repair.new_note": (
        "计划列出最近 {hours} 小时缺失的输出以及将插入的行，不写入数据源。",
        "A plan lists what was lost in the last {hours} h and the rows that would be inserted. It writes nothing to the source.",
    ),
    "repair.make": ("制定修复计划", "Make a repair plan"),
    "repair.new_confirm": (
        "为 {source} 最近 {hours} 小时的缺失输出制定计划？不写入数据源。",
        "Plan what {source} lost in the last {hours} h? Nothing is written to the source.",
    ),
    "repair.cannot": ("无法在此修复：{why}", "Cannot be repaired here: {why}"),
    "repair.why_no_recoverer": (
        "尚未配置结果来源（repair.recoverers）",
        "no recoverer is configured (repair.recoverers)",
    ),
    "repair.why_no_output_table": (
        "输出是任务行中的一列，或分布在多个表中，无法插入",
        "its outputs are a column of the task row or in several tables, and cannot be inserted",
    ),
    "repair.why_insert_mapping": (
        "repair.insert 未说明如何填写输出表",
        "repair.insert does not say what fills its output table",
    ),
    "repair.created": ("创建", "Created"),
    "repair.by": ("创建人", "By"),
    "repair.window": ("时间范围", "Window"),
    "repair.mode": ("模式", "Mode"),
    "repair.candidates": ("候选任务", "Candidates"),
    "repair.eligible": ("可修复", "Eligible"),
    "repair.rows": ("计划行数", "Rows planned"),
    "repair.inserted": ("已插入行", "Rows inserted"),
    "repair.committed": ("已提交任务", "Tasks committed"),
    "repair.class": ("分类", "Class"),
    "repair.classes": ("分类合计（{n} = 候选任务数）", "Classes (their sum is {n}, the candidates)"),
    "repair.approve": ("批准", "Approve"),
    "repair.reject": ("拒绝", "Reject"),
    "repair.apply": ("应用", "Apply"),
    "repair.resume": ("恢复", "Resume"),
    "repair.verify": ("验证", "Verify"),
    "repair.rollback": ("回滚", "Roll back"),
    "repair.preview": ("回滚预览", "Preview of the rollback"),
    "repair.confirm_approve": ("批准计划 {id}：{rows} 行？", "Approve plan {id} with {rows} rows?"),
    "repair.confirm_reject": ("拒绝计划 {id}？", "Reject plan {id}?"),
    "repair.confirm_apply": (
        "将 {rows} 行写入 {source} 的数据库？",
        "Write {rows} rows into the database of {source}?",
    ),
    "repair.confirm_resume": ("继续运行 {id}？", "Resume run {id}?"),
    "repair.confirm_rollback": ("删除运行 {id} 插入的行？", "Delete the rows that run {id} inserted?"),
    "repair.why_state": ("计划状态为 {state}", "The plan is {state}"),
    "repair.why_run": ("运行状态为 {state}", "The run is {state}"),
    "repair.approved": ("{who} 于 {at} 批准", "Approved by {who} at {at}"),
    "repair.aborted": ("中止原因：{why}", "Aborted: {why}"),
    "repair.runs": ("运行", "Runs"),
    "repair.no_runs": ("尚未运行", "Not run yet"),
    "repair.run": ("运行", "Run"),
    "repair.kind": ("种类", "Kind"),
    "repair.dry": ("演练", "Dry run"),
    "repair.counters": ("计数", "Counters"),
    "repair.items": ("任务与计划行", "Tasks and proposed rows"),
    "repair.task": ("任务", "Task"),
    "repair.remote": ("远程状态", "Remote status"),
    "repair.outcome": ("结果", "Outcome"),
    "repair.values": ("计划写入", "Proposed row"),
    "repair.journal": ("日志", "Journal"),
    "repair.no_journal": ("没有写入任何行", "No row was written"),
    "repair.no_row": ("没有这样的行", "No row ended so"),
    "repair.op": ("操作", "Operation"),
    "repair.pk": ("主键", "Primary key"),
    "repair.verification": ("验证结果", "Verification"),
    "repair.report": ("审计报告", "Audit report"),
    "repair.alert": ("所属告警", "Its alert"),
    "repair.share": ("占比", "Share"),
    "repair.confirm_verify": (
        "读回此运行写入的行并与日志比较？不写入。",
        "Read this run's rows back and compare them with the journal? Nothing is written.",
    ),
    "repair.confirm_preview": (
        "预览回滚：逐行说明会发生什么，不删除。",
        "Preview the rollback: says of every row what would happen; removes nothing.",
    ),
    "verified.verified": ("已验证", "Verified"),
    "verified.ok": ("已验证", "Verified"),
    "repair.sum": ("合计", "Sum"),
    "repair.sum_ok": ("各分类之和等于候选任务数 ✓", "The classes add up to the candidates ✓"),
    "repair.sum_wrong": ("各分类之和不等于候选任务数 ✗", "The classes do not add up to the candidates ✗"),
    "repair.next": ("下一步", "Next"),
    "repair.next_ready": ("检查下面的计划行，然后批准。", "Look at the proposed rows below, then approve."),
    "repair.next_approved": ("应用：将已批准的行写入数据源。", "Apply: write the approved rows into the source."),
    "repair.next_run": ("查看最近一次运行的结果。", "See what the newest run did."),
    "repair.next_check": (
        "再检查一次；没有缺失后告警自动恢复：",
        "Check again; the alert ends by itself when nothing is missing any more:",
    ),
    "repair.check_now": ("运行完整检查", "Run a full check"),
    "repair.next_building": (
        "计划正在制定，本页会自动刷新。",
        "The plan is being made; this page refreshes by itself.",
    ),
    "repair.preview_of": ("这是预览，没有删除任何行。", "This is a preview; no row was removed."),
    "repair.preview_sum": ("将删除 {deleted} / {total} 行", "{deleted} of {total} rows would be removed"),
    "repair.removed_sum": ("已删除 {deleted} / {total} 行", "{deleted} of {total} rows were removed"),
    "repair.per_row": ("逐行结果", "Row by row"),
    "repair.of_run": ("所回滚的运行", "Run that is rolled back"),
    "repair.download": ("审计报告", "Audit report"),
    "repair.adds_up": ("计数相符 ✓", "The counters add up ✓"),
    "repair.not_adds_up": ("计数不符 ✗", "The counters do not add up ✗"),
    "repair.verified": ("读回验证", "Read back"),
    "repair.checked_rows": ("已读回 {n} 行", "{n} rows read back"),
    "repair.before_after": ("完整率 {before} → {after}", "Completion {before} → {after}"),
    "class.eligible": ("可修复", "Can be repaired"),
    "class.already_present": ("已有输出", "Output is there already"),
    "class.no_remote_id": ("没有远程 ID", "No remote id"),
    "class.remote_no_output": ("远端没有输出", "Remote has no output"),
    "class.remote_not_ready": ("远端尚未完成", "Remote is not ready"),
    "class.remote_failed": ("远端失败", "Failed at the remote"),
    "class.remote_not_found": ("远端找不到", "Unknown to the remote"),
    "class.auth_error": ("认证失败", "Not authorised"),
    "class.transient_error": ("暂时性错误", "Passing error"),
    "class.validation_failed": ("校验失败", "Failed validation"),
    "class.not_reached": ("未处理到", "Not reached"),
    "itemstate.pending": ("待执行", "Not run yet"),
    "itemstate.committed": ("已提交", "Committed"),
    "itemstate.not_reached": ("未执行", "Not run"),
    "itemstate.failed": ("失败", "Failed"),
    "itemstate.already_present": ("已存在", "Already there"),
    "itemstate.already_done": ("已完成", "Already done"),
    "rowoutcome.deleted": ("删除", "Removed"),
    "rowoutcome.modified_since": ("之后被修改，保留", "Changed since, kept"),
    "rowoutcome.already_absent": ("已不存在", "Gone already"),
    "rowoutcome.blocked_by_reference": ("被引用，保留", "Referenced, kept"),
    "counter.eligible": ("可修复任务", "Tasks that can be repaired"),
    "counter.rows_planned": ("计划行数", "Rows planned"),
    "counter.tasks_committed": ("已提交任务", "Tasks committed"),
    "counter.rows_inserted": ("已插入行", "Rows inserted"),
    "counter.rows_skipped_existing": ("因已存在跳过的行", "Rows skipped, already there"),
    "counter.rows_self_reverted": ("自行撤销的行", "Rows taken back"),
    "counter.duplicates_reported": ("报告的重复", "Duplicates reported"),
    "counter.already_present": ("已有输出的任务", "Tasks with output already"),
    "counter.already_done": ("之前已完成的任务", "Tasks done before"),
    "counter.failed": ("失败", "Failed"),
    "counter.not_reached": ("未处理到的任务", "Tasks not reached"),
    "counter.duration_s": ("用时（秒）", "Took (s)"),
    "counter.remote_calls": ("远端请求数", "Remote requests"),
    "counter.waited_s": ("等待（秒）", "Waited (s)"),
    "repair.applied_sum": (
        "已为 {tasks} 个任务写入 {rows} 行，用时 {took}",
        "{rows} rows were written for {tasks} tasks in {took}",
    ),
    "counter.rows_journaled": ("日志中的行", "Rows in the journal"),
    "counter.deleted": ("删除", "Removed"),
    "counter.modified_since": ("之后被修改，保留", "Changed since, kept"),
    "counter.already_absent": ("已不存在", "Gone already"),
    "counter.blocked_by_reference": ("被引用，保留", "Referenced, kept"),
    "planstate.building": ("制定中", "Building"),
    "planstate.ready": ("待批准", "Ready"),
    "planstate.approved": ("已批准", "Approved"),
    "planstate.applied": ("已应用", "Applied"),
    "planstate.partially_applied": ("部分应用", "Partially applied"),
    "planstate.aborted": ("已中止", "Aborted"),
    "planstate.paused": ("已暂停", "Paused"),
    "planstate.stale": ("已过期", "Stale"),
    "planstate.rejected": ("已拒绝", "Rejected"),
    "planstate.rolled_back": ("已回滚", "Rolled back"),
    "runstate.running": ("进行中", "Running"),
    "runstate.finished": ("完成", "Finished"),
    "runstate.paused": ("已暂停", "Paused"),
    "runstate.locked": ("被锁定", "Locked"),
    "runstate.refused": ("被拒绝", "Refused"),
    "runstate.failed": ("失败", "Failed"),
    "runkind.apply": ("应用", "Apply"),
    "runkind.resume": ("恢复", "Resume"),
    "runkind.verify": ("验证", "Verify"),
    "runkind.rollback": ("回滚", "Rollback"),
}
router = APIRouter(include_in_schema=False, prefix="/repair")
PLAN_TONES = {"ready": "warning", "approved": "warning", "applied": "good", "aborted": "bad", "paused": "warning",
              "partially_applied": "warning"}  # fmt: skip
RUN_TONES = {"finished": "good", "failed": "bad", "refused": "bad", "locked": "warning", "paused": "warning"}
PLAN_HOURS = 72
#: Class of tasks → number of its colour.
CLASS_KINDS = {name: number for number, name in enumerate(("eligible", "already_present", "no_remote_id", "remote_no_output",
               "remote_not_ready", "remote_failed", "remote_not_found"))}  # fmt: skip


@router.get("")
def listed(
    request: Request, page: PageParam, source: SourceParam = None, state: Literal[PlanState, ""] = "",
    sort: PlanSort = None,
) -> Response:  # fmt: skip
    """All plans, newest first unless sorted otherwise."""
    view = View(request)
    services = services_of(request)
    if source:
        chosen_sources(services, source)
    with services.state.read() as con:
        states = [state] if state else []
        rows = stored.list_plans(con, source or None, states, page.size, page.offset, sort)
        total = stored.count_plans(con, source or None, states)
    able = [one.id for one in services.settings.enabled_sources if one.mapped("task_output")]
    whys = {name: why_no_plan(view, name) for name in able}
    return render(
        request, "repair.html", title=view.t("repair.title"), as_of=view.now, view=view, page=page.wrap(rows, total),
        tones=PLAN_TONES, whys=whys, hours=PLAN_HOURS, source=source, state=state, states=PLAN_STATES,
        query={"source": source, "state": state, "sort": sort}, sort=sort,
    )  # fmt: skip


def why_no_plan(view: View, source_id: str) -> str | None:
    """Why nothing of a source can be repaired here, in words; None where a plan can be made."""
    settings = view.services.settings
    word = why_not_repairable(settings, settings.source(source_id))
    return view.t(f"repair.why_{word}") if word else None


@router.get("/plans/{plan_id}")
def plan(
    request: Request, plan_id: ObjectId, page: PageParam,
    item_class: Annotated[str | None, Query(alias="class", max_length=40)] = None, run_state: ItemState | None = None,
    sort: ItemSort = None,
) -> Response:  # fmt: skip
    """One plan."""
    view = View(request)
    services = services_of(request)
    found = whole_plan(services, plan_id)
    chosen = item_class if item_class in CLASSES else None
    with services.state.read() as con:
        items = stored.get_items(con, plan_id, chosen, page.size, page.offset, sort, run_state)
        total = stored.count_items(con, plan_id, chosen, run_state)
    counters = found["counters"] or {}
    classes = counters.get("classes") or {}
    known = [(name, classes[name]) for name in CLASSES if classes.get(name)]
    return render(
        request, "repair_plan.html", title=f"{view.t('repair.plan')} {plan_id}", as_of=view.now, view=view, plan=found,
        counters=counters, classes=known, adds_up=sum(n for _, n in known) == counters.get("candidates"),
        class_kinds=CLASS_KINDS, refresh="tasks" if found["state"] in ("building", "approved") else "default",
        page=page.wrap([masked(item) for item in items], total), tones=PLAN_TONES, run_tones=RUN_TONES, chosen=chosen,
        run_state=run_state, query={"class": chosen, "run_state": run_state, "sort": sort}, sort=sort,
    )  # fmt: skip


def masked(item: dict[str, Any]) -> dict[str, Any]:
    """An item whose proposed rows show links without their query (R-103)."""
    rows = [
        {name: masked_uri(value) if isinstance(value, str) and "://" in value else value
         for name, value in (row.get("values") or row).items()}
        for row in item["rows"] or ()
    ]  # fmt: skip
    return item | {"rows": rows}


@router.get("/runs/{run_id}")
def run(
    request: Request, run_id: ObjectId, page: PageParam, outcome: RowOutcome | None = None, sort: JournalSort = None
) -> Response:
    """One run with its journal."""
    view = View(request)
    services = services_of(request)
    found = found_run(services, run_id)
    with services.state.read() as con:
        rows = stored.journal_rows(con, run_id=run_id, limit=page.size, offset=page.offset, sort=sort)
        total = stored.count_journal(con, run_id)
    leads = lists_of(services, found, total)
    alert_id = whole_plan(services, found["plan_id"])["alert_id"] if found["plan_id"] else None
    detail = found["verification"] or {}
    is_rollback = found["kind"] == "rollback"
    undone = (detail.get("selection") or {}).get("run_id") if is_rollback else run_id
    return render(
        request, "repair_run.html", title=f"{view.t('repair.run')} {run_id}", as_of=view.now, view=view,
        refresh="tasks" if found["state"] == "running" else "default", run=found, page=page.wrap(rows, total), tones=RUN_TONES,
        query={"outcome": outcome, "sort": sort}, sort=sort, alert_id=alert_id, outcome=outcome,
        outcomes=page.cut(ended_in(detail, outcome)) if is_rollback else None,
        undone=undone, leads=leads, verification=None if is_rollback else detail,
    )  # fmt: skip


def ended_in(detail: dict[str, Any], outcome: RowOutcome | None) -> list[dict[str, Any]]:
    """Rows of a rollback, all or those of one outcome."""
    return [row for row in detail.get("rows") or () if outcome is None or row["outcome"] == outcome]


def states_of(services: Services, plan_id: str) -> dict[str, int]:
    """State → number of the tasks of a plan that can be repaired."""
    with services.state.read() as con:
        return stored.count_states(con, plan_id, "eligible")


#: Counter of a run that writes → state of its tasks among those of the plan that can be repaired.
_OF_TASKS: dict[str, ItemState | None] = {
    "eligible": None, "tasks_committed": "committed", "already_present": "already_present", "failed": "failed",
    "not_reached": "not_reached",
}  # fmt: skip


def lists_of(services: Services, run: dict[str, Any], journaled: int) -> dict[str, str]:
    """Counter of a run → the list of what it counts, where one has exactly as many: a later run changes states of tasks."""
    counters, plan_id = run["counters"] or {}, run["plan_id"]
    found = {name: "#journal" for name in ("rows_inserted",) if counters.get(name) == journaled}
    if run["kind"] == "rollback":
        here, detail = f"/repair/runs/{run['run_id']}", run["verification"] or {}
        if counters.get("rows_journaled") == len(ended_in(detail, None)):
            found["rows_journaled"] = f"{here}#rows"
        equal = (name for name in get_args(RowOutcome) if counters.get(name) == len(ended_in(detail, name)))
        return found | {name: f"{here}?outcome={name}#rows" for name in equal}
    if not plan_id:
        return found
    known = services.of_state(("states of items",), partial(states_of, services, plan_id), plan_id)
    for name, state in _OF_TASKS.items():
        if counters.get(name) == (sum(known.values()) if state is None else known.get(state, 0)):
            chosen = {"class": "eligible"} | ({"run_state": state} if state else {})
            found[name] = f"/repair/plans/{plan_id}?{urlencode(chosen)}#items"
    return found

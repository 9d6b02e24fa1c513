"""Check runs: the list, and one run with what each check said of each source and what it found (S-813, S-233).

What belongs here: showing stored runs. What does not: running checks (``routes.checks``).
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response

from monitoring_pipelines.api.answers import missing
from monitoring_pipelines.api.pages import runbooks
from monitoring_pipelines.api.pages.base import View, render
from monitoring_pipelines.api.params import PageParam, SourceParam, chosen_sources
from monitoring_pipelines.api.routes.checks import FindingSort, RunId, SortParam, brief, found_by, whole
from monitoring_pipelines.api.services import services_of
from monitoring_pipelines.state import checks as stored

STRINGS = {
    "checks.title": ("检查记录", "Check runs"),
    "checks.run": ("{type}检查 {at}", "{type} check of {at}"),
    "checks.results": ("各项检查", "Checks"),
    "checks.apart": (
        "不适用的检查：数据源没有提供所需的表或列",
        "Not applicable: the source does not map what these checks need",
    ),
    "checks.check": ("检查项", "Check"),
    "checks.found": ("发现的问题", "Findings"),
    "checks.still_running": ("检查进行中；结束后显示结果", "Still running; what it finds shows when it has ended"),
    "checks.no_result": ("没有结果：检查没有执行完", "No result: it did not run to its end"),
    "checks.nothing_found": ("没有发现问题", "Nothing was found"),
    "checks.figures": ("数值", "Figures"),
    "checks.said": ("说明", "Remark"),
    "checks.window": ("窗口", "Window"),
    "checks.trigger": ("触发方式", "Trigger"),
    "checks.took": ("耗时", "Took"),
    "checks.dagster_run": ("Dagster 运行", "Run of Dagster"),
    "checks.run_by_hand": ("没有：由接口或命令行执行", "none: made by the API or the command line"),
    "checks.run_not_made": ("没有：检查没有执行", "none: it was not executed"),
    "checks.dagster_runs": ("所有此类检查的运行", "all runs of this type of check"),
    "checks.failed_sources": ("无法读取的数据源", "Sources that could not be read"),
    "checks.expectation": ("期望套件结果", "Result of the expectation suite"),
    "checks.stale": ("数据已过期", "on stale data"),
    "checks.none": ("没有检查记录", "No check run matches"),
    "checks.tasks": ("{n} 个任务", "{n} tasks"),
    "checks.alerts": ("此类告警", "Alerts of this kind"),
    "checktype.quick": ("快速", "Quick"),
    "checktype.full": ("完整", "Full"),
    "checktype.deep": ("深度", "Deep"),
    "checktype.manual": ("手动", "Manual"),
    "checktype.report": ("报告", "Report"),
    "checkstatus.passed": ("通过", "Passed"),
    "checkstatus.findings": ("发现问题", "Findings"),
    "checkstatus.not_applicable": ("不适用", "Not applicable"),
    "checkstatus.insufficient_data": ("数据不足", "Too little data"),
    "checkstatus.error": ("错误", "Error"),
    "trigger.schedule": ("定时", "Schedule"),
    "trigger.manual": ("手动", "Manual"),
    "trigger.catchup": ("补跑", "Catch-up"),
    "trigger.api": ("接口", "API"),
    "trigger.asset_check": ("资产检查", "Asset check"),
    "trigger.sensor": ("传感器", "Sensor"),
}
router = APIRouter(include_in_schema=False, prefix="/checks")
RUN_TONES = {"healthy": "good", "issues_detected": "bad", "error": "bad", "missed": "warning", "skipped": "neutral",
             "running": "warning"}  # fmt: skip
RESULT_TONES = {"passed": "good", "findings": "bad", "error": "bad", "insufficient_data": "unknown"}
#: Worst first among the results of a run.
_ORDER = ("error", "findings", "insufficient_data", "passed", "not_applicable")
RunTypes = Literal["", "quick", "full", "deep", "manual", "report"]
Statuses = Literal["", "running", "healthy", "issues_detected", "error", "skipped", "missed"]


@router.get("")
def listed(
    request: Request, page: PageParam, source: SourceParam = None, type: RunTypes = "",  # noqa: A002 - the parameter's name
    status: Statuses = "", sort: SortParam = None,
) -> Response:  # fmt: skip
    """All runs, executed or not, newest first unless sorted otherwise."""
    view = View(request)
    services = services_of(request)
    if source:
        chosen_sources(services, source)
    runs, total = stored.page(
        services.state, run_type=type or None, status=status or None, source_id=source or None, number=page.number,
        size=page.size, sort=sort,
    )  # fmt: skip
    counts = stored.counts_of(services.state, [run.run_id for run in runs])
    rows = [brief(run, counts.get(run.run_id, {})) for run in runs]
    return render(
        request, "checks.html", title=view.t("checks.title"), as_of=view.now, view=view, page=page.wrap(rows, total),
        tones=RUN_TONES, source=source, type=type, chosen=status,
        query={"source": source, "type": type, "status": status, "sort": sort}, sort=sort,
    )  # fmt: skip


@router.get("/{run_id}")
def one(request: Request, run_id: RunId, page: PageParam, sort: FindingSort = None) -> Response:
    """One run with a page of its findings, the gravest first unless sorted otherwise."""
    view = View(request)
    services = services_of(request)
    found = stored.load(services.state, run_id, findings=False)
    if found is None:
        raise missing("unknown check run")
    findings, total = found_by(services, run_id, None, None, sort, page.number, page.size)
    data = whole(services, found)
    counts = stored.counts_of(services.state, [run_id])
    run = brief(found, counts.get(run_id, {}))
    title = view.t("checks.run", type=view.word("checktype", run["type"]), at=view.local(run["scheduled_at"]))
    return render(
        request, "check.html", title=title, as_of=view.now, view=view, refresh="tasks" if run["status"] == "running" else None,
        run=run, results=sorted(data["check_results"], key=_urgency),
        page=page.wrap(findings, total), query={"sort": sort}, sort=sort,
        tones=RUN_TONES, result_tones=RESULT_TONES, flat=flat, runbooks=runbooks.names(),
    )  # fmt: skip


def _urgency(result: dict[str, Any]) -> tuple[int, str, str]:
    known = result["status"] in _ORDER
    return _ORDER.index(result["status"]) if known else 0, result["source_id"], result["check_id"]


def flat(metrics: dict[str, Any] | None) -> list[tuple[str, Any]]:
    """The single figures among metrics; lists and maps stay in the API."""
    return [(name, value) for name, value in (metrics or {}).items() if not isinstance(value, dict | list)][:12]

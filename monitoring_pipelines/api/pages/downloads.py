"""Lists as CSV and Parquet files, with the filters of the page they are linked from (S-804).

What belongs here: one route per list. What does not: the rows (the functions behind pages and API), writing (``files``).
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api import alert_rows, health, partition_rows
from monitoring_pipelines.api.answers import missing as not_found
from monitoring_pipelines.api.pages.alerts import SeverityParam, Show, TypeParam, shown_alerts
from monitoring_pipelines.api.pages.checks import RunTypes, Statuses
from monitoring_pipelines.api.pages.consistency import Figure
from monitoring_pipelines.api.pages.endpoints import RANGES
from monitoring_pipelines.api.pages.files import Kind, file_of, saved
from monitoring_pipelines.api.pages.notifications import ChannelParam, shown_messages
from monitoring_pipelines.api.pages.partitions import Shown as ShownPartitions
from monitoring_pipelines.api.pages.partitions import range_of
from monitoring_pipelines.api.pages.repair import masked
from monitoring_pipelines.api.pages.resources import RANGES as SAMPLE_RANGES
from monitoring_pipelines.api.pages.scheduler import matching
from monitoring_pipelines.api.pages.silences import ShowSilences, shown_silences
from monitoring_pipelines.api.pages.tasks import SHOWN
from monitoring_pipelines.api.pages.tasks import Show as Shown
from monitoring_pipelines.api.params import FromParam, SourceParam, ToParam, chosen_sources, ordered, window
from monitoring_pipelines.api.routes.alerts import (
    MessageKind,
    MessageSort,
    MessageState,
    SearchParam,
    SilenceSort,
    SortParam,
)
from monitoring_pipelines.api.routes.checks import FindingSeverity, FindingSort, brief, found_by
from monitoring_pipelines.api.routes.checks import SortParam as RunSort
from monitoring_pipelines.api.routes.compat_scheduler import COLUMNS as JOB_COLUMNS
from monitoring_pipelines.api.routes.compat_scheduler import Scope, find_job, job_rows
from monitoring_pipelines.api.routes.compat_scheduler import SortParam as JobSort
from monitoring_pipelines.api.routes.completeness import MissingSort, task_rows
from monitoring_pipelines.api.routes.endpoints import COLUMNS as ENDPOINT_COLUMNS
from monitoring_pipelines.api.routes.endpoints import SortParam as EndpointSort
from monitoring_pipelines.api.routes.endpoints import endpoint_rows, owner
from monitoring_pipelines.api.routes.job_runs import (
    CategoryParam,
    OutcomeParam,
    keys_of,
    run_filter,
)
from monitoring_pipelines.api.routes.job_runs import RunSort as JobRunSort
from monitoring_pipelines.api.routes.repair import (
    ItemSort,
    JournalSort,
    PlanSort,
    PlanState,
    found_run,
    whole_plan,
)
from monitoring_pipelines.api.routes.tasks import OLDEST_FIRST
from monitoring_pipelines.api.routes.tasks import SortParam as TaskSort
from monitoring_pipelines.api.services import services_of
from monitoring_pipelines.api.summaries import has_outputs, index_of, self_state
from monitoring_pipelines.compensation.model import CLASSES, ItemState
from monitoring_pipelines.published import endpoints, job_runs, processes, tasks
from monitoring_pipelines.published.anomalies import of_days
from monitoring_pipelines.state import checks as stored_checks
from monitoring_pipelines.state import repair as stored_repair

STRINGS: dict[str, tuple[str, str]] = {}
router = APIRouter(include_in_schema=False, prefix="/download")
#: Rows of one file; its name says so when there are more.
MOST_ROWS = 50_000
Id = Annotated[str, Query(min_length=1, max_length=40)]
Text = Annotated[str | None, Query(max_length=255)]


@router.get("/missing.{kind}")
def missing(
    request: Request, kind: Kind, source: SourceParam = None, hours: Annotated[int, Query(ge=1, le=720)] = 24,
    show: Figure = "missing", sort: MissingSort = None,
) -> Response:  # fmt: skip
    """Tasks without output, or behind another figure of completeness."""
    services = services_of(request)
    able = [
        name for name in chosen_sources(services, source or None) if name != "_self" and has_outputs(services, name)
    ]
    with services.published.look() as look:
        rows, total = task_rows(services, look, show, able, hours, 0, MOST_ROWS, sort)
    return file_of(show, kind, rows, total)


@router.get("/tasks.{kind}")
def listed_tasks(
    request: Request, kind: Kind, source: SourceParam = None, show: Shown = "active",
    output: Literal["all", "yes", "no"] = "all", endpoint: Annotated[str | None, Query(max_length=255)] = None,
    q: Annotated[str | None, Query(max_length=200)] = None, start: FromParam = None, end: ToParam = None,
    sort: TaskSort = None,
) -> Response:  # fmt: skip
    """The task monitor's list."""
    services = services_of(request)
    first, last = window(start or None, end or None, services.clock.now())
    has_output = {"yes": True, "no": False}.get(output)
    wanted = tasks.TaskFilter(
        tuple(chosen_sources(services, source or None)),
        SHOWN[show],
        (),
        endpoint or None,
        q or None,
        has_output,
        first,
        last,
    )
    with services.published.look() as look:
        rows, total = index_of(services).list_page(look, wanted, 0, MOST_ROWS, oldest_first=sort == OLDEST_FIRST)
    return file_of("tasks", kind, rows, total)


@router.get("/alerts.{kind}")
def listed_alerts(
    request: Request, kind: Kind, source: SourceParam = None, show: Show = "all", severity: SeverityParam = None,
    type: TypeParam = None, q: SearchParam = None, sort: SortParam = None,  # noqa: A002 - the parameter's name
) -> Response:  # fmt: skip
    """The alerts of the list."""
    rows, total = shown_alerts(services_of(request), source, show, severity, type, q, sort, 1, MOST_ROWS)
    return file_of("alerts", kind, [alert_rows.shown(row) for row in rows], total)


@router.get("/endpoint.{kind}")
def statistics(
    request: Request, kind: Kind, endpoint: Annotated[str, Query(max_length=255)], source: SourceParam = None,
    range_: Annotated[str, Query(alias="range", pattern="^(1h|6h|24h|7d|30d)$")] = "24h",
) -> Response:  # fmt: skip
    """Statistics of an endpoint in the range its page shows."""
    services = services_of(request)
    with services.published.look() as look:
        name = owner(services, look, endpoint, source or None)
        end = endpoints.closed_through(look, name) or services.clock.now()
        start = end - RANGES[range_]
        grain = endpoints.choose_grain("auto", start, end)
        rows = endpoints.statistics(look, name, endpoint, grain, start, end, fill=True)
    return file_of(f"endpoint_{grain}", kind, rows, len(rows))


@router.get("/endpoints.{kind}")
def listed_endpoints(
    request: Request, kind: Kind, source: SourceParam = None, q: Text = None, sort: EndpointSort = None
) -> Response:
    """The list of endpoints with their newest minute and their last 24 hours."""
    services = services_of(request)
    with services.published.look() as look:
        rows = endpoints.having(endpoint_rows(services, look, chosen_sources(services, source or None)), q or None)
    flat = [
        {name: row[name] for name in ("source_id", "endpoint", "registered_status")}
        | {f"latest_{name}": value for name, value in (row["latest"] or {}).items()}
        | {f"{name}_24h": value for name, value in (row["totals_24h"] or {}).items()}
        for row in ordered(rows, sort, ENDPOINT_COLUMNS)
    ]
    return file_of("endpoints", kind, flat, len(flat))


@router.get("/jobs.{kind}")
def listed_jobs(
    request: Request,
    kind: Kind,
    scope: Scope | None = None,
    q: Text = None,
    category: Text = None,
    sort: JobSort = None,
) -> Response:
    """The jobs of the scheduler page."""
    services = services_of(request)
    with services.published.look() as look:
        rows = ordered(matching(job_rows(services, look, scope), q, category), sort, JOB_COLUMNS)
    return file_of("jobs", kind, rows, len(rows))


@router.get("/job_runs.{kind}")
def runs_of_job(
    request: Request, kind: Kind, job: Annotated[str, Query(min_length=1, max_length=255)], source: SourceParam = None,
    outcome: OutcomeParam = None, start: FromParam = None, end: ToParam = None, sort: JobRunSort = None,
) -> Response:  # fmt: skip
    """The runs of one job."""
    services = services_of(request)
    wanted = run_filter(services, outcome, start, end)
    row = find_job(services, job, source or None)
    with services.published.look() as look:
        rows, total = job_runs.runs(look, [(row["source_id"], job)], 0, MOST_ROWS, sort, wanted)
    return file_of("job_runs", kind, rows, total)


@router.get("/runs.{kind}")
def runs_of_jobs(
    request: Request, kind: Kind, scope: Scope | None = None, category: CategoryParam = None, outcome: OutcomeParam = None,
    start: FromParam = None, end: ToParam = None, sort: JobRunSort = None,
) -> Response:  # fmt: skip
    """The runs of all jobs of a scope or category."""
    services = services_of(request)
    wanted = run_filter(services, outcome, start, end)
    with services.published.look() as look:
        rows, total = job_runs.runs(look, keys_of(services, look, scope, category), 0, MOST_ROWS, sort, wanted)
    return file_of("job_runs", kind, rows, total)


@router.get("/samples.{kind}")
def samples(
    request: Request, kind: Kind, process: Annotated[str, Query(max_length=255)], source: SourceParam = None,
    range_: Annotated[str, Query(alias="range", pattern="^(1h|6h|24h|7d|30d)$")] = "24h",
) -> Response:  # fmt: skip
    """The samples of a process in the range its page shows."""
    services = services_of(request)
    with services.published.look() as look:
        known = processes.newest(look, services.settings, [*chosen_sources(services, source or None), "_self"])
        one = next((row for row in known if row["process_id"] == process), None)
        if one is None:
            raise not_found("unknown process")
        end = one["at"] + timedelta(microseconds=1)
        rows, total = processes.samples(look, one["source_id"], process, end - SAMPLE_RANGES[range_], end, 0, MOST_ROWS)
    return file_of("samples", kind, rows, total)


@router.get("/ingest.{kind}")
def ingest(request: Request, kind: Kind, source: SourceParam = None) -> Response:
    """Rates of every series."""
    services = services_of(request)
    with services.published.look() as look:
        rows = processes.ingest(look, chosen_sources(services, source or None))
    return file_of("ingest", kind, rows, len(rows))


@router.get("/checks.{kind}")
def check_runs(
    request: Request, kind: Kind, source: SourceParam = None, type: RunTypes = "",  # noqa: A002 - the parameter's name
    status: Statuses = "", sort: RunSort = None,
) -> Response:  # fmt: skip
    """Check runs, newest first unless sorted otherwise."""
    services = services_of(request)
    chosen_sources(services, source or None)
    runs, total = stored_checks.page(
        services.state,
        run_type=type or None,
        status=status or None,
        source_id=source or None,
        size=MOST_ROWS,
        sort=sort,
    )
    counts = stored_checks.counts_of(services.state, [run.run_id for run in runs])
    return file_of("check_runs", kind, [brief(run, counts.get(run.run_id, {})) for run in runs], total)


@router.get("/partitions.{kind}")
def partitions(request: Request, kind: Kind, source: SourceParam = None, shown: ShownPartitions = "24h") -> Response:
    """The matrix as one row per partition, those of a table newest first; checks that failed by their names."""
    services = services_of(request)
    start, end, grain = range_of(services.clock.now(), shown)
    with services.published.look() as look:
        found = partition_rows.rows(services, look, chosen_sources(services, source or None), grain, start, end)
    rows = [
        {"source_id": row["source_id"], "table": row["table"]}
        | {name: value for name, value in one.items() if name != "checks"}
        | {"checks": one["checks"]["state"], "checked_at": one["checks"]["checked_at"],
           "failed_checks": ", ".join(failed["check"] for failed in one["checks"]["failed"])}
        for row in found for one in reversed(row["cells"])
    ]  # fmt: skip
    return file_of(f"partitions_{shown}", kind, rows, len(rows))


@router.get("/components.{kind}")
def components(request: Request, kind: Kind) -> Response:
    """The product's own components and their states."""
    services = services_of(request)
    found = sorted(health.component_states(services, services.clock.now()).items())
    rows = [{"component": name, "status": row["status"]} | row for name, row in found]
    return file_of("components", kind, rows, len(rows))


@router.get("/extraction.{kind}")
def extraction(request: Request, kind: Kind, source: SourceParam = None) -> Response:
    """Tables that are extracted: strategy, rows, last success and error."""
    services = services_of(request)
    chosen = chosen_sources(services, source or None)
    known = self_state(services)["sources"]
    rows = [{"source_id": one["id"]} | row for one in known if one["id"] in chosen for row in one["tables"]]
    return file_of("extraction", kind, rows, len(rows))


@router.get("/anomalies.{kind}")
def anomalies(request: Request, kind: Kind) -> Response:
    """Anomalies of the data by source and kind."""
    rows = self_state(services_of(request))["anomalies"]
    return file_of("anomalies", kind, rows, len(rows))


@router.get("/anomaly_days.{kind}")
def anomaly_days(
    request: Request, kind: Kind, source: SourceParam = None, about: Annotated[Text, Query(alias="kind")] = None
) -> Response:
    """Anomalies by kind, table and day, with the keys of the newest."""
    services = services_of(request)
    with services.published.look() as look:
        rows, total, _ = of_days(look, chosen_sources(services, source or None), about or None, 0, MOST_ROWS)
    flat = [row | {"examples": ", ".join(str(one["key"]) for one in row["examples"])} for row in rows]
    return file_of("anomaly_days", kind, flat, total)


@router.get("/notifications.{kind}")
def notifications(
    request: Request, kind: Kind, channel: ChannelParam = None, state: Literal[MessageState, ""] = "",
    about: Annotated[Literal[MessageKind, ""], Query(alias="kind")] = "", sort: MessageSort = None,
) -> Response:  # fmt: skip
    """Messages of the list."""
    rows, total = shown_messages(services_of(request), channel, state, about, sort, 1, MOST_ROWS)
    return file_of("notifications", kind, [alert_rows.message(row) for row in rows], total)


@router.get("/silences.{kind}")
def silences(request: Request, kind: Kind, show: ShowSilences = "active", sort: SilenceSort = None) -> Response:
    """Silences of the list."""
    rows, total = shown_silences(services_of(request), show, sort, 1, MOST_ROWS)
    return file_of("silences", kind, rows, total)


@router.get("/findings.{kind}")
def findings(
    request: Request, kind: Kind, run: Id, severity: FindingSeverity = None, source: SourceParam = None,
    sort: FindingSort = None,
) -> Response:  # fmt: skip
    """What a check run found, the gravest first unless sorted otherwise."""
    services = services_of(request)
    rows, total = found_by(services, run, severity, source, sort, 1, MOST_ROWS)
    return file_of("findings", kind, rows, total)


@router.get("/plans.{kind}")
def plans(
    request: Request, kind: Kind, source: SourceParam = None, state: Literal[PlanState, ""] = "", sort: PlanSort = None
) -> Response:  # fmt: skip
    """Repair plans, newest first unless sorted otherwise."""
    chosen_sources(services_of(request), source or None)
    states = [state] if state else []
    with services_of(request).state.read() as con:
        rows = stored_repair.list_plans(con, source or None, states, MOST_ROWS, sort=sort)
        total = stored_repair.count_plans(con, source or None, states)
    return file_of("repair_plans", kind, rows, total)


@router.get("/plan_items.{kind}")
def plan_items(
    request: Request, kind: Kind, plan: Id,
    item_class: Annotated[Literal[(*CLASSES, "")], Query(alias="class")] = "",  # type: ignore[valid-type]
    run_state: ItemState | None = None, sort: ItemSort = None,
) -> Response:  # fmt: skip
    """Tasks of a plan with their proposed rows; links without their query (R-103)."""
    services = services_of(request)
    whole_plan(services, plan)
    with services.state.read() as con:
        rows = stored_repair.get_items(con, plan, item_class or None, MOST_ROWS, 0, sort, run_state)
        total = stored_repair.count_items(con, plan, item_class or None, run_state)
    return file_of("plan_items", kind, [masked(row) for row in rows], total)


@router.get("/journal.{kind}")
def journal(request: Request, kind: Kind, run: Id, sort: JournalSort = None) -> Response:
    """The journal of a repair run."""
    services = services_of(request)
    found_run(services, run)
    with services.state.read() as con:
        rows = stored_repair.journal_rows(con, run_id=run, limit=MOST_ROWS, sort=sort)
        total = stored_repair.count_journal(con, run)
    return file_of("journal", kind, rows, total)


@router.get("/report/{run_id}.{kind}")
def report(request: Request, run_id: str, kind: Literal["md", "json"]) -> Response:
    """The audit report of a repair run as it is now (R-910)."""
    from monitoring_pipelines.compensation.report import collect, markdown
    from monitoring_pipelines.state.types import canonical_json

    services = services_of(request)
    found_run(services, run_id)
    content = json.loads(canonical_json(collect(services.state, run_id)))
    if kind == "md":
        return saved(markdown(content).encode() + b"\n", f"repair_{run_id}.md", "text/markdown; charset=utf-8")
    return saved(
        json.dumps(content, ensure_ascii=False, indent=1).encode(), f"repair_{run_id}.json", "application/json"
    )

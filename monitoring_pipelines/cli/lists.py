"""``mp tasks`` and ``mp jobs``: the lists of the pages on the terminal, from the published files.

What belongs here: options and columns. What does not: the questions (``published``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from monitoring_pipelines.cli.context import Context, Ctx, Whole
from monitoring_pipelines.cli.output import table
from monitoring_pipelines.cli.times import instant
from monitoring_pipelines.errors import UsageError

if TYPE_CHECKING:
    from monitoring_pipelines.published.reader import Published


def _published(ctx: Context) -> Published:
    from monitoring_pipelines.published.reader import Published

    return Published(ctx.settings.lake_path)


def tasks(
    key: str | None = None,
    *,
    status: str | None = None,
    endpoint: str | None = None,
    search: str | None = None,
    without_output: bool = False,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    limit: Whole = 20,
    page: Whole = 1,
    ctx: Ctx,
) -> int:
    """List tasks, newest first; with KEY show one task and everything that happened to it.

    Args:
        key: Task key.
        status: Only these states, comma separated; timeout means timed_out.
        endpoint: Only this endpoint.
        search: Part of the task key or remote id.
        without_output: Only tasks without a valid output.
        from_: Created at or after (UTC).
        to: Created before (UTC).
        limit: Tasks per page.
        page: Page, from 1.
        ctx: Global options.
    """
    from monitoring_pipelines.published.tasks import TaskFilter, TaskIndex, status_words

    if not 1 <= limit <= 10_000 or page < 1:
        raise UsageError("--limit must be 1 to 10000 and --page at least 1")
    sources = tuple(source.id for source in ctx.sources())
    if key is not None:
        return _one_task(ctx, sources, key)
    first, last = (instant(from_, "--from") if from_ else None), (instant(to, "--to") if to else None)
    if first is not None and last is not None and first >= last:
        raise UsageError(f"--from {from_} is not before --to {to}", "--to is exclusive")
    index = TaskIndex()
    with _published(ctx).look() as look:
        known, own = status_words(ctx.settings, look, index, status)
        chosen = TaskFilter(sources, known, own, endpoint, search, False if without_output else None, first, last)
        rows, total = index.list_page(look, chosen, (page - 1) * limit, limit)
        as_of = look.as_of
    data = {"items": rows, "total": total, "page": page, "page_size": limit, "as_of": as_of}

    def text() -> str:
        headers = ["source", "task", "endpoint", "status", "created", "ended", "outputs", "attempts"]
        cells = [[r["source_id"], r["task_key"], r["endpoint"], r["status"], r["created_at"], r["ended_at"], r["outputs"],
                  r["attempts"]] for r in rows]  # fmt: skip
        return f"{table(headers, cells)}\n{len(rows)} of {total:,} tasks, as of {as_of} UTC"

    ctx.emit(data, text)
    return 0


def _one_task(ctx: Context, sources: tuple[str, ...], key: str) -> int:
    from monitoring_pipelines.published.one_task import find, timeline

    with _published(ctx).look() as look:
        found = find(look, sources, key)
        as_of = look.as_of
    if not found:
        raise UsageError(f"no task {key!r}", "task keys are compared byte by byte; `mp tasks --search` finds parts")
    if len(found) > 1:
        names = ", ".join(row["source_id"] for row in found)
        raise UsageError(f"{key!r} exists in several sources: {names}", "name one with --source")
    task = found[0]
    lines = timeline(task)

    def text() -> str:
        head = (
            f"{task['source_id']} {task['task_key']}: {task['status']}, {task['endpoint']}, {task['outputs']} outputs"
        )
        cells = [[line["at"], line["kind"], line["what"], line["worker_key"], line["detail"]] for line in lines]
        return f"{head}\n\n{table(['at', 'kind', 'what', 'worker', 'detail'], cells)}\nas of {as_of} UTC"

    ctx.emit({"task": task, "timeline": lines, "as_of": as_of}, text)
    return 0


def jobs(job: str | None = None, *, scope: str = "auto", limit: Whole = 20, ctx: Ctx) -> int:
    """List scheduled jobs with their figures; with JOB show its newest runs. Exit code 1 if a job's last run failed.

    Args:
        job: Id of a job.
        scope: mapped (jobs of the sources), self (of the product), all, or auto.
        limit: Runs to show with JOB.
        ctx: Global options.
    """
    from monitoring_pipelines.published import jobs as published_jobs

    mapped = [source.id for source in ctx.sources() if source.mapped("job") or source.mapped("job_run")]
    scopes = {"mapped": mapped, "self": [published_jobs.SELF], "all": [*mapped, published_jobs.SELF]}
    if scope not in (*scopes, "auto"):
        raise UsageError(f"unknown scope {scope!r}", "mapped, self, all or auto")
    names = scopes[scope if scope != "auto" else "mapped" if mapped else "self"]
    with _published(ctx).look() as look:
        if job is not None:
            return _one_job(ctx, look, job, limit, scopes["all"])
        # Registered jobs that never ran are listed, as in the API (S-423).
        rows = published_jobs.with_own(published_jobs.figures(look, names), ctx.settings, names)
        overview = published_jobs.overview(rows)

    def text() -> str:
        headers = ["source", "job", "success", "failure", "rate %", "avg ms", "p95 ms", "last run", "status"]
        cells = [[r["source_id"], r["job_id"], r["success_count"], r["failure_count"], r["success_rate"],
                  r["avg_duration_ms"], r["p95_duration_ms"], r["last_timestamp"], r["last_status"]] for r in rows]  # fmt: skip
        return table(headers, cells)

    ctx.emit({"jobs": rows, "overview": overview}, text)
    return 1 if any(row["last_status"] in ("failure", "timeout") for row in rows) else 0


def _one_job(ctx: Context, look: Any, job: str, limit: int, names: list[str]) -> int:
    from monitoring_pipelines.published import job_runs
    from monitoring_pipelines.published import jobs as published_jobs

    found = [row for row in published_jobs.figures(look, names) if row["job_id"] == job]
    if not found:
        raise UsageError(f"no job {job!r}", "`mp jobs --scope all` lists them")
    runs, total = job_runs.runs(look, [(found[0]["source_id"], job)], 0, limit)

    def text() -> str:
        headers = ["started", "ended", "ms", "outcome", "trigger", "error"]
        cells = [[r["started_at"], r["ended_at"], r["duration_ms"], r["outcome"], r["trigger"], r["error_message"]]
                 for r in runs]  # fmt: skip
        return f"{table(headers, cells)}\n{len(runs)} of {total:,} runs"

    ctx.emit({"job": found[0], "runs": runs, "total": total}, text)
    return 0

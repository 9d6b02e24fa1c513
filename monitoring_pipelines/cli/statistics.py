"""``mp aggregate``, ``mp rebuild``, ``mp stats``: computing and showing statistics by hand.

What belongs here: options and wording. What does not: computing (``pipeline``, ``rebuild``) and the published files
(``published``).
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from monitoring_pipelines.cli.context import Context, Ctx
from monitoring_pipelines.cli.output import table, write
from monitoring_pipelines.cli.times import DAY, instant, span
from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.warehouse.families import FAMILIES

if TYPE_CHECKING:
    from monitoring_pipelines.pipeline import Pipeline, WindowDone
    from monitoring_pipelines.published.reader import Look

HOUR = timedelta(hours=1)
Grain = Literal["minute", "hour", "day"]
FamilyName = Literal["endpoint", "output", "job", "resource", "ingest", "notification"]
_BUCKET = {"minute": "stat_minute", "hour": "stat_hour", "day": "stat_date"}
_DEFAULT_SPAN = {"minute": HOUR, "hour": DAY, "day": 14 * DAY}
#: Shown without ``--json`` after source and bucket; absent ones are left out.
_SHOWN: dict[str, tuple[str, ...]] = {
    "endpoint": (
        "tasks_submitted", "tasks_completed", "tasks_failed", "tasks_timeout", "success_rate", "avg_queue_wait_ms",
        "p95_queue_wait_ms", "avg_execution_ms", "p95_execution_ms", "queue_depth_end", "total_workers",
        "avg_worker_utilization",
    ),
    "output": (
        "total_tasks", "success_tasks", "tasks_with_outputs", "missing_count", "completion_rate", "total_outputs",
        "duplicate_rows", "invalid_outputs", "avg_outputs_per_task", "outputs_created", "outputs_created_repair",
    ),
    "job": (
        "success_count", "failure_count", "timeout_count", "success_rate", "missed_count", "skipped_count",
        "avg_duration_ms", "p95_duration_ms", "max_duration_ms", "sla_violations", "last_outcome",
    ),
    "resource": (
        "avg_rss_bytes", "max_rss_bytes", "avg_cpu_pct", "max_cpu_pct", "avg_fds", "max_fds", "avg_conns",
        "avg_threads", "restarts", "samples_received", "samples_expected",
    ),
    "ingest": ("series", "increase", "error_increase", "rate_per_s", "success_rate", "samples", "resets", "gaps"),
    "notification": (
        "created", "sent", "abandoned", "attempts_ok", "attempts_failed", "success_rate", "avg_latency_ms",
        "p95_latency_ms", "repeats", "resolves",
    ),
}  # fmt: skip


def aggregate(
    *,
    ctx: Ctx,
    grain: Grain | None = None,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    endpoint: str | None = None,
) -> int:
    """Compute the statistics that are due, or exactly those of a range; the result equals the schedule's (M-805).

    Args:
        ctx: Global options.
        grain: With a range: minute, hour or day (default: all).
        from_: Start of the range, UTC: 2026-02-01 or 2026-02-01T10:00:00Z.
        to: End of the range, exclusive.
        endpoint: Show the rows of this endpoint afterwards.
    """
    from monitoring_pipelines import pipeline

    if (from_ is None) != (to is None):
        raise UsageError("--from and --to belong together", "give both, or neither for what is due")
    if from_ and to:
        span(from_, to, DAY if grain == "day" else HOUR)  # before anything is computed
    ctx.warehouse(must_exist=True)
    pipe = pipeline.Pipeline.of(ctx.settings, ctx.clock)
    pipeline.refresh_core(pipe)
    windows = _range(pipe, grain, from_, to) if from_ and to else pipeline.compute_due(pipe).windows
    manifest = pipeline.publish_pending(pipe, everything=True).manifest
    data: dict[str, Any] = {"windows": [asdict(w) for w in windows], "published_version": manifest.version}
    if endpoint is not None:
        start = min((w.start for w in windows), default=ctx.clock.now() - DAY)
        end = max((w.end for w in windows), default=ctx.clock.now())
        data["rows"] = _rows(ctx, endpoint, grain or "hour", start, end)
    ctx.emit(data, lambda: _windows_text(windows) + (f"\n\n{_rows_text(data['rows'])}" if endpoint else ""))
    return 0


def _range(pipe: Pipeline, grain: Grain | None, from_: str, to: str) -> list[WindowDone]:
    from monitoring_pipelines import pipeline
    from monitoring_pipelines.warehouse.families import DAY_TABLES

    done: list[WindowDone] = []
    if grain != "day":
        start, end = span(from_, to, HOUR)
        tables = [
            family.table(name) for family in FAMILIES.values() for name in ("minute", "hour") if grain in (None, name)
        ]
        for part in pipeline.compute_range(pipe, tables, start, end):
            done += part
    if grain in (None, "day"):
        start, end = span(from_, to, DAY)
        for part in pipeline.compute_range(pipe, DAY_TABLES, start, end):
            done += part
    return done


def _windows_text(windows: list[WindowDone]) -> str:
    if not windows:
        return "nothing was due"
    rows = [[w.table, w.start, w.end, w.rows, w.restated] for w in windows]
    return table(["table", "from", "to", "rows", "restated"], rows)


def rebuild(
    *,
    ctx: Ctx,
    from_: Annotated[str, Parameter(name="--from")],
    to: str,
) -> int:
    """Compute the statistics of a range again from stored rows: core, minutes, hours, days. Equal values stay.

    Args:
        ctx: Global options.
        from_: Start of the range, UTC: 2026-02-01 or 2026-02-01T10:00:00Z.
        to: End of the range, exclusive.
    """
    from monitoring_pipelines.pipeline import Pipeline
    from monitoring_pipelines.rebuild import rebuild as run

    start, end = span(from_, to, HOUR)
    ctx.warehouse(must_exist=True)
    done = run(Pipeline.of(ctx.settings, ctx.clock), start, end, (lambda text: None) if ctx.json else write)
    data = {"tasks": done.tasks, "workers": done.workers, "windows": len(done.windows), "rows_restated": done.restated,
            "seconds": round(done.seconds, 3)}  # fmt: skip
    ctx.emit(data, f"{len(done.windows):,} windows, {done.restated:,} rows restated, {done.seconds:.1f} s")
    return 0


def stats(
    subject: str,
    /,
    *,
    ctx: Ctx,
    family: FamilyName = "endpoint",
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    granularity: Grain = "hour",
) -> int:
    """Show the statistics of one endpoint, or with --family of a job, process or channel, from the published files.

    Args:
        ctx: Global options.
        subject: Name, exactly as in the source: an endpoint (endpoint, output), a job, a process (resource, ingest) or
            a channel (notification).
        family: Which statistics.
        from_: Start, UTC (default: an hour, a day or two weeks before the end).
        to: End, exclusive (default: now).
        granularity: minute, hour or day.
    """
    end = instant(to, "--to") if to else ctx.clock.now()
    start = instant(from_, "--from") if from_ else end - _DEFAULT_SPAN[granularity]
    if start >= end:
        raise UsageError("--from is not before --to", "--to is exclusive")
    rows = _rows(ctx, subject, granularity, start, end, family)
    kind = FAMILIES[family].subject[0]
    data = {"family": family, kind: subject, "granularity": granularity, "rows": rows}
    ctx.emit(data, lambda: _rows_text(rows, family))
    return 0


def _rows(
    ctx: Context, subject: str, grain: str, start: datetime, end: datetime, family: FamilyName = "endpoint"
) -> list[dict[str, Any]]:
    """Published rows of one subject whose bucket starts in [start, end), oldest first."""
    from monitoring_pipelines.published.reader import Published

    chosen = FAMILIES[family]
    name, bucket, kind = chosen.table(grain), _BUCKET[grain], chosen.subject[0]
    sources = [source.id for source in ctx.sources()] if ctx.source else []
    with Published(ctx.settings.lake_path).look() as look:
        if not look.has(name):
            return []
        rows = look.rows(
            f"SELECT * FROM {look.table(name, start, end)} WHERE {kind} = $subject AND {bucket} >= $start "
            f"AND {bucket} < $end AND (len($sources) = 0 OR list_contains($sources, source_id)) "
            f"ORDER BY {', '.join([bucket, 'source_id', *chosen.subject])}",
            {"subject": subject, "start": start, "end": end, "sources": sources},
        )
        if not rows:
            _must_be_known(look, name, kind, subject)
    return rows


def _must_be_known(look: Look, table_name: str, kind: str, subject: str) -> None:
    """UsageError with the nearest names when no row of any time has this subject."""
    from monitoring_pipelines.config.suggest import did_you_mean

    known = [row[0] for row in look.tuples(f"SELECT DISTINCT {kind} FROM {look.table(table_name)} ORDER BY 1")]
    if subject not in known:
        hint = f"known: {', '.join(known[:20])}" if known else "nothing has been computed yet: run `mp aggregate`"
        word = {"job_id": "job", "process_id": "process"}.get(kind, kind)
        raise UsageError(f"no {word} {subject!r}{did_you_mean(subject, known)}", hint)


def _rows_text(rows: list[dict[str, Any]], family: FamilyName = "endpoint") -> str:
    if not rows:
        return "no rows in this range"
    sources = ["source_id"] if len({row["source_id"] for row in rows}) > 1 else []
    wanted = [*sources, *_BUCKET.values(), *_SHOWN[family], "state", "revision"]
    headers = [name for name in wanted if name in rows[0]]
    return table(headers, ([row[name] for name in headers] for row in rows))

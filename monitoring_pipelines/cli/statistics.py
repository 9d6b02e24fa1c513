"""``mp aggregate``, ``mp rebuild``, ``mp stats``: computing and showing statistics by hand.

What belongs here: options and wording. What does not: computing (``pipeline``, ``rebuild``) and the published files
(``warehouse.lake``).
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

if TYPE_CHECKING:
    from monitoring_pipelines.pipeline import Pipeline, WindowDone

HOUR = timedelta(hours=1)
Grain = Literal["minute", "hour", "day"]
_TABLES = {
    "minute": "mart.endpoint_minute_stats",
    "hour": "mart.endpoint_hourly_stats",
    "day": "mart.endpoint_daily_stats",
}
_BUCKET = {"minute": "stat_minute", "hour": "stat_hour", "day": "stat_date"}
_DEFAULT_SPAN = {"minute": HOUR, "hour": DAY, "day": 14 * DAY}
#: Shown without ``--json``; absent ones are left out.
_SHOWN = (
    *_BUCKET.values(), "tasks_submitted", "tasks_completed", "tasks_failed", "tasks_timeout", "success_rate",
    "avg_queue_wait_ms", "p95_queue_wait_ms", "avg_execution_ms", "p95_execution_ms", "queue_depth_end",
    "total_workers", "avg_worker_utilization", "state", "revision",
)  # fmt: skip


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
    from monitoring_pipelines.warehouse.families import DAY_TABLES, FAMILIES

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

    ctx.warehouse(must_exist=True)
    start, end = span(from_, to, HOUR)
    done = run(Pipeline.of(ctx.settings, ctx.clock), start, end, (lambda text: None) if ctx.json else write)
    data = {"tasks": done.tasks, "workers": done.workers, "windows": len(done.windows), "rows_restated": done.restated,
            "seconds": round(done.seconds, 3)}  # fmt: skip
    ctx.emit(data, f"{len(done.windows):,} windows, {done.restated:,} rows restated, {done.seconds:.1f} s")
    return 0


def stats(
    endpoint: str,
    /,
    *,
    ctx: Ctx,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    granularity: Grain = "hour",
) -> int:
    """Show the statistics of one endpoint from the published files.

    Args:
        ctx: Global options.
        endpoint: Name, exactly as in the source.
        from_: Start, UTC (default: an hour, a day or two weeks before the end).
        to: End, exclusive (default: now).
        granularity: minute, hour or day.
    """
    end = instant(to, "--to") if to else ctx.clock.now()
    start = instant(from_, "--from") if from_ else end - _DEFAULT_SPAN[granularity]
    if start >= end:
        raise UsageError("--from is not before --to", "--to is exclusive")
    rows = _rows(ctx, endpoint, granularity, start, end)
    ctx.emit({"endpoint": endpoint, "granularity": granularity, "rows": rows}, lambda: _rows_text(rows))
    return 0


def _rows(ctx: Context, endpoint: str, grain: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Published rows of one endpoint whose bucket starts in [start, end), oldest first."""
    from monitoring_pipelines.config.suggest import did_you_mean
    from monitoring_pipelines.warehouse.lake import Lake

    name = _TABLES[grain]
    lake = Lake(ctx.settings.lake_path)
    if name not in lake.manifest.tables:
        return []
    with lake.connect() as con:
        bucket = _BUCKET[grain]
        where = f"endpoint = ? AND {bucket} >= ? AND {bucket} < ?"
        arguments: list[Any] = [endpoint, start, end]
        if ctx.source:
            where += " AND source_id = ANY(?)"
            arguments.append(ctx.source)
        cursor = con.execute(f"SELECT * FROM {name} WHERE {where} ORDER BY {bucket}, source_id", arguments)
        headers = [column[0] for column in cursor.description or ()]
        rows = [dict(zip(headers, row, strict=True)) for row in cursor.fetchall()]
        if not rows:
            known = [row[0] for row in con.execute(f"SELECT DISTINCT endpoint FROM {name}").fetchall()]
            if endpoint not in known:
                hint = f"known: {', '.join(sorted(known)[:20])}" if known else "nothing has been computed yet"
                raise UsageError(f"no endpoint {endpoint!r}{did_you_mean(endpoint, known)}", hint)
    return rows


def _rows_text(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "no rows in this range"
    headers = [name for name in _SHOWN if name in rows[0]]
    return table(headers, ([row[name] for name in headers] for row in rows))

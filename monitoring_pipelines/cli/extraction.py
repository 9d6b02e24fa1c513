"""``mp extract`` and ``mp reconcile``: reading the sources by hand.

What belongs here: options, repetition and wording. What does not: the reading (``pipeline``, ``source``).
"""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from monitoring_pipelines.cli.context import Context, Ctx
from monitoring_pipelines.cli.output import table, write
from monitoring_pipelines.errors import ProductError, UsageError

if TYPE_CHECKING:
    from monitoring_pipelines.pipeline import Extraction
    from monitoring_pipelines.progress import Progress
    from monitoring_pipelines.source.reconcile import ReconcileResult


def extract(
    *,
    ctx: Ctx,
    once: Annotated[bool, Parameter(negative="")] = False,
    full: Annotated[bool, Parameter(negative="")] = False,
    reset_mark: str | None = None,
) -> int:
    """Read new and changed rows of the sources, every interval_s seconds until Ctrl-C.

    Args:
        ctx: Global options.
        once: One cycle, then stop.
        full: Compare everything within backfill_days again, then go on as usual. Rows that are equal stay as they are.
        reset_mark: Read this source table from its beginning again. Statistics do not change by it (E-602).
    """
    from monitoring_pipelines.pipeline import Pipeline

    sources = [source.id for source in ctx.sources()]
    pipe = Pipeline.of(ctx.settings, ctx.clock)
    if full or reset_mark is not None:
        _forget(ctx, sources, reset_mark)
    while True:
        failed = _cycle(ctx, pipe, sources)
        if once or full or reset_mark is not None:
            return 3 if failed else 0
        time.sleep(ctx.settings.extract.interval_s)


def _cycle(ctx: Context, pipe: Any, sources: list[str]) -> bool:
    from monitoring_pipelines import pipeline

    result = pipeline.extract(pipe, sources)
    ctx.emit(_extraction_data(result), lambda: _extraction_text(result))
    return bool(result.failed)


def _forget(ctx: Context, sources: list[str], src_table: str | None) -> None:
    """Drop marks: of one table, or of whole sources. Rows stay; the next cycle reads them again (E-602)."""
    from monitoring_pipelines.warehouse import counters
    from monitoring_pipelines.warehouse.connect import transaction

    warehouse = ctx.warehouse(must_exist=True)
    condition = "source_id = ANY(?)" + (" AND src_table = ?" if src_table is not None else "")
    arguments: list[Any] = [sources] + ([src_table] if src_table is not None else [])
    with warehouse.writer("reset marks") as con, transaction(con):
        known = con.execute(
            "SELECT DISTINCT src_table FROM meta.extract_mark WHERE source_id = ANY(?) ORDER BY 1", [sources]
        ).fetchall()
        names = [row[0] for row in known]
        if src_table is not None and src_table not in names:
            raise UsageError(f"no mark for table {src_table!r}", f"tables with marks: {', '.join(names) or 'none'}")
        counters.remember(
            con,
            f"SELECT '{counters.EXTRACT_ROWS}', source_id, [src_table], sum(rows_total)::DECIMAL(38,6), NULL::TIMESTAMP "
            f"FROM meta.extract_mark WHERE {condition} GROUP BY source_id, src_table",
            arguments,
        )
        con.execute(f"DELETE FROM meta.extract_mark WHERE {condition}", arguments)


def _extraction_data(result: Extraction) -> dict[str, Any]:
    return {
        "sources": {
            name: {
                "as_of": cycle.as_of,
                "first_load": cycle.first_load,
                "seconds": round(cycle.seconds, 3),
                "paused_s": round(cycle.paused_s, 3),
                "tables": [
                    {"table": src_table, "entity": entity, "strategy": part.strategy, "rows_read": part.rows_read,
                     "inserted": part.written.inserted, "updated": part.written.updated, "deleted": part.deleted}
                    for (src_table, entity), part in cycle.tables.items()
                ],
            }
            for name, cycle in result.cycles.items()
        },
        "failed": result.failed,
    }  # fmt: skip


def _extraction_text(result: Extraction) -> str:
    lines = []
    for name, cycle in result.cycles.items():
        what = "first load" if cycle.first_load else "cycle"
        lines.append(f"{name}: {what} as of {cycle.as_of:%Y-%m-%d %H:%M:%S} UTC in {cycle.seconds:.2f} s")
        rows = [
            [
                src_table,
                entity,
                part.strategy,
                part.rows_read,
                part.written.inserted,
                part.written.updated,
                part.deleted,
            ]
            for (src_table, entity), part in cycle.tables.items()
        ]
        headers = ["table", "entity", "strategy", "read", "new", "changed", "deleted"]
        lines.append(table(headers, rows, "  "))
    lines += [f"{name}: FAILED: {error}" for name, error in result.failed.items()]
    return "\n".join(lines)


def reconcile(
    *,
    ctx: Ctx,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    entity: str | None = None,
    verify: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Compare days with the source, read again what differs, and store the proof.

    Args:
        ctx: Global options.
        from_: First UTC day, e.g. 2026-02-01 (default: yesterday).
        to: Last UTC day, inclusive (default: today).
        entity: Only this entity.
        verify: Compare only; nothing is written. Exit code 1 if something differs.
    """
    from monitoring_pipelines.cli.times import day

    today = ctx.clock.now().date()
    first = day(from_, "--from") if from_ else today - timedelta(days=1)
    last = day(to, "--to") if to else today
    if first > last:
        raise UsageError(f"--from {first} is after --to {last}", "both days are inclusive")
    results: list[ReconcileResult] = []
    errors: list[ProductError] = []
    for source in ctx.sources():
        try:
            results += _compare(ctx, source, first, last, entity, verify)
        except ProductError as error:
            errors.append(error)
            if len(ctx.sources()) == 1:
                raise
    if not verify:
        _refresh(ctx)
    data = {"results": [asdict(r) for r in results], "errors": [error.as_dict() for error in errors]}
    ctx.emit(
        data, lambda: "\n".join([*map(str, results), *(f"FAILED: {error}" for error in errors)]) or "nothing mapped"
    )
    if errors:
        return errors[0].exit_code
    return 0 if all(result.equal for result in results) else 1


def _compare(ctx: Context, source: Any, first: Any, last: Any, entity: str | None, verify: bool) -> list[Any]:
    from monitoring_pipelines.source.reconcile import reconcile_day, reconcile_undated, verify_source

    arguments = (ctx.settings, source, ctx.warehouse(must_exist=verify), ctx.clock)
    listen = None if ctx.json else _Line()
    if verify:
        found = verify_source(*arguments, first, last, listen=listen)
        return [result for result in found if entity in (None, result.entity)]
    results = []
    for number in range((last - first).days + 1):
        results += reconcile_day(*arguments, first + timedelta(days=number), entity, listen=listen)
    return results + reconcile_undated(*arguments, entity, listen=listen)


def _refresh(ctx: Context) -> None:
    """Statistics follow what reconciliation changed, as they do after a scheduled one."""
    from monitoring_pipelines import pipeline

    pipe = pipeline.Pipeline.of(ctx.settings, ctx.clock)
    pipeline.refresh_core(pipe)
    pipeline.compute_due(pipe)
    pipeline.publish_pending(pipe, everything=True)


class _Line:
    """Progress on one line of a terminal, at most twice a second; silent when standard error is a file."""

    def __init__(self) -> None:
        import sys

        self.stream = sys.stderr
        self.shown = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if self.stream.isatty() and now - self.shown >= 0.5:
            self.shown = now
            self.stream.write(f"\r\x1b[K{progress}")
            self.stream.flush()


__all__ = ["extract", "reconcile", "write"]

"""``mp export`` and ``mp import``: metrics and tables for other tools, life-cycle state for another installation (S-607).

What belongs here: what is written where. What does not: the values.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any, Literal

from monitoring_pipelines.cli.context import Context, Ctx
from monitoring_pipelines.errors import UsageError

#: Tables of ``export state``, in the order in which they are read in.
STATE_TABLES = (
    "threshold",
    "threshold_journal",
    "silence",
    "alert",
    "alert_channel",
    "alert_contribution",
    "alert_event",
    "expectation",
    "rule_state",
    "setting",
)
_FORMAT = "monitoring-pipelines-state"


def export(
    what: Literal["prometheus", "csv", "state"], table: str | None = None, *, output: Path | None = None, ctx: Ctx
) -> int:
    """Write metrics as Prometheus text, a published table as CSV, or the life-cycle state as JSON.

    Args:
        what: prometheus, csv or state. State holds alerts with history, silences, thresholds, expectations and marks.
        table: With csv: the published table, for example mart.endpoint_hourly_stats; without it the tables are listed.
        output: File to write; default standard output.
        ctx: Global options.
    """
    if what == "prometheus":
        return _put(_prometheus(ctx), output)
    if what == "state":
        return _put(_state(ctx), output)
    return _csv(ctx, table, output)


def _put(text: str, output: Path | None) -> int:
    if output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        output.write_text(text, encoding="utf-8")
    return 0


def _prometheus(ctx: Context) -> str:
    from monitoring_pipelines.metrics.collector import Collector
    from monitoring_pipelines.metrics.exposition import as_text
    from monitoring_pipelines.published.reader import Published
    from monitoring_pipelines.published.tasks import TaskIndex
    from monitoring_pipelines.state import StateStore

    settings = ctx.settings
    collector = Collector(settings, Published(settings.lake_path), StateStore.of(settings), ctx.clock, TaskIndex())
    return as_text(collector.everything())


def _csv(ctx: Context, table: str | None, output: Path | None) -> int:
    from monitoring_pipelines.config.suggest import did_you_mean
    from monitoring_pipelines.published.reader import Published

    with Published(ctx.settings.lake_path).look() as look:
        known = sorted(look.manifest.tables)
        if table is None:
            ctx.emit(known, "\n".join(known))
            return 0
        if table not in known:
            raise UsageError(f"no published table {table!r}{did_you_mean(table, known)}", "`mp export csv` lists them")
        names = look.columns(table)
        stream = output.open("w", encoding="utf-8", newline="") if output else io.StringIO()
        with stream:
            writer = csv.writer(stream)
            writer.writerow(names)
            for row in look.tuples(f"SELECT * FROM {look.table(table)}"):
                writer.writerow(["" if value is None else _cell(value) for value in row])
            if isinstance(stream, io.StringIO):
                sys.stdout.write(stream.getvalue())
    return 0


def _cell(value: Any) -> Any:
    from datetime import datetime

    if isinstance(value, datetime):
        return value.isoformat() + "Z"
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (list, dict)) else value


def _state(ctx: Context) -> str:
    from sqlalchemy import select

    from monitoring_pipelines import __version__
    from monitoring_pipelines.state import StateStore, tables
    from monitoring_pipelines.state.types import canonical_json

    content: dict[str, Any] = {"format": _FORMAT, "version": __version__, "at": ctx.clock.now(), "tables": {}}
    with StateStore.of(ctx.settings).read() as con:
        for name in STATE_TABLES:
            table = tables.metadata.tables[name]
            rows = con.execute(select(table).order_by(*table.primary_key)).mappings()
            content["tables"][name] = [dict(row) for row in rows]
    return canonical_json(content) + "\n"


def import_(what: Literal["state"], file: Path, *, ctx: Ctx) -> int:
    """Read in what ``export state`` wrote: rows of the same key are replaced, others stay.

    Args:
        what: state.
        file: The exported file.
        ctx: Global options.
    """
    from monitoring_pipelines.state import StateStore, audit, tables
    from monitoring_pipelines.state.store import upsert

    try:
        content = json.loads(file.read_text("utf-8"))
        found = content["tables"] if content.get("format") == _FORMAT else None
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise UsageError(f"{file} cannot be read as {what}: {error}", "write one with `mp export state`") from None
    if not isinstance(found, dict) or not set(found) <= set(STATE_TABLES):
        raise UsageError(f"{file} is no state of this product", "write one with `mp export state`")
    counts = {}
    with StateStore.of(ctx.settings).begin() as con:
        for name in STATE_TABLES:
            table = tables.metadata.tables[name]
            rows = [_typed(table, row, file) for row in found.get(name, ())]
            upsert(con, table, rows)
            counts[name] = len(rows)
        audit.record(con, ctx.clock.now(), "cli", "state.import", file.name, counts)
    ctx.emit(counts, "\n".join(f"{n:>8,} {name}" for name, n in counts.items()))
    return 0


def _typed(table: Any, row: Any, file: Path) -> dict[str, Any]:
    """A row with instants as instants; UsageError when it does not fit the table."""
    from datetime import datetime

    from monitoring_pipelines.state.types import Instant

    names = {column.name for column in table.columns}
    if not isinstance(row, dict) or not set(row) <= names:
        raise UsageError(f"{file}: a row of {table.name} does not fit", "it was written by another version")
    values = {name: row.get(name) for name in names}
    try:
        for column in table.columns:
            value = values[column.name]
            if isinstance(column.type, Instant) and value is not None:
                values[column.name] = datetime.fromisoformat(str(value).removesuffix("Z"))
    except ValueError as error:
        raise UsageError(f"{file}: {table.name}: {error}") from None
    return values

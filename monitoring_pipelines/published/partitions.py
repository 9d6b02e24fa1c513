"""What every source has of every hour or day: computed, unfinished, restated, and what completeness says of it.

What belongs here: reading the statistics by partition. What does not: what checks say (``api.partition_rows``), colours and
words (``api.pages.partitions``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from monitoring_pipelines.published.endpoints import closed_through
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.warehouse.families import DAY_TABLES, FAMILIES, HOUR_TABLES
from monitoring_pipelines.warehouse.sql_models import load_model

Grain = Literal["hour", "day"]
LENGTH: dict[Grain, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
#: Tables that a partition of an hour or a day fills.
TABLES: dict[Grain, tuple[str, ...]] = {"hour": HOUR_TABLES, "day": DAY_TABLES}
_FAMILY = {table: family.name for family in FAMILIES.values() for table in (*family.hour_tables, *family.day_tables)}
#: Published table with what was never computed or is due again.
_DUE = "meta.window_due"
Found = dict[tuple[str, str], dict[datetime, dict[str, Any]]]


def matrix(look: Look, sources: Sequence[str], grain: Grain, start: datetime, end: datetime) -> Found:
    """(table, source) → start of the partition → ``{state, rows, revision, computed_at, done, total}`` for [start, end).

    ``state`` is ``closed``, ``partial`` (minutes are missing), ``unknown`` (no snapshot of the source for some bucket),
    ``empty`` (computed, without a row: a known zero), ``absent`` (closed and not computed: before the first computed hour,
    or waiting for it) or ``none`` (not closed yet). ``done`` of ``total`` succeeded tasks have outputs; both are None in
    other statistics. ``computed_at``: when a row of the partition last became another one; None if that is not known.
    Sources that neither have rows nor are computed in a family are left out of it.

    Args:
        look: The published files.
        sources: Which sources.
        grain: Partitions of an hour or of a day.
        start: Start of a partition, naive UTC.
        end: End of a partition.
    """
    found: Found = {}
    for table in TABLES[grain]:
        if look.has(table):
            for row in _rows(look, table, sources, grain, start, end):
                found.setdefault((table, row.pop("source_id")), {})[row.pop("bucket")] = row
    through, due = _due(look, grain)
    for source, family in through:
        for table in TABLES[grain]:
            if source in sources and _FAMILY[table] == family:
                found.setdefault((table, source), {})
    facts = {source: look.manifest.sources.get(source, {}) for source in sources}
    for (table, source), cells in found.items():
        closed, origin, key = closed_through(look, source), facts[source].get("origin"), (source, _FAMILY[table])
        at = start
        while at < end:
            stop = at + LENGTH[grain]
            if closed is None or stop > closed:
                state = "none"
            elif (
                origin is not None and at >= origin and stop <= through.get(key, datetime.min) and (*key, at) not in due
            ):
                state = "empty"
            else:
                state = "absent"
            cells.setdefault(
                at, {"state": state, "rows": 0, "revision": None, "computed_at": None, "done": None, "total": None}
            )
            at = stop
    return found


def _due(look: Look, grain: Grain) -> tuple[dict[tuple[str, str], datetime], set[tuple[str, str, datetime]]]:
    """(source, family) → minutes before this are computed; (source, family, partition) that are due all the same."""
    if not look.has(_DUE):
        return {}, set()
    rows = look.tuples(f"SELECT source_id, family, grain, bucket, computed_through FROM {look.table(_DUE)}")
    through = {(source, family): at for source, family, _, bucket, at in rows if bucket is None}
    return through, {(source, family, at) for source, family, word, at, _ in rows if word == grain}


def _rows(
    look: Look, table: str, sources: Sequence[str], grain: Grain, start: datetime, end: datetime
) -> list[dict[str, Any]]:
    names, bucket = set(look.columns(table)), load_model(table).bucket
    partial = "bool_or(state = 'partial')" if "state" in names else "false"
    unknown = "bool_or(quality = 'unknown')" if "quality" in names else "false"
    revision = "max(revision)" if "revision" in names else "NULL"
    known = [name for name in ("first_closed_at", "restated_at") if name in names]
    computed = f"max(greatest({', '.join(known)}))" if known else "NULL::TIMESTAMP"
    done, total = (
        (f"sum({name})::BIGINT" if "tasks_with_outputs" in names else "NULL")
        for name in ("tasks_with_outputs", "success_tasks")
    )
    return look.rows(
        f"SELECT source_id, date_trunc('{grain}', \"{bucket}\")::TIMESTAMP AS bucket, count(*) AS rows, "
        f" {revision} AS revision, {computed} AS computed_at, {done} AS done, {total} AS total, "
        f"CASE WHEN {partial} THEN 'partial' WHEN {unknown} THEN 'unknown' ELSE 'closed' END AS state "
        f"FROM {look.table(table, start, end)} "
        f'WHERE source_id IN $sources AND "{bucket}" >= $start AND "{bucket}" < $end GROUP BY source_id, 2',
        {"sources": tuple(sources), "start": start, "end": end},
    )

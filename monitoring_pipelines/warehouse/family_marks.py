"""Which buckets of the plain families change with a stored row: runs, samples, counters, notifications (E-603).

What belongs here: instants and spans that rows of these entities touch. What does not: endpoint and output statistics,
whose marks follow the differences of core rows (``core_tables``).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from monitoring_pipelines.warehouse.families import activate

if TYPE_CHECKING:
    import duckdb

#: Entity -> its family, and the columns whose instants place a row. Old and new version count.
INSTANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "job_run": ("job", ("ended_at", "scheduled_at")),
    "notification": ("notification", ("created_at", "sent_at", "final_at")),
}
#: Entity -> its family, and the columns that with the instant make a row of a series of samples.
SERIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "process_sample": ("resource", ("process_id",)),
    "ingest_counter": ("ingest", ("process_id", "series", "kind")),
}
#: A series counts as existing this long after its last sample.
PRESENT = timedelta(days=1)
#: Columns of stored rows that ``ingest`` must keep at hand besides the usual ones.
COMPARED = {entity: columns for entity, (_, columns) in INSTANTS.items()}


def mark_changed(con: duckdb.DuckDBPyConnection, entity: str, source_id: str, now: datetime, versions: str) -> None:
    """Mark the minutes that the changed rows of a batch touch, as far as they are closed.

    Args:
        con: Inside the transaction that stores the rows.
        entity: Unified name.
        source_id: The source.
        now: Naive UTC instant of the mark.
        versions: Query with ``{0}`` for columns of ``v``: old and new versions of the changed rows.
    """
    if entity in SERIES:
        activate(con, source_id, [entity])
        _mark_series(con, entity, source_id, now, versions)
    if entity not in INSTANTS:
        return
    activate(con, source_id, [entity])
    family, columns = INSTANTS[entity]
    instants = " UNION ".join(versions.format(f"v.{column} AS t") for column in columns)
    mark_minutes(con, source_id, family, f"SELECT t AS from_at, t AS to_at FROM ({instants})", now, entity)


def mark_due(con: duckdb.DuckDBPyConnection, source_id: str, now: datetime) -> None:
    """Mark what future-dated counters touch whose time has come (E-306).

    Args:
        con: With the temp table ``claim_due`` (entity, key_hash) of what became due.
        source_id: The source.
        now: Naive UTC instant of the mark.
    """
    versions = (
        "(SELECT {0} FROM raw.ingest_counter AS v SEMI JOIN claim_due AS d ON d.entity = 'ingest_counter' "
        f"AND d.key_hash = v.key_hash WHERE v.source_id = '{source_id}')"
    )
    _mark_series(con, "ingest_counter", source_id, now, versions)


def _mark_series(con: duckdb.DuckDBPyConnection, entity: str, source_id: str, now: datetime, versions: str) -> None:
    """A sample touches the time from the sample before to the one after, or as long as the series counts as existing."""
    family, keys = SERIES[entity]
    listed = ", ".join(keys)
    columns = ", ".join(f"v.{name}" for name in keys)
    touched = versions.format(f'{columns}, v."at" AS t')
    con.execute(f"CREATE OR REPLACE TEMP TABLE touched_sample AS SELECT * FROM {touched}")
    row = con.execute("SELECT min(t) FROM touched_sample").fetchone()
    if row is None or row[0] is None:
        return
    since = f"TIMESTAMP '{(row[0] - PRESENT).isoformat(sep=' ')}'"
    near = f'(SELECT {listed}, "at" FROM raw.{entity} WHERE source_id = \'{source_id}\' AND "at" >= {since})'
    same = " AND ".join(f"s.{name} = {{0}}.{name}" for name in keys)
    con.execute(
        'CREATE OR REPLACE TEMP TABLE touched_span AS SELECT s.*, p."at" AS before_at, n."at" AS after_at '
        f'FROM touched_sample AS s ASOF LEFT JOIN {near} AS p ON {same.format("p")} AND s.t > p."at" '
        f'ASOF LEFT JOIN {near} AS n ON {same.format("n")} AND s.t < n."at"'
    )
    older = (
        f'(SELECT {listed}, max("at") AS "at" FROM raw.{entity} AS r SEMI JOIN '
        f"(SELECT * FROM touched_span WHERE before_at IS NULL) AS s ON {same.format('r')} "
        f"WHERE r.source_id = '{source_id}' AND r.\"at\" < {since} GROUP BY {listed})"
    )
    mark_minutes(
        con, source_id, family,
        f'SELECT coalesce(s.before_at, o."at", s.t) AS from_at, coalesce(s.after_at, s.t + INTERVAL 1 DAY) AS to_at '
        f"FROM touched_span AS s LEFT JOIN {older} AS o ON {same.format('o')}",
        now, entity,
    )  # fmt: skip


def mark_minutes(
    con: duckdb.DuckDBPyConnection, source_id: str, family: str, spans: str, now: datetime, reason: str
) -> None:
    """Mark the closed minutes that the spans (query of ``from_at``, ``to_at``, both included) touch, by hour."""
    con.execute(
        "INSERT INTO meta.dirty_hour (source_id, family, hour, marked_at, reason, from_at, to_at) "
        "SELECT $source, $family, hour, $now::TIMESTAMP, $reason, min(greatest(from_at, hour)), "
        "max(least(to_at, hour + INTERVAL 1 HOUR)) FROM (SELECT from_at, to_at, unnest(generate_series("
        "date_trunc('hour', from_at), to_at - INTERVAL 1 MINUTE, INTERVAL 1 HOUR)) AS hour FROM ("
        "SELECT date_trunc('minute', x.from_at) AS from_at, "
        "date_trunc('minute', least(x.to_at, s.closed_through)) + INTERVAL 1 MINUTE AS to_at "
        f"FROM ({spans}) AS x INNER JOIN meta.source_state AS s ON s.source_id = $source "
        "WHERE x.from_at < s.closed_through)) GROUP BY hour",
        {"source": source_id, "family": family, "now": now, "reason": reason},
    )


def remember_limits(con: duckdb.DuckDBPyConnection, source_id: str, now: datetime) -> None:
    """Limits of jobs over time, from the rows in ``incoming``: a run is measured against the one that held then.

    The first known value holds from the beginning, so that runs read before their job are measured, too.
    """
    con.execute(
        "CREATE OR REPLACE TEMP TABLE new_limit AS SELECT i.job_id, i.sla_seconds, k.job_id IS NULL AS is_first "
        "FROM incoming AS i LEFT JOIN (SELECT job_id, arg_max(sla_seconds, valid_from) AS sla_seconds FROM ("
        "SELECT job_id, valid_from, struct_pack(v := sla_seconds) AS sla_seconds FROM raw.job_sla WHERE source_id = ?) "
        "GROUP BY job_id) AS k ON k.job_id = i.job_id "
        "WHERE CASE WHEN k.job_id IS NULL THEN i.sla_seconds IS NOT NULL "
        "ELSE k.sla_seconds.v IS DISTINCT FROM i.sla_seconds END",
        [source_id],
    )
    con.execute(
        "INSERT INTO raw.job_sla SELECT ?, job_id, CASE WHEN is_first THEN TIMESTAMP '1970-01-01' ELSE ?::TIMESTAMP END, "
        "sla_seconds FROM new_limit",
        [source_id, now],
    )
    runs = (
        "SELECT unnest([ended_at, scheduled_at]) AS t FROM raw.job_run WHERE source_id = "
        f"'{source_id}' AND job_id IN (SELECT job_id FROM new_limit WHERE is_first)"
    )
    mark_minutes(
        con, source_id, "job", f"SELECT t AS from_at, t AS to_at FROM ({runs}) WHERE t IS NOT NULL", now, "job"
    )

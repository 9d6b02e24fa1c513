"""``mp status``: how fresh everything is, what is due, what went wrong, on one screen.

What belongs here: reading the state tables and the manifest. What does not: judging them (``quality``, ``alerts``).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.cli.context import Context, Ctx
from monitoring_pipelines.cli.output import table

if TYPE_CHECKING:
    import duckdb

_SOURCES = """
SELECT source_id, as_of, closed_through, origin, last_error, last_error_at FROM meta.source_state ORDER BY source_id
"""
_MARKS = """
SELECT source_id, src_table, entity, strategy, rows_total, last_success_at, last_error
FROM meta.extract_mark ORDER BY ALL
"""
_DIRTY = """
SELECT 'tasks' AS what, count(DISTINCT (source_id, task_key)) AS n FROM meta.dirty_task
UNION ALL SELECT 'workers', count(DISTINCT (source_id, worker_key)) FROM meta.dirty_worker
UNION ALL SELECT 'hours', count(DISTINCT (source_id, family, hour)) FROM meta.dirty_hour
"""
_PROOFS = """
SELECT source_id, src_table, entity, count(*) FILTER (equal) AS days_equal, count(*) FILTER (NOT equal) AS days_unequal,
  max(verified_at) AS newest
FROM (SELECT DISTINCT ON (source_id, src_table, entity, "day") * FROM meta.reconciliation
      ORDER BY source_id, src_table, entity, "day", verified_at DESC)
GROUP BY ALL ORDER BY ALL
"""
_ANOMALIES = "SELECT source_id, kind, sum(count)::BIGINT AS n FROM raw.anomaly GROUP BY ALL ORDER BY n DESC LIMIT 20"


def status(*, ctx: Ctx) -> int:
    """Show how fresh each source is, what waits to be computed, and what went wrong. Exit code 1 if something did.

    Args:
        ctx: Global options.
    """
    data = _collect(ctx)
    ctx.emit(data, lambda: _text(data, ctx.clock.now()))
    return 1 if any(source["last_error"] or source["late"] for source in data["sources"]) else 0


def _collect(ctx: Context) -> dict[str, Any]:
    from monitoring_pipelines.warehouse.lake import read_manifest

    settings = ctx.settings
    now = ctx.clock.now()
    data: dict[str, Any] = {"now": now, "warehouse": str(settings.warehouse_path), "sources": [], "marks": [],
                            "waiting": {}, "proofs": [], "anomalies": []}  # fmt: skip
    if settings.warehouse_path.exists():
        with ctx.warehouse().reader("status") as con:
            data["sources"] = _rows(con, _SOURCES)
            data["marks"] = _rows(con, _MARKS)
            data["waiting"] = {row["what"]: row["n"] for row in _rows(con, _DIRTY)}
            data["proofs"] = _rows(con, _PROOFS)
            data["anomalies"] = _rows(con, _ANOMALIES)
    known = {row["source_id"]: row for row in data["sources"]}
    wanted = ctx.source or [source.id for source in settings.enabled_sources]
    empty = {"as_of": None, "closed_through": None, "origin": None, "last_error": None, "last_error_at": None}
    data["sources"] = [{"source_id": name} | known.get(name, empty) for name in wanted]
    for row in data["sources"]:
        lag = (now - row["as_of"]).total_seconds() if row["as_of"] else None
        row["lag_s"] = lag
        row["late"] = lag is None or lag > 3 * max(settings.extract.interval_s, 60)  # C-502
        if row["last_error_at"] and row["as_of"] and row["as_of"] > row["last_error_at"]:
            row["last_error"] = None  # a cycle has succeeded since
    manifest = read_manifest(settings.lake_path)
    data["published"] = {"version": manifest.version, "as_of": manifest.as_of} if manifest else None
    for name in ("marks", "proofs", "anomalies"):
        data[name] = [row for row in data[name] if row["source_id"] in wanted]
    return data


def _rows(con: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    cursor = con.execute(sql)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _text(data: dict[str, Any], now: datetime) -> str:
    lines = [f"{now:%Y-%m-%d %H:%M:%S} UTC, {data['warehouse']}", ""]
    rows = [
        [s["source_id"], s["as_of"], s["lag_s"], s["closed_through"], "LATE" if s["late"] else "ok", s["last_error"]]
        for s in data["sources"]
    ]
    lines.append(table(["source", "as of", "lag s", "closed through", "state", "last error"], rows))
    waiting = ", ".join(f"{n:,} {what}" for what, n in data["waiting"].items() if n) or "nothing"
    published = data["published"]
    lines += ["", f"waiting to be computed: {waiting}"]
    lines.append(
        f"published: version {published['version']}, as of {published['as_of']}" if published else "published: -"
    )
    if data["marks"]:
        headers = ["source", "table", "entity", "strategy", "rows read", "last success", "last error"]
        lines += ["", table(headers, (list(row.values()) for row in data["marks"]))]
    if data["proofs"]:
        headers = ["source", "table", "entity", "days equal", "days unequal", "verified"]
        lines += ["", table(headers, (list(row.values()) for row in data["proofs"]))]
    if data["anomalies"]:
        lines += ["", table(["source", "anomaly", "count"], (list(row.values()) for row in data["anomalies"]))]
    return "\n".join(lines)

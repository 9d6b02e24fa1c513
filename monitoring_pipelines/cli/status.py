"""``mp status``: how fresh everything is, what is due, what went wrong, on one screen.

What belongs here: reading the published tables and their manifest; the live warehouse stays closed.
What does not: judging them (``quality``, ``alerts``).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.cli.context import Context, Ctx
from monitoring_pipelines.cli.output import table

if TYPE_CHECKING:
    from monitoring_pipelines.published.reader import Look

#: What a list shows, by the published table it comes from.
_LISTS = {
    "marks": (
        "meta.extract_mark",
        "SELECT source_id, src_table, entity, strategy, rows_total, last_success_at, last_error FROM {rows} ORDER BY ALL",
    ),
    "proofs": (
        "meta.reconciliation",
        (
            "SELECT source_id, src_table, entity, count(*) FILTER (equal) AS days_equal, "
            "count(*) FILTER (NOT equal) AS days_unequal, max(verified_at) AS newest FROM {rows} GROUP BY ALL ORDER BY ALL"
        ),
    ),
    "anomalies": (
        "meta.anomaly_summary",
        "SELECT source_id, kind, sum(n)::BIGINT AS n FROM {rows} GROUP BY ALL ORDER BY n DESC, source_id, kind",
    ),
}
_SOURCES = "SELECT source_id, as_of, closed_through, origin, last_error, last_error_at FROM {rows}"
_ANOMALIES_SHOWN = 20
_NOTHING = "run `mp extract --once` and `mp aggregate`, or `mp up`, which does both every minute"


def status(*, ctx: Ctx) -> int:
    """Show how fresh each source is, what waits to be published, and what went wrong. Exit code 1 if something did.

    Args:
        ctx: Global options.
    """
    data = _collect(ctx)
    ctx.emit(data, lambda: _text(data, ctx.clock.now()))
    return 1 if any(source["last_error"] or source["late"] for source in data["sources"]) else 0


def _collect(ctx: Context) -> dict[str, Any]:
    from monitoring_pipelines.published.reader import Published
    from monitoring_pipelines.warehouse.lake import LakeMissing

    settings, now = ctx.settings, ctx.clock.now()
    data: dict[str, Any] = {"now": now, "lake": str(settings.lake_path), "published": None, "hint": None, "sources": [],
                            "marks": [], "proofs": [], "anomalies": []}  # fmt: skip
    try:
        with Published(settings.lake_path).look() as look:
            manifest = look.manifest
            data["published"] = {"version": manifest.version, "published_at": manifest.published_at,
                                 "as_of": manifest.as_of, "changes_waiting": manifest.waiting}  # fmt: skip
            data["sources"] = _rows(look, "meta.source_state", _SOURCES)
            data |= {name: _rows(look, *question) for name, question in _LISTS.items()}
    except LakeMissing:
        data["hint"] = _NOTHING
    wanted = [source.id for source in (ctx.sources() if ctx.source else settings.enabled_sources)]
    for name in _LISTS:
        data[name] = [row for row in data[name] if row["source_id"] in wanted]
    known = {row["source_id"]: row for row in data["sources"]}
    data["sources"] = [_judged(name, known.get(name), now, settings.extract.interval_s) for name in wanted]
    return data


def _judged(name: str, known: dict[str, Any] | None, now: datetime, interval_s: float) -> dict[str, Any]:
    """One source with its lag; late by C-502; an error that a later success has answered is none."""
    empty = {"as_of": None, "closed_through": None, "origin": None, "last_error": None, "last_error_at": None}
    row: dict[str, Any] = {"source_id": name, **(known or empty)}
    lag = (now - row["as_of"]).total_seconds() if row["as_of"] else None
    row |= {"lag_s": lag, "late": lag is None or lag > 3 * max(interval_s, 60)}
    if row["last_error_at"] and row["as_of"] and row["as_of"] > row["last_error_at"]:
        row["last_error"] = None
    return row


def _rows(look: Look, name: str, question: str) -> list[dict[str, Any]]:
    return look.rows(question.format(rows=look.table(name))) if look.has(name) else []


def _text(data: dict[str, Any], now: datetime) -> str:
    lines = [f"{now:%Y-%m-%d %H:%M:%S} UTC, {data['lake']}", ""]
    rows = [
        [s["source_id"], s["as_of"], s["lag_s"], s["closed_through"], "LATE" if s["late"] else "ok", s["last_error"]]
        for s in data["sources"]
    ]
    lines.append(table(["source", "as of", "lag s", "closed through", "state", "last error"], rows))
    published = data["published"]
    lines.append("")
    if published is None:
        lines.append(f"nothing has been published yet: {data['hint']}")
    else:
        waiting = f"{published['changes_waiting']:,} changes of older days wait" if published["changes_waiting"] else ""
        lines.append(
            f"published: version {published['version']} at {published['published_at']:%Y-%m-%d %H:%M:%S}, "
            f"as of {published['as_of'] or '-'}" + (f"; {waiting}" if waiting else "")
        )
    if data["marks"]:
        headers = ["source", "table", "entity", "strategy", "rows read", "last success", "last error"]
        lines += ["", table(headers, (list(row.values()) for row in data["marks"]))]
    if data["proofs"]:
        headers = ["source", "table", "entity", "days equal", "days unequal", "verified"]
        lines += ["", table(headers, (list(row.values()) for row in data["proofs"]))]
    if data["anomalies"]:
        lines += [
            "",
            table(["source", "anomaly", "count"], (list(row.values()) for row in data["anomalies"][:_ANOMALIES_SHOWN])),
        ]
    return "\n".join(lines)

"""Lists as CSV and Parquet files, with the filters of the page they are linked from (S-804).

What belongs here: writing rows as files. What does not: which rows (the functions behind pages and API).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api import alert_rows
from monitoring_pipelines.api.answers import to_json
from monitoring_pipelines.api.pages.endpoints import RANGES
from monitoring_pipelines.api.pages.tasks import SHOWN
from monitoring_pipelines.api.params import SourceParam, chosen_sources
from monitoring_pipelines.api.routes.completeness import missing_rows
from monitoring_pipelines.api.routes.endpoints import owner
from monitoring_pipelines.api.services import services_of
from monitoring_pipelines.api.summaries import has_outputs, index_of
from monitoring_pipelines.published import endpoints, tasks
from monitoring_pipelines.state import alerts as stored

STRINGS: dict[str, tuple[str, str]] = {}
router = APIRouter(include_in_schema=False, prefix="/download")
#: Rows of one file; its name says so when there are more.
MOST_ROWS = 50_000
Kind = Literal["csv", "parquet"]
#: First characters a spreadsheet takes for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@router.get("/missing.{kind}")
def missing(
    request: Request, kind: Kind, source: SourceParam = None, hours: Annotated[int, Query(ge=1, le=720)] = 24
) -> Response:
    """Tasks without output."""
    services = services_of(request)
    able = [
        name for name in chosen_sources(services, source or None) if name != "_self" and has_outputs(services, name)
    ]
    with services.published.look() as look:
        rows, total = missing_rows(services, look, able, hours, 0, MOST_ROWS)
    return file_of("missing", kind, rows, total)


@router.get("/tasks.{kind}")
def listed_tasks(
    request: Request, kind: Kind, source: SourceParam = None, show: Literal["all", "failed", "active"] = "active",
    output: Literal["all", "yes", "no"] = "all", endpoint: Annotated[str | None, Query(max_length=255)] = None,
    q: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:  # fmt: skip
    """The task monitor's list."""
    services = services_of(request)
    has_output = {"yes": True, "no": False}.get(output)
    wanted = tasks.TaskFilter(
        tuple(chosen_sources(services, source or None)), SHOWN[show], (), endpoint or None, q or None, has_output
    )
    with services.published.look() as look:
        rows, total = index_of(services).list_page(look, wanted, 0, MOST_ROWS)
    return file_of("tasks", kind, rows, total)


@router.get("/alerts.{kind}")
def listed_alerts(request: Request, kind: Kind, source: SourceParam = None) -> Response:
    """All alerts, newest first."""
    services = services_of(request)
    chosen = chosen_sources(services, source) if source else ()
    rows, total = stored.list_alerts(services.state, source_ids=chosen, page=1, page_size=MOST_ROWS)
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


def file_of(name: str, kind: Kind, rows: list[dict[str, Any]], total: int) -> Response:
    """The rows as a file to be saved.

    Args:
        name: Beginning of the file name.
        kind: Format.
        rows: The rows.
        total: How many there are; more than in ``rows`` is said in the file name.
    """
    full = name if total <= len(rows) else f"{name}_first_{len(rows)}_of_{total}"
    body = as_csv(rows) if kind == "csv" else as_parquet(rows)
    media = "text/csv; charset=utf-8" if kind == "csv" else "application/vnd.apache.parquet"
    return Response(body, media_type=media, headers={
        "Content-Disposition": f'attachment; filename="{full}.{kind}"', "X-Content-Type-Options": "nosniff",
    })  # fmt: skip


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    """UTF-8 with a mark, so that spreadsheets read it; NULL is an empty cell, text is never a formula."""
    stream = io.StringIO()
    names = columns_of(rows)
    writer = csv.writer(stream)
    writer.writerow(names)
    for row in rows:
        writer.writerow([_csv_cell(row.get(name)) for name in names])
    return b"\xef\xbb\xbf" + stream.getvalue().encode()


def columns_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """All names in the order in which they are first seen."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _csv_cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value.isoformat()}Z"
    plain = _plain(value)
    return f"'{plain}" if isinstance(plain, str) and plain.startswith(_FORMULA) else plain


def _plain(value: Any) -> Any:
    """Nested values as JSON text."""
    if isinstance(value, dict | list | tuple):
        return json.dumps(json.loads(to_json(value)), ensure_ascii=False)
    return value


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    """Parquet with the types of the values; a column that holds several kinds is text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for name in columns_of(rows):
        values = [_plain(row.get(name)) for row in rows]
        kinds = {type(value) for value in values if value is not None}
        if len(kinds) > 1 and not kinds <= {int, float}:
            values = [None if v is None else v.isoformat() if isinstance(v, date) else str(v) for v in values]
        elif kinds == {int, float}:
            values = [None if value is None else float(value) for value in values]
        arrays[name] = pa.array(values)
    stream = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays), stream, compression="zstd")
    return bytes(stream.getvalue())

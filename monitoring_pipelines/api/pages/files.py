"""Rows as CSV and Parquet files to be saved (S-804).

What belongs here: writing them. What does not: which rows (``downloads``).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal

from fastapi.responses import Response

from monitoring_pipelines.api.answers import to_json

Kind = Literal["csv", "parquet"]
#: First characters a spreadsheet takes for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def file_of(name: str, kind: Kind, rows: Sequence[Mapping[str, Any]], total: int) -> Response:
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
    return saved(body, f"{full}.{kind}", media)


def saved(body: bytes, name: str, media: str) -> Response:
    """A file that the browser saves instead of showing."""
    return Response(body, media_type=media, headers={
        "Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff",
    })  # fmt: skip


def as_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
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


def as_parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
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

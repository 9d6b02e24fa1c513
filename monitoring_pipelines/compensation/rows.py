"""From a recovered output to the row that would be inserted (R-201…R-210).

What belongs here: names, types and column values. What does not: the schema's facts (``target``) and whether the row may
be inserted (``validation``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

from monitoring_pipelines.compensation.model import APPLY_TIME, ProposedRow, Recovered, Task
from monitoring_pipelines.natural_key import canonical_uri, natural_key
from monitoring_pipelines.source.select import LONGEST_TEXT

if TYPE_CHECKING:
    from monitoring_pipelines.compensation.target import Target

KeepQuery = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class RowRules:
    """What the configuration says about proposed rows."""

    keep_query: KeepQuery
    media_types: tuple[str, ...] | None
    #: ``apply_time`` or ``effective_end`` (R-205).
    created_at: str


def output_key(task_key: str, node_key: str | None, uri: str | None, keep_query: KeepQuery) -> str:
    """Natural key of an output, for stored and proposed rows alike (R-201).

    The link is cut where the source's reading cuts it (E-403), so that a row keeps its key after it was inserted.
    """
    return natural_key(task_key, node_key, None if uri is None else canonical_uri(uri[:LONGEST_TEXT], keep_query))


def file_name(uri: str, key: str, media_type: str) -> str:
    """Percent-decoded last path segment of the link; without one, a name made of the natural key (R-203)."""
    try:
        segment = unquote(urlsplit(uri).path.rpartition("/")[2])
    except ValueError:
        segment = ""
    return segment or f"{key[:12]}.{media_type}"


def media_type_of(recovered: Recovered) -> str:
    """The remote's type in lower case, else the suffix of the file name, else empty: there is no default (R-204)."""
    if recovered.media_type and recovered.media_type.strip():
        return recovered.media_type.strip().lower()
    try:
        name = unquote(urlsplit(recovered.uri).path.rpartition("/")[2])
    except ValueError:
        return ""
    stem, dot, suffix = name.rpartition(".")
    return suffix.lower() if dot and stem else ""


def propose(task: Task, recovered: Iterable[Recovered], target: Target, rules: RowRules) -> list[ProposedRow]:
    """The rows that ``recovered`` would become in the output table, valid or not, one per natural key.

    A service that lists one file twice in one answer means one output; the second mention is dropped.
    """
    rows: dict[str, ProposedRow] = {}
    for output in recovered:
        node = output.node_key or ""
        key = output_key(task.task_key, node, output.uri, rules.keep_query)
        if key in rows:
            continue
        media_type = media_type_of(output)
        name = file_name(output.uri, key, media_type)
        unified = {
            "task_key": task.task_key, "node_key": node, "name": name, "uri": output.uri, "media_type": media_type,
            "size_bytes": output.size_bytes, "natural_key": key,
        }  # fmt: skip
        values = {column: _value(target, column, word, unified, task, rules) for column, word in target.insert.items()}
        rows[key] = ProposedRow(key, node, name, output.uri, media_type, output.size_bytes, values, output.evidence)
    return list(rows.values())


def _value(
    target: Target, column: str, word: Any, unified: Mapping[str, Any], task: Task, rules: RowRules
) -> str | int | float | None:
    """Value of one column of the output table; ``word`` is what the insert mapping says of it (R-210)."""
    facts = target.columns[column]
    if isinstance(word, Mapping):
        return word["const"]
    if word == "created_at":
        if rules.created_at == "effective_end" and task.effective_end is not None:
            return wall_time(task.effective_end, target, column)
        return APPLY_TIME
    if word == "uuid":
        import uuid

        return str(uuid.uuid5(uuid.NAMESPACE_URL, unified["natural_key"]))
    if word == "size_bytes" and unified["size_bytes"] is None:
        return None if facts.nullable else 0
    if word == "empty":
        return None if facts.nullable else ""
    return unified[word]


def wall_time(instant: datetime, target: Target, column: str) -> str | int:
    """``instant`` (naive UTC) as the output table's time column writes it, cut to the column's digits (R-205)."""
    facts = target.columns[column]
    kind, zone = target.time_kind
    if kind in ("epoch_s", "epoch_ms", "epoch_us"):
        micros = (instant - datetime(1970, 1, 1)) // timedelta(microseconds=1)
        return micros // {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}[kind]
    if kind == "naive_local" and facts.data_type != "timestamp":
        instant = instant.replace(tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo(zone or "UTC")).replace(tzinfo=None)
    if kind == "iso8601":
        return instant.isoformat(timespec="milliseconds") + "Z"
    digits = facts.precision or 0
    text = instant.strftime("%Y-%m-%d %H:%M:%S.%f")
    return text[: 19 + (digits + 1 if digits else 0)]


def at_apply(values: Mapping[str, Any], now: datetime, target: Target) -> dict[str, Any]:
    """The values to insert at ``now``."""
    return {c: wall_time(now, target, c) if v == APPLY_TIME else v for c, v in values.items()}

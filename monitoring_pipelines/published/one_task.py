"""One task with its history.

What belongs here: finding a task by its key without opening files that cannot have it, what happened to it in order. What does
not: lists and counters (``tasks``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.published.key_texts import usable
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.warehouse.lake import partition_span
from monitoring_pipelines.warehouse.serving import TASK
from monitoring_pipelines.warehouse.task_summaries import LISTED, PLACE

if TYPE_CHECKING:
    from monitoring_pipelines.published.tasks import TaskIndex

#: Rows whose keys have the key in them that are looked at before the file is read instead.
_MOST_LIKE_IT = 8

#: What happened to a task, as lists of rows.
NESTED = ("attempt_list", "output_list", "event_list", "anomaly_list")


def find(
    look: Look,
    sources: Sequence[str],
    task_key: str,
    columns: Sequence[str] = (*LISTED, *NESTED),
    index: TaskIndex | None = None,
) -> list[dict[str, Any]]:
    """The task of this key in each source that has it, by source; with attempts, events, outputs and anomalies.

    Args:
        look: The version to read.
        sources: Where the key may be.
        task_key: Compared byte by byte.
        columns: Those that are needed, ``source_id`` among them; every nested one costs milliseconds.
        index: What is known of the files; without it the key is looked for in all of them.
    """
    if not look.has(TASK) or not sources:
        return []
    numbers = {_hash(source, task_key): source for source in sources}
    if index is not None and {*LISTED, *NESTED}.issuperset(columns):
        kept = _all_kept(look, numbers, task_key, columns, index)
        if kept is not None:
            return kept
    some = f"task_hash IN ({', '.join(map(str, numbers))})"
    files = list(look.files(TASK)) if index is None else index.bits.partitions(look, numbers)
    if not files:
        return []
    # Few rows: told apart here, which costs a third less than by the statement.
    places = set(look.tuples(f"SELECT bucket_at, task_hash FROM {look.summary(PLACE, files)} WHERE {some}"))
    keys = {(numbers[number], key) for at, number in places for key in files if _holds(key, at)}
    if not keys:
        return []
    instants = ", ".join(f"TIMESTAMP '{at}'" for at in sorted({at for at, _ in places}))
    table = look.partition(TASK, sorted({key for _, key in keys}), columns=(*columns, *_LOOKED_UP))
    rows = look.rows(
        f"SELECT {', '.join(columns)} FROM {table} "
        f"WHERE bucket_at IN ({instants}) AND source_id IN $sources AND task_key = $key "
        f"LIMIT {len({number for _, number in places})}",
        {"key": task_key, "sources": tuple(sources)},
    )
    return sorted(rows, key=lambda row: row["source_id"])


def _all_kept(
    look: Look, numbers: Mapping[int, str], task_key: str, columns: Sequence[str], index: TaskIndex
) -> list[dict[str, Any]] | None:
    """The task in each of these sources by what is kept of the files that may have it; None where that leaves it open."""
    rows = []
    for number, source in sorted(numbers.items(), key=itemgetter(1)):
        files = index.bits.partitions(look, {number: source})
        row = next(filter(None, (_kept(look, source, task_key, columns, key, index) for key in files)), None)
        if row is not None:
            rows.append(row)
        elif files:
            return None
    return rows


def _kept(
    look: Look, source: str, task_key: str, columns: Sequence[str], key: str, index: TaskIndex
) -> dict[str, Any] | None:
    """The task of a partition by what is kept of it, so that no more than nested columns is unpacked; None when that has none.

    Rows that lists do not show have no text, and of many whose keys hold this one the first are looked at.
    """
    file, needle = look.files(TASK)[key], usable(task_key)
    text, held = index.texts.known(file), index.list_rows.known(file)
    if not needle or text is None or held is None:
        return None
    numbers = [text.row(place) for place in index.searches.places(needle, text, 0, _MOST_LIKE_IT)]
    for number, row in zip(numbers, held.read(numbers), strict=True):
        if (row["source_id"], row["task_key"]) == (source, task_key):
            nested = [column for column in columns if column in NESTED]
            if nested:
                table = look.partition(TASK, [key], "file_row_number", nested)
                # With a limit reading ends at the row; without, the rest of its sixteen thousand is unpacked too.
                row |= look.rows(f"SELECT {', '.join(nested)} FROM {table} WHERE file_row_number = {number} LIMIT 1")[0]
            return {column: row[column] for column in columns}
    return None


def _hash(source_id: str, task_key: str) -> int:
    """``task_hash`` as the warehouse makes it: the lower half of a digest of source and key."""
    digest = hashlib.md5(f"{source_id}\x1f{task_key}".encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return int.from_bytes(digest[8:], "little")


#: What a task is looked up by in the file that has it; the column of its hash costs more to unpack than that of its source.
_LOOKED_UP = ("bucket_at", "source_id", "task_key")


def _holds(key: str, at: datetime) -> bool:
    span = partition_span(key)
    return span is None or span[0] <= at < span[1]


def timeline(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Everything that happened to a task, oldest first, late events included and marked."""
    lines = [
        {"at": event["at"], "kind": "event", "what": event["event_type"], "worker_key": event["worker_key"],
         "detail": event["error_message"]}
        for event in task["event_list"] or ()
    ]  # fmt: skip
    for attempt in task["attempt_list"] or ():
        common = {"kind": "attempt", "worker_key": attempt["worker_key"], "detail": f"attempt {attempt['attempt_no']}"}
        if attempt["started_at"] is not None:
            lines.append({"at": attempt["started_at"], "what": "attempt_started", **common})
        if attempt["ended_at"] is not None:
            lines.append({"at": attempt["ended_at"], "what": f"attempt_{attempt['outcome']}", **common})
    lines += [
        {"at": output["created_at"], "kind": "output", "what": "output_created", "worker_key": None,
         "detail": output["name"] or output["output_key"]}
        for output in task["output_list"] or () if output["created_at"] is not None
    ]  # fmt: skip
    lines += [
        {"at": found["at"], "kind": "anomaly", "what": found["kind"], "worker_key": None, "detail": found["detail"]}
        for found in task["anomaly_list"] or ()
        if found["at"] is not None
    ]
    if not task["event_list"]:
        for name in ("created_at", "queued_at", "started_at", "ended_at"):
            if task[name] is not None:
                what = name.removesuffix("_at")
                lines.append({"at": task[name], "kind": "row", "what": what, "worker_key": None, "detail": None})
    return sorted(lines, key=lambda line: (line["at"], line["kind"], line["what"]))

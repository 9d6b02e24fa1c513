"""Questions about tasks: lists with true totals, one task with its history, counters, tasks without output.

What belongs here: answering from ``core.task`` without reading files that cannot matter. Files never change, so what was
counted in one is remembered for as long as a manifest names it. What does not: parameters and envelopes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from monitoring_pipelines.published.reader import Look

TASK = "core.task"
#: Narrow columns of a task; the nested ones belong to one task's page.
COLUMNS = (
    "source_id", "task_key", "endpoint", "status", "raw_status", "remote_id", "worker_key", "owner_key",
    "created_at", "queued_at", "started_at", "ended_at", "effective_end", "updated_at", "deadline_at", "error_message",
    "output_expected", "is_deleted", "deleted_at", "outputs", "attempts", "late_events",
)  # fmt: skip
_LIST = ", ".join(COLUMNS)
#: Sums over attempts that counters need.
_SUMS = (
    "attempts", "open_attempts", "completed", "failed", "timed_out", "cancelled", "lost", "leaked", "late_events",
    "execution_n", "execution_sum_ms",
)  # fmt: skip
#: A source's own deletion hides a task from lists (E-611); a row that only vanished is history.
_VISIBLE = "NOT is_deleted"
_MOST_REMEMBERED = 20_000


@dataclass(frozen=True)
class TaskFilter:
    """What a list shows (S-220). ``statuses`` are unified words, ``raw_statuses`` the source's own."""

    sources: tuple[str, ...]
    statuses: tuple[str, ...] = ()
    raw_statuses: tuple[str, ...] = ()
    endpoint: str | None = None
    text: str | None = None
    has_output: bool | None = None
    start: datetime | None = None
    end: datetime | None = None

    @property
    def by_groups(self) -> bool:
        """Whether the remembered groups of a file answer it without reading the file."""
        return self.text is None and not self.raw_statuses and self.start is None and self.end is None

    def matches(self, group: Mapping[str, Any]) -> bool:
        """Whether a group of tasks passes."""
        return (
            group["source_id"] in self.sources
            and (not self.statuses or group["status"] in self.statuses)
            and (self.endpoint is None or group["endpoint"] == self.endpoint)
            and (self.has_output is None or group["with_output"] == self.has_output)
        )

    def where(self) -> tuple[str, dict[str, Any]]:
        """The condition and its parameters."""
        parts, values = [_VISIBLE, "source_id IN (SELECT unnest($sources))"], {"sources": list(self.sources)}
        more: dict[str, Any] = {}
        if self.statuses or self.raw_statuses:
            parts.append("(status IN (SELECT unnest($statuses)) OR raw_status IN (SELECT unnest($raw)))")
            more |= {"statuses": list(self.statuses), "raw": list(self.raw_statuses)}
        if self.endpoint is not None:
            parts.append("endpoint = $endpoint")
            more["endpoint"] = self.endpoint
        if self.text is not None:
            parts.append("(contains(lower(task_key), $text) OR contains(lower(coalesce(remote_id, '')), $text))")
            more["text"] = self.text.lower()
        if self.has_output is not None:
            parts.append("(outputs > 0) = $has_output")
            more["has_output"] = self.has_output
        if self.start is not None:
            parts.append("bucket_at >= $start")
            more["start"] = self.start
        if self.end is not None:
            parts.append("bucket_at < $end")
            more["end"] = self.end
        return " AND ".join(parts), values | more


@dataclass
class _FileFacts:
    """What one file holds, by source, endpoint, status and output."""

    groups: list[dict[str, Any]]
    last_end: datetime | None
    first_end: datetime | None


@dataclass
class TaskIndex:
    """What is remembered of files; one per process, shared by threads."""

    _facts: dict[str, _FileFacts] = field(default_factory=dict)
    _counts: OrderedDict[tuple[str, TaskFilter], int] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def facts(self, look: Look) -> dict[str, _FileFacts]:
        """Facts of every file of this version, by partition, newest first; new files are read once."""
        files = look.files(TASK)
        unknown = [key for key, file in files.items() if file not in self._facts]
        if unknown:
            found = _read_facts(look, unknown)
            with self._lock:
                for key in unknown:
                    self._facts[files[key]] = found[key]
        with self._lock:
            if len(self._facts) > 2 * len(files) + 100:
                alive = set(files.values())
                self._facts = {file: facts for file, facts in self._facts.items() if file in alive}
            return {key: self._facts[file] for key, file in files.items()}

    def list_page(self, look: Look, wanted: TaskFilter, offset: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """One page, newest first, and how many tasks match in all (S-103)."""
        counts = self.counts(look, wanted)
        total = sum(counts.values())
        chosen: list[str] = []
        skip, need = offset, limit
        for key, count in counts.items():
            if need <= 0:
                break
            if not chosen and skip >= count:
                skip -= count
                continue
            if count:
                chosen.append(key)
                need -= count - (skip if len(chosen) == 1 else 0)
        if not chosen or offset >= total:
            return [], total
        where, values = wanted.where()
        rows = look.rows(
            f"SELECT {_LIST} FROM {look.partition(TASK, chosen)} WHERE {where} "
            f"ORDER BY bucket_at DESC, source_id, task_key LIMIT {int(limit)} OFFSET {int(skip)}",
            values,
        )
        return rows, total

    def counts(self, look: Look, wanted: TaskFilter) -> dict[str, int]:
        """Matching tasks per partition, newest first."""
        from monitoring_pipelines.warehouse.lake import partition_span

        facts = self.facts(look)
        if wanted.by_groups:
            return {
                key: sum(group["n"] for group in fact.groups if wanted.matches(group)) for key, fact in facts.items()
            }
        files = look.files(TASK)
        result: dict[str, int | None] = {}
        for key, fact in facts.items():
            span = partition_span(key)
            outside = span is not None and (
                (wanted.end is not None and span[0] >= wanted.end)
                or (wanted.start is not None and span[1] <= wanted.start)
            )
            possible = any(group["source_id"] in wanted.sources for group in fact.groups)
            result[key] = 0 if outside or not possible else self._counts.get((files[key], wanted))
        unknown = [key for key, count in result.items() if count is None]
        if unknown:
            found = _count(look, wanted, unknown)
            with self._lock:
                for key in unknown:
                    result[key] = found.get(key, 0)
                    self._counts[files[key], wanted] = found.get(key, 0)
                while len(self._counts) > _MOST_REMEMBERED:
                    self._counts.popitem(last=False)
        return {key: count or 0 for key, count in result.items()}

    def totals(self, look: Look, sources: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Per source: tasks by status and sums over their attempts."""
        wanted = set(sources)
        result: dict[str, dict[str, Any]] = {
            source: {"tasks": 0, "with_output": 0, "by_status": defaultdict(int), **dict.fromkeys(_SUMS, 0)}
            for source in wanted
        }
        for fact in self.facts(look).values():
            for group in fact.groups:
                if group["source_id"] not in wanted:
                    continue
                total = result[group["source_id"]]
                total["tasks"] += group["n"]
                total["by_status"][group["status"]] += group["n"]
                total["with_output"] += group["n"] if group["with_output"] else 0
                for name in _SUMS:
                    total[name] += group[name] or 0
        return result

    def live_totals(self, look: Look, source: str) -> dict[str, int]:
        """Tasks of a source by status, each once, without those that were deleted at the source (S-401)."""
        counts: dict[str, int] = {}
        for fact in self.facts(look).values():
            for group in fact.groups:
                if group["source_id"] == source and not group["gone"]:
                    counts[group["status"]] = counts.get(group["status"], 0) + group["n"]
        return counts

    def partitions_ending_in(self, look: Look, start: datetime, end: datetime) -> list[str]:
        """Partitions that may hold tasks whose end lies in [start, end)."""
        return [
            key
            for key, fact in self.facts(look).items()
            if fact.last_end is not None and fact.first_end is not None
            and fact.last_end >= start and fact.first_end < end
        ]  # fmt: skip


def _read_facts(look: Look, keys: Sequence[str]) -> dict[str, _FileFacts]:
    """Count groups of several files in one pass; files of one version do not overlap, so their names tell them apart."""
    sums = ", ".join(f"sum({name}) AS {name}" for name in _SUMS)
    parts = " UNION ALL ".join(
        f"SELECT '{key}' AS part, * FROM (SELECT source_id, endpoint, status, outputs, is_deleted, deleted_at, "
        f"deleted_reason, effective_end, {', '.join(_SUMS)} FROM {look.partition(TASK, [key])})"
        for key in keys
    )
    rows = look.rows(
        f"SELECT part, source_id, endpoint, status, outputs > 0 AS with_output, "
        f"deleted_at IS NOT NULL AND deleted_reason IS DISTINCT FROM 'retention' AS gone, count(*) AS n, {sums}, "
        f"min(effective_end) AS first_end, max(effective_end) AS last_end FROM ({parts}) WHERE {_VISIBLE} GROUP BY ALL"
    )
    found = {key: _FileFacts([], None, None) for key in keys}
    for row in rows:
        fact = found[row.pop("part")]
        first, last = row.pop("first_end"), row.pop("last_end")
        if first is not None and last is not None:
            fact.first_end = first if fact.first_end is None else min(first, fact.first_end)
            fact.last_end = last if fact.last_end is None else max(last, fact.last_end)
        fact.groups.append(row)
    return found


def _count(look: Look, wanted: TaskFilter, keys: Sequence[str]) -> dict[str, int]:
    where, values = wanted.where()
    parts = " UNION ALL ".join(
        f"SELECT '{key}' AS part, count(*) AS n FROM {look.partition(TASK, [key])} WHERE {where}" for key in keys
    )
    return dict(look.tuples(parts, values))


def find(look: Look, sources: Sequence[str], task_key: str) -> list[dict[str, Any]]:
    """The task of this key in each source that has it, with attempts, events, outputs and anomalies."""
    if not look.has(TASK):
        return []
    hashes = [f"md5_number_lower(concat_ws(chr(31), $s{n}, $key))" for n in range(len(sources))]
    values: dict[str, Any] = {f"s{n}": source for n, source in enumerate(sources)} | {"key": task_key}
    if not hashes:
        return []
    return look.rows(
        f"SELECT * EXCLUDE (task_hash, bucket_at) FROM {look.table(TASK)} "
        f"WHERE task_hash IN ({', '.join(hashes)}) AND task_key = $key ORDER BY source_id",
        values,
    )


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


def mean_execution_s(total: Mapping[str, Any]) -> Decimal | None:
    """Mean seconds of completed attempts; None without any."""
    n = total["execution_n"]
    return None if not n else Decimal(total["execution_sum_ms"]) / n / 1000

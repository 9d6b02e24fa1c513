"""Questions about tasks: lists with true totals, counters.

What belongs here: answering from ``core.task`` and the summaries beside its files without reading files that cannot
matter. Files never change, so what was counted in one is remembered for as long as a manifest names it. What does not:
parameters and envelopes, one task (``one_task``), completeness (``completeness``).
"""

from __future__ import annotations

import re
import sys
import threading
from array import array
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from itertools import compress, groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from monitoring_pipelines.entities import TASK_STATUSES
from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.published import key_texts, list_rows, row_facts
from monitoring_pipelines.published.kept import Kept
from monitoring_pipelines.published.key_bits import KeyBits
from monitoring_pipelines.published.key_texts import Text, usable
from monitoring_pipelines.published.list_rows import ListRows
from monitoring_pipelines.published.quarters import Quarters
from monitoring_pipelines.published.reader import Look, Turns
from monitoring_pipelines.published.row_facts import Facts, RowFacts
from monitoring_pipelines.published.searches import Found, Searches
from monitoring_pipelines.warehouse.lake import partition_span
from monitoring_pipelines.warehouse.serving import SLOTS, TASK
from monitoring_pipelines.warehouse.task_summaries import (
    APART,
    FIGURES,
    GROUP,
    LISTED,
    QUARTER,
    SUMS,
    VISIBLE,
)

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings

_LIST = ", ".join(LISTED)
#: What a list shows and is filtered and sorted by.
_READ = (*LISTED, "bucket_at")
#: Filters whose counts are remembered; those asked least recently are forgotten.
_MOST_REMEMBERED = 300
#: Those of them whose places are remembered too: 256 of each of 200 files are half a megabyte.
_MOST_WITH_PLACES = 40
_FILES_AT_ONCE = 8
#: Places of a text in a file that are asked for when all of them count, and when every row has to pass other filters too.
_FEW_PLACES, _MANY_PLACES = 8, 256
#: Ends of windows in files that are remembered.
_MOST_ENDS = 1000
#: Rows of a page that are read by their numbers; longer lists are read by their condition.
_MOST_BY_NUMBER = 1000


#: Characters that no letter becomes when it is lowered.
_NO_LETTERS = re.compile(r"[\x00-@\[-`{-\x7f]+")


def _has(column: str, text: str, plain: str) -> str:
    """Whether a column contains ``$text`` in any case; ``$plain``: a part of it that has no case."""
    if plain == text:
        return f"contains({column}, $text)"
    cheap = f"contains({column}, $plain) AND " if plain else ""
    return f"({cheap}contains(lower({column}), $text))"


class Group(NamedTuple):
    """Tasks of one file that no filter by facts tells apart."""

    source_id: str
    endpoint: str
    status: str
    raw_status: str | None
    with_output: bool
    gone: bool
    #: Whether they stand in the file of failures too.
    apart: bool
    n: int


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

    @cached_property
    def _chooses_by_facts(self) -> bool:
        return replace(self, text=None, start=None, end=None) != TaskFilter(self.sources)

    def takes_all(self, sources: set[str]) -> bool:
        """Whether every task of these sources passes, as far as text and time do not matter, whatever it is."""
        return not self._chooses_by_facts and sources.issubset(self.sources)

    def matches(self, tasks: Group | Facts) -> bool:
        """Whether tasks with these facts pass, as far as endpoint, text and time do not matter."""
        words = bool(self.statuses or self.raw_statuses)
        return (
            tasks.source_id in self.sources
            and (not words or tasks.status in self.statuses or tasks.raw_status in self.raw_statuses)
            and (self.has_output is None or tasks.with_output == self.has_output)
        )

    def passes(self, facts: Facts) -> bool:
        """Whether a row passes, as far as text and time do not matter."""
        return self.matches(facts) and (self.endpoint is None or facts.endpoint == self.endpoint)

    def reach(self, key: str) -> bool | None:
        """Whether the rows of a partition lie in ``start`` … ``end``: all (True), none (False), some (None)."""
        if self.start is None and self.end is None:
            return True
        span = partition_span(key)
        if span is None:
            return None
        if (self.end is not None and span[0] >= self.end) or (self.start is not None and span[1] <= self.start):
            return False
        inside = (self.start is None or span[0] >= self.start) and (self.end is None or span[1] <= self.end)
        return True if inside else None

    def where(self) -> tuple[str, dict[str, Any]]:
        """The condition and its parameters."""
        parts, values = [VISIBLE, "source_id IN $sources"], {"sources": self.sources}
        more: dict[str, Any] = {}
        words = {"status": self.statuses, "raw_status": self.raw_statuses}
        chosen = {column: names for column, names in words.items() if names}
        if chosen:
            parts.append(f"({' OR '.join(f'{column} IN ${column}' for column in chosen)})")
            more |= chosen
        if self.endpoint is not None:
            parts.append("endpoint = $endpoint")
            more["endpoint"] = self.endpoint
        if self.text is not None:
            text = self.text.lower()
            # Lowering ten million keys costs more than reading them: only those that have the part without letters.
            plain = max(_NO_LETTERS.findall(text), key=len, default="")
            parts.append(f"({' OR '.join(_has(column, text, plain) for column in ('task_key', 'remote_id'))})")
            more |= {"text": text, "plain": plain}
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
    """What one file holds: its groups, sums and quarters per source, and the first and last end of its tasks."""

    #: Groups of all endpoints together, and those of each.
    groups: list[Group] = field(default_factory=list)
    by_endpoint: dict[str, list[Group]] = field(default_factory=lambda: defaultdict(list))
    sums: dict[str, list[Any]] = field(default_factory=dict)
    quarters: dict[str, Quarters] = field(default_factory=lambda: defaultdict(Quarters))
    #: All tasks of the groups, and their sources.
    n: int = 0
    sources: set[str] = field(default_factory=set)
    first_end: datetime | None = None
    last_end: datetime | None = None

    def matching(self, wanted: TaskFilter) -> list[Group]:
        """Groups that pass a filter, as far as text and time do not matter."""
        groups = self.groups if wanted.endpoint is None else self.by_endpoint.get(wanted.endpoint, ())
        return [group for group in groups if wanted.matches(group)]

    def count(self, wanted: TaskFilter) -> int:
        """Tasks that pass a filter, as far as text and time do not matter."""
        return self.n if wanted.takes_all(self.sources) else sum(group.n for group in self.matching(wanted))

    def all_match(self, wanted: TaskFilter) -> bool:
        """Whether every task that lists show passes, as far as text and time do not matter."""
        return self.count(wanted) == self.n

    def has_all(self, wanted: TaskFilter, key: str) -> bool:
        """Whether every task that lists show passes but for its text; ``key`` is the partition of the file."""
        return bool(wanted.reach(key)) and self.all_match(wanted)

    def merge_endpoints(self) -> None:
        """Make ``groups`` of ``by_endpoint``: questions about all endpoints are many, and so are endpoints."""
        counts: dict[tuple[Any, ...], int] = defaultdict(int)
        for groups in self.by_endpoint.values():
            for group in groups:
                counts[group.source_id, "", *group[2:-1]] += group.n
        self.groups = [Group._make((*facts, n)) for facts, n in counts.items()]
        self.n = sum(counts.values())
        self.sources = {group.source_id for group in self.groups}


class _Searched(NamedTuple):
    """A text, and the facts of its rows when they decide too: held together, since a newer version may give up either."""

    text: Text
    facts: RowFacts | None


@dataclass
class _Counts:
    """Matching tasks of one filter by file, and the lock of whoever counts."""

    by_file: dict[str, int] = field(default_factory=dict)
    #: Where the texts of files have those that are few.
    places: dict[str, Sequence[int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class TaskIndex:
    """What is remembered of files; one per process, shared by threads.

    Attributes:
        bits: Which files may hold a task, for ``one_task``.
        texts: Keys of files as text, for searches.
        row_facts: What filters tell rows of files apart by.
        list_rows: Rows of files as lists show them, for those that lie apart.
        searches: Finds rows in ``texts``.
    """

    bits: KeyBits = field(default_factory=KeyBits)
    texts: Kept[Text] = field(default_factory=lambda: Kept(key_texts.text_of))
    row_facts: Kept[RowFacts] = field(default_factory=lambda: Kept(row_facts.row_facts))
    list_rows: Kept[ListRows] = field(default_factory=lambda: Kept(list_rows.list_rows))
    searches: Searches = field(default_factory=Searches)
    #: Held while rows are read from temporary files: at once they would only wait for the interpreter.
    _turn: Turns = field(default_factory=lambda: Turns(1))
    _facts: dict[str, _FileFacts] = field(default_factory=dict)
    _counts: OrderedDict[TaskFilter, _Counts] = field(default_factory=OrderedDict)
    _ends: OrderedDict[tuple[str, datetime], int] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _reading: threading.Lock = field(default_factory=threading.Lock)

    def facts(self, look: Look) -> dict[str, _FileFacts]:
        """Facts of every file of this version, by partition, newest first; new files are read once."""
        files = look.files(TASK)
        if any(file not in self._facts for file in files.values()):
            with self._reading:
                unknown = [key for key, file in files.items() if file not in self._facts]
                found = _read_facts(look, unknown)
                with self._lock:
                    alive = set(files.values())
                    kept = {
                        f: facts for f, facts in self._facts.items() if f in alive or len(self._facts) < 2 * len(files)
                    }
                    self._facts = kept | {files[key]: found[key] for key in unknown}
        known = self._facts
        return {key: known[file] for key, file in files.items()}

    def list_page(
        self, look: Look, wanted: TaskFilter, offset: int, limit: int, *, oldest_first: bool = False
    ) -> tuple[list[dict[str, Any]], int]:
        """One page, newest first by creation unless told otherwise, and how many tasks match in all (S-103)."""
        if oldest_first:  # the same page counted from the other end
            total = sum(self.counts(look, wanted).values())
            end = max(0, total - offset)
            start = max(0, end - limit)
            return self.list_page(look, wanted, start, end - start)[0][::-1], total
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
        limit = min(limit, total - offset)
        return self._page(look, wanted, {key: counts[key] for key in chosen}, skip, limit), total

    def _page(
        self, look: Look, wanted: TaskFilter, counts: Mapping[str, int], skip: int, limit: int
    ) -> list[dict[str, Any]]:
        """``limit`` rows after the first ``skip`` of partitions that have so many matching ones."""
        entry, facts, files = self._counts.get(wanted), self.facts(look), look.files(TASK)
        places = entry.places if entry else {}
        searched = self._texts(look, wanted, counts) if limit <= _MOST_BY_NUMBER else {}
        texts = {
            key: one.text for key, one in searched.items() if files[key] in places or facts[key].has_all(wanted, key)
        }
        whole = self._whole(look, counts) if limit <= _MOST_BY_NUMBER else set()
        found: list[dict[str, Any]] = []
        for is_numbered, part in groupby(counts, lambda key: key in texts or key in whole):
            keys = list(part)
            need = min(limit - len(found), sum(counts[key] for key in keys) - skip)
            if is_numbered:
                found += self._numbered(look, self._numbers(look, wanted, keys, counts, texts, places, skip, need))
            else:
                found += _rows(look, wanted, keys, self._place(look, wanted, keys), counts[keys[0]], skip, need)
            skip = 0
        return found

    def _whole(self, look: Look, counts: Mapping[str, int]) -> set[str]:
        """Partitions of which every row matches and can be read by its number alone."""
        entries = look.manifest.tables[TASK].partitions
        return {
            key
            for key, count in counts.items()
            if count == entries[key].rows and self.list_rows.known(entries[key].file) is not None
        }

    def _numbered(self, look: Look, numbers: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
        """The rows of these numbers by partition."""
        files = look.files(TASK)
        kept = {key: held for key in numbers if (held := self.list_rows.known(files[key])) is not None}
        found = _numbered(look, {key: some for key, some in numbers.items() if key not in kept})
        with self._turn:
            found |= {key: held.read(numbers[key]) for key, held in kept.items()}
        return [row for key in numbers for row in found[key]]

    def _texts(self, look: Look, wanted: TaskFilter, keys: Iterable[str]) -> dict[str, _Searched]:
        """The texts of those partitions in which the text of a filter decides, alone or with the facts of the rows that have it."""
        if not usable(wanted.text):
            return {}
        facts, files, found = self.facts(look), look.files(TASK), {}
        for key in keys:
            text, own = self.texts.known(files[key]), self.row_facts.known(files[key])
            if text is not None and wanted.reach(key) is not False and (own or facts[key].all_match(wanted)):
                found[key] = _Searched(text, None if facts[key].all_match(wanted) else own)
        return found

    def _found(self, look: Look, wanted: TaskFilter, texts: Mapping[str, _Searched]) -> dict[str, Found]:
        """What partitions have of a filter; those are left out that have too many rows with its text to look at each."""
        facts = self.facts(look)
        all_of = {key for key in texts if facts[key].has_all(wanted, key)}
        most = _FEW_PLACES if len(all_of) == len(texts) else _MANY_PLACES
        results = self.searches.find(usable(wanted.text), (one.text for one in texts.values()), most)
        found = dict(zip(texts, results.values(), strict=True))
        some = {key: result.places for key, result in found.items() if result.n and key not in all_of}
        found = {
            key: result if result.n <= _FEW_PLACES else Found(result.n, None)
            for key, result in found.items()
            if key not in some
        }
        inside = {key: self._rows_inside(look, wanted, key) for key in some}
        with self._turn:
            for key, places in some.items():
                if places is None:
                    continue
                rows = [texts[key].text.row(place) for place in places]
                chosen = [row in inside[key] for row in rows]
                own = texts[key].facts
                if own is not None:
                    numbers = own.numbers(rows)
                    passing = {number for number in {*numbers} if wanted.passes(own.known[number])}
                    chosen = [is_in and number in passing for is_in, number in zip(chosen, numbers, strict=True)]
                found[key] = Found(sum(chosen), array("Q", compress(places, chosen)))
        return found

    def _rows_inside(self, look: Look, wanted: TaskFilter, key: str) -> range:
        """Numbers of the rows of a partition that lie between ``start`` and ``end``: files are sorted by time, newest first."""
        rows = look.manifest.tables[TASK].partitions[key].rows
        if wanted.reach(key):
            return range(rows)
        first, last = (None if at is None else self._first_before(look, key, at) for at in (wanted.end, wanted.start))
        return range(first or 0, rows if last is None else last)

    def _first_before(self, look: Look, key: str, at: datetime) -> int:
        """The number of the first row of a partition that is older than an instant."""
        entry = look.manifest.tables[TASK].partitions[key]
        known = self._ends.get((entry.file, at))
        if known is None:
            found = look.tuples(
                f"SELECT file_row_number FROM {look.partition(TASK, [key], 'file_row_number', ('bucket_at',))} "
                "WHERE bucket_at < ? LIMIT 1", [at],
            )  # fmt: skip
            known = found[0][0] if found else entry.rows
            with self._lock:
                self._ends[entry.file, at] = known
                while len(self._ends) > _MOST_ENDS:
                    self._ends.popitem(last=False)
        return known

    def _numbers(
        self, look: Look, wanted: TaskFilter, keys: Sequence[str], counts: Mapping[str, int], texts: Mapping[str, Text],
        known: Mapping[str, Sequence[int]], skip: int, need: int,
    ) -> dict[str, Sequence[int]]:  # fmt: skip
        """Numbers of ``need`` matching rows after the first ``skip``, by partition."""
        entries = look.manifest.tables[TASK].partitions
        needle = usable(wanted.text)
        numbers: dict[str, Sequence[int]] = {}
        for key in keys:
            some = min(need, counts[key] - skip)
            if counts[key] == entries[key].rows:
                numbers[key] = range(skip, skip + some)
            else:
                held = known.get(entries[key].file)
                places = held[skip : skip + some] if held else self.searches.places(needle, texts[key], skip, some)
                numbers[key] = [texts[key].row(place) for place in places]
            need -= some
            skip = 0
        return numbers

    def _place(self, look: Look, wanted: TaskFilter, keys: Sequence[str]) -> str:
        """The table whose files of these partitions are the smallest that have every matching task."""
        facts = self.facts(look)
        if not look.has(APART) or not set(keys) <= look.files(APART).keys():
            return TASK
        return APART if all(group.apart for key in keys for group in facts[key].matching(wanted)) else TASK

    def counts(self, look: Look, wanted: TaskFilter) -> dict[str, int]:
        """Matching tasks per partition, newest first."""
        facts, files = self.facts(look), look.files(TASK)
        with self._lock:
            entry = self._counts.setdefault(wanted, _Counts())
            self._counts.move_to_end(wanted)
            while len(self._counts) > _MOST_REMEMBERED:
                self._counts.popitem(last=False)
            if len(self._counts) > _MOST_WITH_PLACES:  # one that is asked for again counts as new
                next(islice(reversed(self._counts.values()), _MOST_WITH_PLACES, None)).places = {}
        with entry.lock:
            alive = set(files.values())
            known = {file: n for file, n in entry.by_file.items() if file in alive}
            unread = []
            for key, fact in facts.items():
                if files[key] in known:
                    continue
                most = fact.count(wanted)
                reach = wanted.reach(key)
                if most and reach is not False and (wanted.text is not None or reach is None):
                    unread.append(key)
                else:
                    known[files[key]] = most if reach else 0
            places = {file: held for file, held in entry.places.items() if file in alive}
            if unread and wanted.text is not None:
                self.texts.catch_up(look)
                if not all(facts[key].all_match(wanted) for key in unread):
                    self.row_facts.catch_up(look)
            texts = self._texts(look, wanted, unread)
            found = self._found(look, wanted, texts) if texts else {}
            known |= {files[key]: result.n for key, result in found.items()}
            places |= {files[key]: result.places for key, result in found.items() if result.places is not None}
            unread = [key for key in unread if key not in found]
            if unread:
                known |= _count(look, wanted, unread, self._place(look, wanted, unread))
            entry.by_file, entry.places = known, places
        return {key: known[file] for key, file in files.items()}

    def totals(self, look: Look, sources: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Per source: tasks by status, sums over their attempts, and leaked slots as the check counts them (C-330)."""
        leaks = look.tuples(f"SELECT source_id, leaked FROM {look.table(SLOTS)}") if look.has(SLOTS) else []
        leaked = dict(leaks)
        result: dict[str, dict[str, Any]] = {
            source: {
                "leaked": leaked.get(source, 0),
                "tasks": 0,
                "with_output": 0,
                "by_status": defaultdict(int),
                **dict.fromkeys(SUMS, 0),
            }
            for source in set(sources)
        }
        for fact in self.facts(look).values():
            for group in fact.groups:
                total = result.get(group.source_id)
                if total is not None:
                    total["tasks"] += group.n
                    total["by_status"][group.status] += group.n
                    total["with_output"] += group.n if group.with_output else 0
            for source, sums in fact.sums.items():
                if source in result:
                    for name, value in zip(SUMS, sums, strict=True):
                        result[source][name] += value
        return result

    def live_totals(self, look: Look, source: str) -> dict[str, int]:
        """Tasks of a source by status, each once, without those that were deleted at the source (S-401)."""
        counts: dict[str, int] = {}
        for fact in self.facts(look).values():
            for group in fact.groups:
                if group.source_id == source and not group.gone:
                    counts[group.status] = counts.get(group.status, 0) + group.n
        return counts

    def own_words(self, look: Look) -> set[str]:
        """Words that the sources themselves have for the states of stored tasks."""
        groups = (group for fact in self.facts(look).values() for group in fact.groups)
        return {group.raw_status for group in groups if group.raw_status is not None}

    def partitions_ending_in(self, look: Look, start: datetime, end: datetime) -> list[str]:
        """Partitions that may hold tasks whose end lies in [start, end)."""
        return [
            key
            for key, fact in self.facts(look).items()
            if fact.last_end is not None and fact.first_end is not None
            and fact.last_end >= start and fact.first_end < end
        ]  # fmt: skip


def mapped_words(settings: Settings) -> list[str]:
    """Every word a list of tasks can be filtered by: the unified ones, ``timeout``, and those the sources map (S-220)."""
    columns = (table.columns.get("status") for one in settings.enabled_sources for table in one.mapped("task"))
    own = {word for column in columns if column is not None for word in column.map or ()}
    return sorted({*TASK_STATUSES, "timeout", *own})


def status_words(
    settings: Settings, look: Look, index: TaskIndex, text: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Unified words of a comma list, and those that are the sources' own; ``timeout`` means timed_out (S-220).

    Raises:
        UsageError: A word is neither, mapped or stored: leaving it out would show other tasks than asked for.
    """
    if text is None:
        return (), ()
    words = [word.strip() for word in text.split(",")]
    known = mapped_words(settings)
    for word in words:
        if word not in known and (not word or word not in index.own_words(look)):
            raise UsageError(f"{word[:40]!r} is no status", f"one of {', '.join(known)}")
    unified = {"timed_out" if word == "timeout" else word for word in words} & set(TASK_STATUSES)
    return tuple(sorted(unified)), tuple(sorted({*words} - {*TASK_STATUSES, "timeout"}))


def _read_facts(look: Look, keys: Sequence[str]) -> dict[str, _FileFacts]:
    """Facts of files, a few at a time: rows of many would leave memory behind that is many times what is kept."""
    found: dict[str, _FileFacts] = {}
    for first in range(0, len(keys), _FILES_AT_ONCE):
        found |= _facts_of(look, keys[first : first + _FILES_AT_ONCE])
    return found


def _facts_of(look: Look, keys: Sequence[str]) -> dict[str, _FileFacts]:
    found = {key: _FileFacts() for key in keys}
    columns = f"{', '.join(Group._fields)}, first_end, last_end, {', '.join(SUMS)}"
    parts = " UNION ALL ".join(f"SELECT '{key}', {columns} FROM {look.summary(GROUP, [key])}" for key in keys)
    for key, source, endpoint, status, raw, with_output, gone, apart, n, first, last, *sums in look.tuples(parts):
        fact = found[key]
        own = None if raw is None else sys.intern(raw)
        fact.by_endpoint[sys.intern(endpoint)].append(
            Group(sys.intern(source), sys.intern(endpoint), sys.intern(status), own, with_output, gone, bool(apart), n)
        )
        if first is not None and last is not None:
            fact.first_end = first if fact.first_end is None else min(first, fact.first_end)
            fact.last_end = last if fact.last_end is None else max(last, fact.last_end)
        held = fact.sums.setdefault(source, [0] * len(SUMS))
        for place, value in enumerate(sums):
            held[place] += value or 0
    parts = " UNION ALL ".join(
        f"SELECT '{key}', source_id, \"at\", {', '.join(FIGURES)} FROM {look.summary(QUARTER, [key])}" for key in keys
    )
    for key, source, at, *figures in look.tuples(f"{parts} ORDER BY ALL"):
        found[key].quarters[sys.intern(source)].add(at, figures)
    for fact in found.values():
        fact.merge_endpoints()
    return found


def _count(look: Look, wanted: TaskFilter, keys: Sequence[str], table: str) -> dict[str, int]:
    """Matching tasks by file, by reading them; ``table`` has them all."""
    where, values = wanted.where()
    files = look.files(TASK)
    rows = look.tuples(
        f"SELECT filename, count(*) FROM {look.partition(table, keys, 'filename', _READ)} WHERE {where} GROUP BY filename",
        values,
    )
    by_path = {str(look.lake.path / look.files(table)[key]): files[key] for key in keys}
    return {files[key]: 0 for key in keys} | {by_path[path]: n for path, n in rows}


def _rows(
    look: Look, wanted: TaskFilter, chosen: Sequence[str], table: str, first_count: int, skip: int, limit: int
) -> list[dict[str, Any]]:
    """``limit`` matching rows after the first ``skip`` of these partitions of ``table``, newest first.

    Files are stored in the order of the list and read one after the other, so a page needs no sort, which was a third of it, and
    reading ends with its last row. Files with different columns are read apart, so their rows are sorted.
    """
    where, values = wanted.where()
    files = look.manifest.tables[table].partitions
    if table == TASK and len(chosen) == 1 and first_count == files[chosen[0]].rows:
        numbered = look.partition(TASK, chosen, "file_row_number", _READ)
        span = f"file_row_number >= {int(skip)} AND file_row_number < {int(skip) + int(limit)}"
        return look.rows(f"SELECT {_LIST} FROM {numbered} WHERE {span} ORDER BY file_row_number")
    order = "ORDER BY bucket_at DESC, source_id, task_key" if len({files[key].schema for key in chosen}) > 1 else ""
    found = f"{look.partition(table, chosen, columns=_READ)} WHERE {where} {order}"
    return look.rows(f"SELECT {_LIST} FROM {found} LIMIT {int(limit)} OFFSET {int(skip)}", values)


def _numbered(look: Look, numbers: Mapping[str, Sequence[int]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of these numbers by partition; row groups that have none of them are not read."""
    parts = [
        f"SELECT '{key}', file_row_number, {_LIST} FROM {look.partition(TASK, [key], 'file_row_number', LISTED)} "
        f"WHERE file_row_number IN ({', '.join(map(str, rows))})"
        for key, rows in numbers.items()
        if rows
    ]
    found: dict[str, list[dict[str, Any]]] = {key: [] for key in numbers}
    if parts:
        for key, _, *row in sorted(look.tuples(" UNION ALL ".join(parts)), key=itemgetter(1)):
            found[key].append(dict(zip(LISTED, row, strict=True)))
    return found


def mean_execution_s(total: Mapping[str, Any]) -> Decimal | None:
    """Mean seconds of completed attempts; None without any."""
    n = total["execution_n"]
    return None if not n else Decimal(total["execution_sum_ms"]) / n / 1000

"""Questions about endpoints: which there are, their statistics over a range, one merged row, their workers.

What belongs here: choosing grain and rows, filling known zeros, merging by components. What does not: computing the
rows (``dbt_like_sql``) and parameters (``api``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import chain
from math import fsum
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.severity import quotient
from monitoring_pipelines.warehouse import histogram
from monitoring_pipelines.warehouse.lake import partition_span

Grain = Literal["minute", "hour", "day"]
LENGTH: dict[Grain, timedelta] = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
}
COLUMN: dict[Grain, str] = {"minute": "stat_minute", "hour": "stat_hour", "day": "stat_date"}
_SUFFIX: dict[Grain, str] = {"minute": "minute", "hour": "hourly", "day": "daily"}
#: Longest range of a grain (S-211).
LONGEST: dict[Grain, timedelta] = {"minute": timedelta(days=31), "hour": timedelta(days=400)}
#: What stays as it is together, once it is over and published: minutes of an hour, hours of a day.
UNIT: dict[Grain, timedelta] = {"minute": timedelta(hours=1), "hour": timedelta(days=1), "day": timedelta(days=30)}
_QUALITY = ("exact", "bridged", "estimated", "unknown")
DAY = timedelta(days=1)


def table_of(family: str, grain: Grain) -> str:
    """Name of a statistics table."""
    return f"mart.{family}_{_SUFFIX[grain]}_stats"


def choose_grain(wanted: str, start: datetime, end: datetime) -> Grain:
    """The grain of a range; ``auto`` takes minutes up to 12 h, hours up to 7 days, else days (S-211)."""
    if wanted in LENGTH:
        return wanted
    if end - start <= timedelta(hours=12):
        return "minute"
    return "hour" if end - start <= timedelta(days=7) else "day"


def closed_through(look: Look, source_id: str) -> datetime | None:
    """Minutes of the source before this instant are closed; None before the first."""
    return look.manifest.sources.get(source_id, {}).get("closed_through")


def having(rows: Sequence[dict[str, Any]], text: str | None) -> list[dict[str, Any]]:
    """Those whose endpoint's name has ``text``, any case."""
    return [row for row in rows if text is None or text.lower() in row["endpoint"].lower()]


def listed(look: Look, sources: Sequence[str]) -> list[dict[str, Any]]:
    """Every endpoint with a row in the last 24 hours or a registration, its newest closed minute and 24 h totals."""
    tables = ("raw.endpoint", *(table_of("endpoint", grain) for grain in LENGTH))
    closed = (closed_through(look, source) for source in sources)
    return look.once(("endpoints", *sources), tables, lambda: _listed(look, sources), *closed)


def _listed(look: Look, sources: Sequence[str]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    if look.has("raw.endpoint"):
        sql = f"SELECT source_id, endpoint, status FROM {look.table('raw.endpoint')} WHERE deleted_at IS NULL"
        for source, endpoint, status in look.tuples(sql):
            found[source, endpoint] = {"registered_status": status}
    minute, hour = table_of("endpoint", "minute"), table_of("endpoint", "hour")
    if look.has(minute):
        for source in sources:
            _add_recent(look, source, minute, found)
    if look.has(hour):
        for source, endpoint in look.tuples(f"SELECT DISTINCT source_id, endpoint FROM {look.table(hour)}"):
            found.setdefault((source, endpoint), {})
    rows = []
    for (source, endpoint), facts in sorted(found.items()):
        if source not in sources:
            continue
        common = {"source_id": source, "endpoint": endpoint, "registered_status": facts.get("registered_status")}
        rows.append(common | {"latest": facts.get("latest"), "totals_24h": facts.get("totals_24h")})
    return rows


#: Sums over 24 h that a list of endpoints shows.
TOTALS = (
    "tasks_submitted", "tasks_completed", "tasks_failed", "tasks_timeout", "tasks_cancelled", "tasks_retried",
    "execution_n", "execution_sum_ms", "queue_wait_n", "queue_wait_sum_ms",
)  # fmt: skip
#: What it shows of the newest closed minute.
LATEST = (
    "stat_minute", "active_workers", "idle_workers", "total_workers", "queue_depth_end", "running_end",
    "avg_worker_utilization", "slot_utilization", "tasks_submitted", "tasks_completed", "quality", "worker_source",
)  # fmt: skip


def _add_recent(look: Look, source: str, minute: str, found: dict[tuple[str, str], dict[str, Any]]) -> None:
    end = closed_through(look, source)
    if end is None:
        return
    start = end - DAY
    sums = ", ".join(f"sum({name}) AS {name}" for name in TOTALS)
    last = ", ".join(f"arg_max({name}, stat_minute) AS last_{name}" for name in LATEST)
    rows = look.rows(
        f"SELECT endpoint, {sums}, {last}, max(max_execution_ms) AS max_execution_ms "
        f"FROM {look.table(minute, start, end)} WHERE source_id = $source "
        "AND stat_minute >= $start AND stat_minute < $end GROUP BY endpoint",
        {"source": source, "start": start, "end": end},
    )
    newest = end - LENGTH["minute"]
    for row in rows:
        facts = found.setdefault((source, row["endpoint"]), {})
        totals = {name: row[name] for name in TOTALS}
        facts["totals_24h"] = totals | derived(totals) | {"max_execution_ms": row["max_execution_ms"]}
        # Without a row in the newest closed minute it is a known zero (M-110); older values would be stale.
        if row["last_stat_minute"] == newest:
            facts["latest"] = {name: row[f"last_{name}"] for name in LATEST}
        else:
            zeros = _zeros(LATEST, measured(look, source))
            facts["latest"] = {"stat_minute": newest} | zeros | {"worker_source": "none"}


def _zeros(columns: Sequence[str], known: Collection[str]) -> dict[str, Any]:
    """A closed bucket without row: what is measured of the source is 0, everything else NULL (M-110, S-212, E-510)."""
    keys = ("source_id", "endpoint", "stat_minute", "stat_hour", "stat_date")
    return {name: 0 if name in known else None for name in columns if name not in keys}


def measured(look: Look, source_id: str) -> frozenset[str]:
    """Counts that are known of a source: those that its stored rows have ever had, all while it has no row.

    What no input tells is NULL in every row; a minute without row does not make a zero of it.
    """
    tables = [table for table in (table_of("endpoint", "day"), table_of("endpoint", "hour")) if look.has(table)]
    return look.once(("measured", source_id), tables, lambda: _measured(look, tables, source_id))


def _measured(look: Look, tables: Sequence[str], source_id: str) -> frozenset[str]:
    counts = _counts()
    for table in tables:
        names = [name for name in look.columns(table) if name in counts]
        asked = ", ".join(f"count({name})" for name in names)
        total, *found = look.tuples(
            f"SELECT count(*), {asked} FROM {look.table(table)} WHERE source_id = ?", [source_id]
        )[0]
        if total:
            return counts.difference(name for name, n in zip(names, found, strict=True) if not n)
    return counts


@cache
def _counts() -> frozenset[str]:
    """Columns that are 0 when nothing happened."""
    summed = {name for name, rollup in rollup_of().items() if rollup in ("sum", "last") and not _is_map(name)}
    return frozenset(summed | {"active_workers", "idle_workers", "total_workers", "queue_depth_max", "idle_spells"})


def _is_map(name: str) -> bool:
    return name.endswith("_hist") or name == "execution_time_distribution"


@cache
def rollup_of() -> dict[str, str]:
    """Column → how it rolls up, as the SQL models say."""
    from monitoring_pipelines.warehouse.sql_models import load_model

    found: dict[str, str] = {}
    for grain in LENGTH:
        for name, column in load_model(table_of("endpoint", grain)).columns.items():
            found[name] = column.rollup
    return found


def statistics(
    look: Look, source_id: str, endpoint: str, grain: Grain, start: datetime, end: datetime, *, fill: bool,
    floats: bool = False, columns: Sequence[str] = ("*",),
) -> list[dict[str, Any]]:  # fmt: skip
    """Stored rows of [start, end), oldest first; with ``fill`` closed buckets without row appear as known zeros.

    ``columns``: those of stored rows that are needed besides the bucket; every one costs 20 µs in every file.
    With ``floats`` decimals come as the nearest float, which is what JSON writes: thousands of rows cost half as much.
    """
    table, column = table_of("endpoint", grain), COLUMN[grain]
    if not look.has(table):
        return []
    whole = "*" in columns
    files = look.table(table, start, end, None if whole else {*columns, column, "source_id", "endpoint"}, floats=floats)
    # Sorted here: as a part of the statement, sorting ninety columns would be a third of it.
    rows = look.rows(
        f"SELECT {'*' if whole else ', '.join((*columns, column))}, 'stored' AS source FROM {files} "
        f'WHERE source_id = $source AND endpoint = $endpoint AND "{column}" >= $start AND "{column}" < $end',
        {"source": source_id, "endpoint": endpoint, "start": start, "end": end},
    )
    rows.sort(key=itemgetter(column))
    parse_maps(rows)
    if fill:
        rows = filled(look, rows, source_id, endpoint, grain, start, end)
    return rows


class Unit(NamedTuple):
    """What of a series lies between two multiples of ``UNIT``.

    Attributes:
        start: Naive UTC.
        end: Naive UTC.
        whole: The multiples; a range may begin or end between them.
        files: All that have rows between the multiples.
    """

    start: datetime
    end: datetime
    whole: tuple[datetime, datetime]
    files: tuple[str, ...]

    @property
    def is_cut(self) -> bool:
        """Whether a part is left out."""
        return self.whole != (self.start, self.end)


def units(look: Look, source_id: str, grain: Grain, start: datetime, end: datetime) -> list[Unit]:
    """[start, end) in units, oldest first, without what lies before or after all that is known."""
    source, files = look.manifest.sources.get(source_id, {}), look.files(table_of("endpoint", grain))
    spans = [(file, *(partition_span(key) or (start, end))) for key, file in files.items()]
    known = [source.get("origin"), source.get("closed_through"), *chain.from_iterable(span[1:] for span in spans)]
    instants = [instant for instant in known if instant is not None]
    start, end = max(start, min(instants, default=end)), min(end, max(instants, default=start))
    wholes = list(_multiples(start, end, UNIT[grain]))
    found: dict[datetime, list[str]] = {at: [] for at, _ in wholes}
    for file, first, last in spans if wholes else ():
        for at, _ in _multiples(max(first, wholes[0][0]), min(last, wholes[-1][1]), UNIT[grain]):
            found[at].append(file)
    return [Unit(max(at, start), min(to, end), (at, to), tuple(found[at])) for at, to in wholes]


def _multiples(start: datetime, end: datetime, length: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Spans between multiples of ``length`` that cover [start, end)."""
    at = start - (start - datetime.min) % length
    while at < end:
        to = at + min(length, datetime.max - at)
        yield at, to
        at = to


def decimals(look: Look, grain: Grain) -> dict[str, int]:
    """Digits after the point of every decimal column of the statistics."""
    kinds = look.manifest.tables[table_of("endpoint", grain)].columns if look.has(table_of("endpoint", grain)) else ()
    return {name: int(kind.rstrip(")").split(",")[1]) for name, kind in kinds if kind.startswith("DECIMAL")}


def parse_maps(rows: Sequence[dict[str, Any]]) -> None:
    """Turn histograms and distributions of stored rows, which all have the same columns, from JSON text into maps."""
    import orjson

    names = [name for name in (rows[0] if rows else ()) if _is_map(name)]
    for row in rows:
        for name in names:
            if isinstance(row[name], str):
                row[name] = orjson.loads(row[name])


def filled(
    look: Look, rows: list[dict[str, Any]], source_id: str, endpoint: str, grain: Grain, start: datetime, end: datetime
) -> list[dict[str, Any]]:
    """Stored rows of [start, end) and known zeros of closed buckets without one, oldest first (S-212)."""
    closed = closed_through(look, source_id)
    origin = look.manifest.sources.get(source_id, {}).get("origin")
    if closed is None:
        return rows
    column, step = COLUMN[grain], LENGTH[grain]
    known = {as_instant(row[column]): row for row in rows}
    zeros = _zeros(look.columns(table_of("endpoint", grain)), measured(look, source_id))
    at = max(start, origin or start)
    at += (datetime.min - at) % step
    result = []
    while at < end and at + step <= closed:
        row = known.get(at)
        if row is None:
            row = {"source_id": source_id, "endpoint": endpoint, column: at.date() if grain == "day" else at}
            row |= zeros | {"state": "closed", "source": "none", "quality": None, "worker_source": "none"}
        result.append(row)
        at += step
    return result + [row for instant, row in known.items() if instant + step > closed]


def as_instant(value: datetime | date) -> datetime:
    """The start of a bucket; that of a day is stored as a date."""
    return value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)


_RATIOS: tuple[tuple[str, str, str, int], ...] = (
    # result, numerator, denominator, factor
    ("avg_queue_wait_ms", "queue_wait_sum_ms", "queue_wait_n", 1),
    ("avg_execution_ms", "execution_sum_ms", "execution_n", 1),
    ("avg_failed_execution_ms", "failed_execution_sum_ms", "failed_execution_n", 1),
    ("avg_total_ms", "total_sum_ms", "total_n", 1),
    ("avg_worker_utilization", "busy_ms", "online_ms", 100),
    ("slot_utilization", "slot_busy_ms", "slot_online_ms", 100),
    ("avg_cold_start_ms", "cold_start_sum_ms", "cold_starts", 1),
    ("avg_gpu_utilization", "gpu_sum", "gpu_n", 1),
    ("avg_gpu_memory_used_mb", "gpu_memory_used_mb_sum", "gpu_memory_used_mb_n", 1),
    ("avg_cpu_utilization", "cpu_utilization_sum", "cpu_utilization_n", 1),
    ("avg_memory_used_mb", "memory_used_mb_sum", "memory_used_mb_n", 1),
    ("snapshot_coverage_pct", "snapshots_received", "snapshots_expected", 100),
)


def ratio(numerator: Any, denominator: Any, factor: int = 1) -> float | None:
    """Factor · a / b with two decimals, half up; None without observations (M-105, M-106)."""
    if numerator is None or not denominator:
        return None
    return quotient(numerator, denominator, 2, factor)


def derived(sums: Mapping[str, Any]) -> dict[str, Any]:
    """Rates and averages that follow from the sums at hand."""
    found: dict[str, Any] = {
        name: ratio(sums[top], sums[bottom], factor)
        for name, top, bottom, factor in _RATIOS
        if top in sums and bottom in sums
    }
    ends = [sums.get(name) for name in ("tasks_completed", "tasks_failed", "tasks_timeout")]
    if "tasks_completed" in sums:
        known = None not in ends
        found["success_rate"] = ratio(ends[0], sum(int(n or 0) for n in ends), 100) if known else None
    return found


#: Merged rows that wait to be merged with each other.
_MOST_UNMERGED = 30
#: Rollups that are merged value by value.
_MERGED = ("sum", "max", "min", "last")


def summary(rows: Sequence[Mapping[str, Any]], digits: Mapping[str, int] | None = None) -> dict[str, Any]:
    """One row merged over the rows of a range; see ``Summary``."""
    whole = Summary(digits)
    whole.add(rows)
    return whole.row()


class Merged(NamedTuple):
    """Rows as one.

    Attributes:
        row: What they say together; empty without rows.
        n: How many they are.
        n_stored: How many of them are stored, not known zeros.
    """

    row: dict[str, Any]
    n: int
    n_stored: int

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], digits: Mapping[str, int]) -> Merged:
        """Merge rows, oldest first; ``digits`` as in ``Summary``."""
        n_stored = sum(row.get("source") != "none" for row in rows)
        return cls(_merged(rows, digits) if rows else {}, len(rows), n_stored)


class Summary:
    """One row merged over the rows of a range (S-213): sums, extremes, derived values, percentiles (M-454).

    The rows may come in pieces, oldest first: only what is merged of them is kept.

    Args:
        digits: As ``decimals`` says them, for rows with floats: sums are exact all the same.
    """

    def __init__(self, digits: Mapping[str, int] | None = None) -> None:
        self._digits = digits or {}
        self._merged: list[dict[str, Any]] = []
        self._n = self._n_stored = 0

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take further rows into account."""
        self.join(Merged.of(rows, self._digits))

    def join(self, piece: Merged) -> None:
        """Take further rows into account that were merged before."""
        if piece.n:
            self._merged.append(piece.row)
            if len(self._merged) > _MOST_UNMERGED:
                self._merged = [_merged(self._merged, {})]
            self._n += piece.n
            self._n_stored += piece.n_stored

    def row(self) -> dict[str, Any]:
        """What all of them say."""
        if len(self._merged) > 1:
            self._merged = [_merged(self._merged, {})]
        merged = self._merged[0] if self._n_stored else {}
        result: dict[str, Any] = {"n": self._n, "stored_rows": self._n_stored}
        result |= {name: merged[name] for name in merged if name in _rolled_up()}
        result |= derived(result)
        result |= _percentiles(merged, result, raw=self._n_stored == 1)
        result["quality"] = merged.get("quality")
        result["coverage"] = result.get("snapshot_coverage_pct")
        return result


#: Percentiles as they were measured, which one stored row has.
_MEASURED = ("p50_execution_ms", "p95_execution_ms", "p99_execution_ms", "p95_queue_wait_ms")


@cache
def _needed() -> frozenset[str]:
    """Columns a summary follows from."""
    return frozenset({*_rolled_up(), *filter(_is_map, rollup_of()), *_MEASURED, "source", "quality"})


@cache
def _rolled_up() -> dict[str, str]:
    """Columns that are merged value by value, and how."""
    return {name: kind for name, kind in rollup_of().items() if kind in _MERGED and not _is_map(name)}


def _merged(rows: Sequence[Mapping[str, Any]], digits: Mapping[str, int]) -> dict[str, Any]:
    """What a summary needs of all of these; what cannot be merged is that of the last stored one."""
    stored = [row for row in rows if row.get("source") != "none"]
    kinds, needed = _rolled_up(), _needed()
    result = {name: value for name, value in (stored or rows)[-1].items() if name in needed}
    for name in result:
        if name in kinds:
            result[name] = _one(kinds[name], [row.get(name) for row in rows], digits.get(name))
        elif _is_map(name):
            result[name] = histogram.merge(row.get(name) for row in stored) or None
    found = [row["quality"] for row in stored if row.get("quality") in _QUALITY]
    return result | {"quality": max(found, key=_QUALITY.index, default=None)}


def _one(kind: str, values: Sequence[Any], digits: int | None) -> Any:
    """Values of a column as one; ``digits`` after the point, when they are decimals given as floats."""
    if kind == "last":
        return values[-1]
    if None in values:
        values = [value for value in values if value is not None]
    if kind == "sum" and values:
        return sum(values) if digits is None else _exact_sum(values, digits)
    return None if kind == "sum" else (max if kind == "max" else min)(values, default=None)


def _exact_sum(values: Sequence[float], digits: int) -> Decimal:
    """The sum of decimals given as floats: in whole units of the last digit, which floats below 10¹² tell apart."""
    scale = 10**digits
    # While all of it is below 2⁵⁰ units, what floats are off by adds up to less than half a unit.
    if len(values) * max(map(abs, values)) * scale < 2**50:
        return Decimal(round(fsum(values) * scale)).scaleb(-digits)
    return Decimal(sum(round(value * scale) for value in values)).scaleb(-digits)


def _percentiles(row: Mapping[str, Any], merged: Mapping[str, Any], *, raw: bool) -> dict[str, Any]:
    """As they were measured (``raw``: of one stored row), else estimated."""
    if raw:
        return {name: row.get(name) for name in _MEASURED} | {"percentile_source": "raw"}
    runs, waits = row.get("exec_hist") or {}, row.get("queue_hist") or {}
    low, high = merged.get("min_execution_ms"), merged.get("max_execution_ms")
    result: dict[str, Any] = {
        f"p{p}_execution_ms": histogram.estimate_percentile(runs, p / 100, low, high) for p in (50, 95, 99)
    }
    result["p95_queue_wait_ms"] = histogram.estimate_percentile(waits, 0.95, None, merged.get("max_queue_wait_ms"))
    result["execution_time_distribution"] = row.get("execution_time_distribution")
    return result | {"percentile_source": "histogram", "error_bound": histogram.ERROR_BOUND}


def owners(look: Look, sources: Sequence[str]) -> dict[str, list[str]]:
    """Endpoint → sources that have ever had it."""
    tables = ("raw.endpoint", table_of("endpoint", "day"), table_of("endpoint", "hour"))
    found = look.once(("owners",), tables, lambda: _owners(look, tables))
    return {endpoint: [source for source in sources if source in names] for endpoint, names in found.items()}


def _owners(look: Look, tables: Sequence[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for table in tables:
        if look.has(table):
            for source, endpoint in look.tuples(f"SELECT DISTINCT source_id, endpoint FROM {look.table(table)}"):
                found.setdefault(endpoint, set()).add(source)
    return found

"""Questions about jobs: current figures, overview, failure heat map (M-501 to M-505).

What belongs here: answering from ``raw.job``, ``core.job_figure`` and counts of ``raw.job_run``. What does not: lists of runs
(``job_runs``), starting jobs.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.published.endpoints import ratio
from monitoring_pipelines.published.job_runs import FAILED, LONGEST_RUN
from monitoring_pipelines.published.reader import Look

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings

DAY = timedelta(days=1)
SELF = "_self"
#: What ``figures`` follows from.
TABLES = ("raw.job", "core.job_figure")
_COUNTERS = ("success_count", "failure_count", "timeout_count", "missed_count", "skipped_count")
#: Below it a hundredth is far above the error of a multiplication; nearer to the middle decimals decide.
_EXACT_MS, _NEAR = 1e9, 1e-4
_DURATIONS = ("avg", "p50", "p95", "p99", "min", "max")


def two(value: Any) -> float | None:
    """A duration with two decimals, half up (M-106)."""
    if value is None:
        return None
    number = float(value)
    whole, part = divmod(100 * number, 1) if 0 <= number < _EXACT_MS else (0, 0.5)
    if abs(part - 0.5) > _NEAR:  # so far from the middle that no rounding of the product can have crossed it
        return (whole + (part > 0.5)) / 100
    return float(Decimal(repr(number)).quantize(Decimal("0.01"), ROUND_HALF_UP))


def _exact(value: float | None) -> Decimal | None:
    """The number of milliseconds that was meant, so that the middle between two hundredths is rounded up (M-106)."""
    return None if value is None else Decimal(repr(value))


class Job(Mapping[str, Any]):
    """One job with its current figures. Everybody gets the same ten thousand: as dictionaries they were 20 MB, so they are 5."""

    __slots__ = ("_values",)

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._values = [row[name] for name in _COLUMNS]

    def __getitem__(self, name: str) -> Any:
        return self._values[_PLACES[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(_COLUMNS)

    def __len__(self) -> int:
        return len(_COLUMNS)

    def set_next_run(self, at: datetime | None) -> None:
        """What alone may be written into a row that others hold, because it follows from the time."""
        self._values[_PLACES["next_run_time"]] = at


_COLUMNS = (
    "source_id", "job_id", "job_name", "owner", "category", "description", "schedule", "enabled", "risk_level",
    "sla_seconds", "dependencies", "registered", *_COUNTERS, "total_runs", "success_rate", "last_duration_ms",
    "lifetime_avg_duration_ms", "total_duration_ms", "duration_n", "last_status", "last_timestamp", "last_error",
    "running_count", "sample_count", "missed_since_last", "next_run_time", *(f"{name}_duration_ms" for name in _DURATIONS),
)  # fmt: skip
_PLACES = {name: place for place, name in enumerate(_COLUMNS)}


def figures(look: Look, sources: Sequence[str]) -> list[Job]:
    """Every job of the sources, registered or only seen by its runs, with its current figures, by source and id.

    A job that never finished a run has counters 0, status ``never`` and NULL durations (M-503). Everybody gets the same rows.
    """
    rows = look.once(("jobs",), TABLES, lambda: _figures(look))
    return [row for row in rows if row["source_id"] in sources]


def _figures(look: Look) -> list[Job]:
    registered = _by_key(look, "raw.job", "WHERE deleted_at IS NULL", _REGISTERED)
    known = _by_key(look, "core.job_figure", "", _RUN)
    shared: dict[str, str] = {}
    rows = []
    for key in sorted({*registered, *known}):
        # The same words in every row would be most of what is kept.
        job = [shared.setdefault(one, one) if isinstance(one, str) else one for one in registered.pop(key, ())]
        run, source = known.pop(key, ()), shared.setdefault(key[0], key[0])
        # What is not there says nothing, which is none of its columns.
        told, ran = dict(zip(_REGISTERED, job, strict=bool(job))), dict(zip(_RUN, run, strict=bool(run)))
        rows.append(_job((source, key[1]), told, ran))
    return rows


_REGISTERED = (
    "name", "owner", "category", "description", "schedule", "enabled", "risk_level", "sla_seconds", "dependencies",
)  # fmt: skip
_RUN = (
    *_COUNTERS, "duration_n", "total_duration_ms", "last_duration_ms", "last_status", "last_timestamp", "last_error",
    "running_count", "sample_count", "missed_since_last", *(f"{name}_duration_ms" for name in _DURATIONS),
)  # fmt: skip


def _by_key(look: Look, table: str, where: str, columns: Sequence[str]) -> dict[tuple[str, str], tuple[Any, ...]]:
    if not look.has(table):
        return {}
    known = set(look.columns(table))
    # A column that is new to the program is unknown until the next publication.
    asked = ", ".join(name if name in known else f"NULL AS {name}" for name in columns)
    rows = look.tuples(f"SELECT source_id, job_id, {asked} FROM {look.table(table)} {where}")
    return {(row[0], row[1]): row[2:] for row in rows}


def with_own(rows: list[Job], settings: Settings, sources: Sequence[str]) -> list[Job]:
    """The rows, with every job of the product as its registry says, whether it has run or not (S-702, M-503)."""
    from monitoring_pipelines.self_jobs import OWNER, product_jobs

    if SELF not in sources:
        return rows
    known = {row["job_id"]: row for row in rows if row["source_id"] == SELF}
    own = []
    for job in product_jobs(settings).values():
        row = known.pop(job.id, None) or _job((SELF, job.id), {}, {})
        own.append(Job({
            **row, "job_name": job.name(settings.language), "owner": OWNER, "category": job.category, "schedule": job.cron,
            "enabled": True, "risk_level": job.risk_level, "sla_seconds": job.sla_seconds, "registered": True,
        }))  # fmt: skip
    return [*(row for row in rows if row["source_id"] != SELF), *own, *known.values()]


def own_from(rows: Sequence[Mapping[str, Any]]) -> int:
    """Where the product's own jobs begin: they come last."""
    return next((place for place in range(len(rows), 0, -1) if rows[place - 1]["source_id"] != SELF), 0)


def of_id(rows: Sequence[Mapping[str, Any]], job_id: str, sources: Sequence[str]) -> list[Mapping[str, Any]]:
    """Those of this id among rows of ``sources`` in the order of ``with_own``, without looking at all of them."""
    own = own_from(rows)
    places = ((source, bisect_left(rows, (source, job_id), 0, own, key=_key)) for source in sources)
    found = [rows[place] for source, place in places if place < own and _key(rows[place]) == (source, job_id)]
    return [*found, *(row for row in rows[own:] if row["job_id"] == job_id)]


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["source_id"], row["job_id"]


def _job(key: tuple[str, str], job: Mapping[str, Any], run: Mapping[str, Any]) -> Job:
    counters = {name: run.get(name) or 0 for name in _COUNTERS}
    total = counters["success_count"] + counters["failure_count"]
    n = run.get("duration_n") or 0
    sum_ms = run.get("total_duration_ms")
    return Job({
        "source_id": key[0], "job_id": key[1], "job_name": job.get("name") or key[1], "owner": job.get("owner"),
        "category": job.get("category"), "description": job.get("description"), "schedule": job.get("schedule"),
        "enabled": job.get("enabled"), "risk_level": job.get("risk_level"), "sla_seconds": job.get("sla_seconds"),
        "dependencies": job.get("dependencies"), "registered": bool(job), **counters, "total_runs": total,
        "success_rate": ratio(counters["success_count"], total, 100),
        "last_duration_ms": two(run.get("last_duration_ms")), "lifetime_avg_duration_ms": ratio(_exact(sum_ms), n),
        "total_duration_ms": two(sum_ms) if n else None, "duration_n": n,
        "last_status": sys.intern(run.get("last_status") or "never"),
        "last_timestamp": run.get("last_timestamp"), "last_error": run.get("last_error"),
        "running_count": run.get("running_count") or 0, "sample_count": run.get("sample_count") or 0,
        "missed_since_last": run.get("missed_since_last") or 0,
        "next_run_time": None,
    } | {f"{name}_duration_ms": two(run.get(f"{name}_duration_ms")) for name in _DURATIONS})  # fmt: skip


def overview(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """M-504: run-weighted figures over all jobs."""
    success, total = sum(row["success_count"] for row in rows), sum(row["total_runs"] for row in rows)
    n = sum(row["duration_n"] for row in rows)
    spent = sum((_exact(row["total_duration_ms"]) or 0 for row in rows), Decimal(0))
    return {
        "jobs": len(rows), "total_runs": total, "success_count": success, "success_rate": ratio(success, total, 100),
        "avg_duration_ms": ratio(spent, n), "jobs_with_failures": sum(row["failure_count"] >= 1 for row in rows),
        "failure_count": sum(row["failure_count"] for row in rows),
    }  # fmt: skip


def heatmap(look: Look, jobs: Sequence[Mapping[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """M-505: failures of the last 24 h per category, with a colour and the jobs that failed; categories without failure last."""
    categories = {(row["source_id"], row["job_id"]): row["category"] or "" for row in jobs}
    counts: dict[str, int] = dict.fromkeys(categories.values(), 0)
    failing: dict[str, list[dict[str, Any]]] = {name: [] for name in counts}
    if look.has("raw.job_run"):
        rows = look.tuples(
            f"SELECT source_id, job_id, count(*) FROM {look.table('raw.job_run', now - DAY - LONGEST_RUN)} "
            "WHERE list_contains($failed, outcome) AND ended_at >= $start AND ended_at < $now GROUP BY ALL",
            {"start": now - DAY, "now": now, "failed": list(FAILED)},
        )
        for source, job, n in rows:
            if (source, job) in categories:
                counts[categories[source, job]] += n
                failing[categories[source, job]].append({"source_id": source, "job_id": job, "failures": n})
    most = max(counts.values(), default=0)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [
        {"category": name, "failures": n, "intensity": ratio(n, most, 100),
         "color": _colour(100 * n / most if most else 0),
         "jobs": sorted(failing[name], key=lambda row: (-row["failures"], row["source_id"], row["job_id"]))}
        for name, n in ordered
    ]  # fmt: skip


def _colour(intensity: float) -> str | None:
    if intensity > 70:
        return "red"
    if intensity > 40:
        return "amber"
    return "yellow" if intensity > 0 else None


def next_due(schedule: str | None, now: datetime, zone: str) -> datetime | None:
    """The next due instant (naive UTC) of a cron line; None when there is none or it is no cron line of five fields."""
    from monitoring_pipelines.cron import Cron

    if not schedule:
        return None
    try:
        return Cron.parse(schedule).next(now, zone)
    except ValueError:
        return None

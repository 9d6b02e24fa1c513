"""A slow second implementation of the endpoint statistics, straight from the definitions.

What belongs here: the figures of every minute, hour and day of a small world, by looking at each stretch between two
neighbouring instants and asking what is true in it. What does not: SQL, sweeps, or anything the product uses.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
Row = dict[str, Any]
SOURCE_ORDER = ["none", "lifecycle", "snapshots", "current_state", "attempts"]
QUALITY_ORDER = ["exact", "bridged", "estimated", "unknown"]
BINS = {"0-500": (0, 500), "500-1000": (500, 1000), "1000-1500": (1000, 1500), "1500-2000": (1500, 2000),
        "2000-3000": (2000, 3000), "3000-5000": (3000, 5000), "5000+": (5000, math.inf)}  # fmt: skip
COUNTS = ("tasks_submitted", "tasks_completed", "tasks_failed", "tasks_timeout", "tasks_cancelled", "attempts_started",
          "attempts_lost", "queue_wait_n", "queue_wait_sum_ms", "execution_n", "execution_sum_ms",
          "failed_execution_n", "failed_execution_sum_ms", "total_n", "total_sum_ms")  # fmt: skip
EVENTS = ("tasks_retried", "late_events", "duplicate_events")
WORKERS = ("online_ms", "busy_ms", "idle_ms", "slot_online_ms", "slot_busy_ms", "idle_count", "workers_created",
           "workers_terminated", "workers_lost")  # fmt: skip
COLD = ("cold_starts", "cold_start_sum_ms")
SAMPLES = ("gpu_n", "gpu_sum", "gpu_memory_used_mb_n", "gpu_memory_used_mb_sum", "cpu_utilization_n",
           "cpu_utilization_sum", "memory_used_mb_n", "memory_used_mb_sum")  # fmt: skip
SLOTS = ("snapshots_expected", "snapshots_received")
SUMS = (*COUNTS, *EVENTS, "anomalies", *WORKERS, *COLD, *SAMPLES, *SLOTS)


@dataclass
class World:
    """Rows of the core and raw tables of one source, and how far it is processed."""

    origin: datetime
    closed_through: datetime
    as_of: datetime
    setting: Row
    attempts: list[Row] = field(default_factory=list)
    instants: list[Row] = field(default_factory=list)
    waits: list[Row] = field(default_factory=list)
    lives: list[Row] = field(default_factory=list)
    intervals: list[Row] = field(default_factory=list)
    snapshots: list[Row] = field(default_factory=list)
    concurrency: list[Row] = field(default_factory=list)
    registrations: list[Row] = field(default_factory=list)

    @property
    def has_attempts(self) -> bool:
        return bool(self.setting["has_task_event"] or self.setting["has_task_times"])

    @property
    def has_facts(self) -> bool:
        return bool(self.setting["has_worker"] or self.setting["has_worker_event"])

    @property
    def has_workers(self) -> bool:
        return bool(self.has_facts or self.setting["has_worker_snapshot"])

    @property
    def samples(self) -> list[Row]:
        """Source snapshots, the lowest row_id of each worker and instant (E-115)."""
        best: dict[tuple[str, datetime], Row] = {}
        for row in sorted((s for s in self.snapshots if s["origin"] != "poll"), key=lambda s: -s["row_id"]):
            best[row["worker_key"], row["at"]] = row
        return list(best.values())


def half_up(value: Fraction | int | None, digits: int) -> Decimal | None:
    """Round half up to ``digits`` decimals."""
    if value is None:
        return None
    scaled = math.floor(Fraction(value) * 10**digits + Fraction(1, 2))
    return Decimal(scaled).scaleb(-digits)


def ratio(part: Any, whole: Any, digits: int = 2) -> Decimal | None:
    """part / whole rounded, None if either is unknown or whole is 0."""
    if part is None or not whole:
        return None
    return half_up(Fraction(part) / Fraction(whole), digits)


def percentile(values: list[Fraction], p: Fraction) -> Decimal | None:
    """M-451."""
    if not values:
        return None
    x = sorted(values)
    k = (len(x) - 1) * p
    f = math.floor(k)
    upper = x[min(f + 1, len(x) - 1)]
    return half_up(x[f] + (k - f) * (upper - x[f]), 2)


def histogram(values: list[Fraction]) -> dict[str, int]:
    """M-453."""
    result: dict[str, int] = defaultdict(int)
    for value in values:
        key = "zero" if value == 0 else str(math.ceil(math.log(float(value)) / math.log(1.01 / 0.99)))
        result[key] += 1
    return dict(result)


def ms(span: timedelta) -> Fraction:
    """A span in milliseconds, exact."""
    return Fraction(span // timedelta(microseconds=1), 1000)


def inside(at: datetime | None, start: datetime, end: datetime) -> bool:
    return at is not None and start <= at < end


def overlaps(row: Row, start: datetime, end: datetime, names: tuple[str, str] = ("from_at", "to_at")) -> bool:
    begin, stop = row[names[0]], row[names[1]]
    return bool(begin < end and (stop is None or stop > start) and (stop is None or stop > begin))


class Clocked:
    """State of every life between any two neighbouring instants of the world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.online = [i for i in world.intervals if i["state"] == "online"]
        if world.has_attempts:
            self.loads = [
                {"worker_key": a["worker_key"], "from_at": a["started_at"], "to_at": a["ended_at"]}
                for a in world.attempts
                if a["worker_key"] is not None and not a["reversed"]
            ]
        else:
            self.loads = [i for i in world.intervals if i["state"] == "busy"]

    def lives(self) -> set[tuple[str, int, str]]:
        return {(i["worker_key"], i["life_no"], i["endpoint"]) for i in self.online}

    def state(self, life: tuple[str, int, str], start: datetime, end: datetime) -> tuple[bool, int]:
        """(online, attempts running) in a stretch that contains no instant of the world."""
        own = [i for i in self.online if (i["worker_key"], i["life_no"]) == life[:2]]
        if not any(overlaps(i, start, end) for i in own):
            return False, 0
        return True, sum(overlaps(load, start, end) for load in self.loads if load["worker_key"] == life[0])

    def stretches(
        self, life: tuple[str, int, str], start: datetime, end: datetime
    ) -> list[tuple[datetime, datetime, bool, int]]:
        """Neighbouring instants in ``[start, end]`` with the state between them."""
        marks = {start, end}
        for row in (*self.online, *self.loads):
            if row["worker_key"] == life[0]:
                marks |= {t for t in (row["from_at"], row["to_at"]) if t is not None and start < t < end}
        order = sorted(marks)
        return [(a, b, *self.state(life, a, b)) for a, b in itertools.pairwise(order)]


def worker_figures(world: World, endpoint: str, start: datetime, end: datetime) -> Row:
    """M-307 to M-312 of one bucket; slots only make sense for a minute."""
    clocked, workers = Clocked(world), {}
    pieces: list[Fraction] = []
    idle_count = slot_online = slot_busy = Fraction(0)
    for life in clocked.lives():
        if life[2] != endpoint:
            continue
        slots = _concurrency(world, life[0], start)
        idle: Fraction | None = None
        earlier = clocked.state(life, start - timedelta(microseconds=1), start)
        for a, b, online, running in clocked.stretches(life, start, end):
            length = ms(b - a)
            total = workers.setdefault(life[0], [Fraction(0), Fraction(0)])
            if online:
                total[0] += length
                total[1] += length if running else 0
                slot_online += length * slots
                slot_busy += length * min(running, slots)
                idle_count += earlier[0] and earlier[1] > 0 and running == 0
            if online and not running:
                idle = (idle or Fraction(0)) + length
            elif idle is not None:
                pieces.append(idle)
                idle = None
            earlier = (online, running)
        if idle is not None:
            pieces.append(idle)
    seen = [w for w in workers.values() if w[0] > 0]
    online_ms, busy_ms = sum(w[0] for w in seen), sum(w[1] for w in seen)
    return {
        "active_workers": sum(w[0] >= 1 and w[1] > 0 for w in seen),
        "idle_workers": sum(w[0] >= 1 and w[1] == 0 for w in seen), "total_workers": sum(w[0] >= 1 for w in seen), "online_ms": online_ms, "busy_ms": busy_ms, "idle_ms": online_ms - busy_ms,
        "slot_online_ms": slot_online, "slot_busy_ms": slot_busy, "idle_spells": len(pieces),
        "longest": max(pieces, default=None), "idle_count": int(idle_count),
        "any_online": any(w[0] >= 1 for w in seen),
    }  # fmt: skip


def _concurrency(world: World, worker: str, at: datetime) -> int:
    known = sorted((c for c in world.concurrency if c["worker_key"] == worker), key=lambda c: c["valid_from"])
    valid = [c for c in known if c["valid_from"] <= at] or known[:1]
    return int(valid[-1]["concurrency"]) if valid else 1


def attempt_figures(world: World, endpoint: str, start: datetime, end: datetime) -> Row:
    """Figures recomputed from the attempts of a bucket."""
    mine = [a for a in world.attempts if a["endpoint"] == endpoint]
    begun = [a for a in mine if inside(a["started_at"], start, end)]
    done = [a for a in mine if inside(a["ended_at"], start, end)]

    def values(rows: list[Row], name: str) -> list[Fraction]:
        return [Fraction(row[name]) for row in rows if row[name] is not None]

    waits, execs = values(begun, "queue_wait_ms"), values(done, "execution_ms")
    failed = values(done, "failed_execution_ms")
    ended = [i for i in world.instants if i["endpoint"] == endpoint and inside(i["at"], start, end)]
    total = values(ended, "total_ms")
    return {
        "attempts_started": len(begun), "attempts_lost": sum(a["outcome"] == "lost" for a in done),
        "queue_wait_n": len(waits), "queue_wait_sum_ms": sum(waits), "max_queue_wait_ms": max(waits, default=None),
        "p95_queue_wait_ms": percentile(waits, Fraction(95, 100)), "queue_hist": histogram(waits) if waits else None,
        "execution_n": len(execs), "execution_sum_ms": sum(execs), "min_execution_ms": min(execs, default=None),
        "max_execution_ms": max(execs, default=None), "p50_execution_ms": percentile(execs, Fraction(1, 2)),
        "p95_execution_ms": percentile(execs, Fraction(95, 100)),
        "p99_execution_ms": percentile(execs, Fraction(99, 100)), "exec_hist": histogram(execs),
        "execution_time_distribution": {k: sum(lo <= e < hi for e in execs) for k, (lo, hi) in BINS.items()},
        "failed_execution_n": len(failed), "failed_execution_sum_ms": sum(failed), "total_n": len(total),
        "total_sum_ms": sum(total), "any_attempt": bool(begun or done),
    }  # fmt: skip


def sample_figures(world: World, endpoint: str, start: datetime) -> Row:
    """M-315 and M-316 of one minute."""
    end = start + MINUTE
    runs = online_runs(world, endpoint)
    rows = []
    for s in world.samples:
        owner = [r for r in online_runs(world) if r[0] == s["worker_key"] and r[1] <= s["at"]]
        latest = max(owner, key=lambda r: r[1], default=None)
        if inside(s["at"], start, end) and latest and latest[3] == endpoint and s["at"] <= latest[2] > start:
            rows.append(s)
    result: Row = {}
    for name, short in (("gpu_utilization", "gpu"), ("gpu_memory_used_mb", "gpu_memory_used_mb"),
                        ("cpu_utilization", "cpu_utilization"), ("memory_used_mb", "memory_used_mb")):  # fmt: skip
        found = [Fraction(str(row[name])) for row in rows if row[name] is not None]
        result |= {f"{short}_n": len(found), f"{short}_sum": sum(found)}
        if short == "gpu":
            result["max_gpu_utilization"] = max(found, default=None)
    slot = timedelta(seconds=float(world.setting["snapshot_interval_s"]))
    expected = received = 0
    at = datetime(1970, 1, 1) + -(-(start - datetime(1970, 1, 1)) // slot) * slot
    while at < end:
        for worker, begin, stop, _ in runs:
            if begin <= at and stop >= at + slot:
                expected += 1
                received += any(s["worker_key"] == worker and inside(s["at"], at, at + slot) for s in world.samples)
        at += slot
    return result | {"snapshots_expected": expected, "snapshots_received": received}


def online_runs(world: World, endpoint: str | None = None) -> list[tuple[str, datetime, datetime, str]]:
    """(worker, from, to, endpoint) of stretches online without a break within a life; still online: datetime.max."""
    runs: list[list[Any]] = []
    pieces = [i for i in world.intervals if i["state"] == "online"]
    for i in sorted(pieces, key=lambda p: (p["worker_key"], p["life_no"], p["from_at"])):
        key, stop = (i["worker_key"], i["life_no"]), i["to_at"] or datetime.max
        if runs and runs[-1][0] == key and runs[-1][2] >= i["from_at"]:
            runs[-1][2] = max(runs[-1][2], stop)
        else:
            runs.append([key, i["from_at"], stop, i["endpoint"]])
    return [(r[0][0], r[1], r[2], r[3]) for r in runs if endpoint in (None, r[3])]


def silence(world: World, minute: datetime) -> datetime | None:
    """Start of the silence a minute lies in (M-306), None if workers can be judged."""
    if world.has_facts or not world.setting["has_worker_snapshot"]:
        return None
    times = sorted({s["at"] for s in world.samples})
    if any(inside(t, minute, minute + MINUTE) for t in times):
        return None
    before = max((t for t in times if t < minute), default=minute - DAY)
    after = min((t for t in times if t >= minute + MINUTE), default=world.as_of)
    return before if after - before > timedelta(seconds=world.setting["snapshot_tolerance_s"]) else None


def minute_rows(world: World, start: datetime, end: datetime) -> dict[tuple[str, datetime], Row]:
    """All minute rows in ``[start, end)`` by (endpoint, minute)."""
    names = {row["endpoint"] for part in (world.attempts, world.instants, world.waits, world.lives, world.intervals,
                                          world.registrations) for row in part}  # fmt: skip
    result = {}
    minute = max(start, world.origin)
    while minute < min(end, world.closed_through):
        for endpoint in names:
            row = _minute_row(world, endpoint, minute)
            if row is not None:
                result[endpoint, minute] = row
        minute += MINUTE
    return result


def _minute_row(world: World, endpoint: str, start: datetime) -> Row | None:
    end = start + MINUTE
    kinds: dict[str, int] = defaultdict(int)
    for i in world.instants:
        if i["endpoint"] == endpoint and inside(i["at"], start, end):
            kinds[i["kind"]] += 1
    attempts = attempt_figures(world, endpoint, start, end)
    workers = worker_figures(world, endpoint, start, end)
    lives = [life for life in world.lives if life["endpoint"] == endpoint]
    waits = [w for w in world.waits if w["endpoint"] == endpoint]
    running = [{"from_at": a["started_at"], "to_at": a["ended_at"]} for a in world.attempts
               if a["endpoint"] == endpoint and not a["reversed"]]  # fmt: skip
    created = [life for life in lives if inside(life["created_at"], start, end)]
    cold = [Fraction(life["cold_start_ms"]) for life in created if life["cold_start_ms"] is not None]
    silent = silence(world, start)
    touched = any(inside(w[n], start, end) for w in waits for n in ("from_at", "to_at"))
    exists = (
        kinds or attempts["any_attempt"] or workers["any_online"] or touched
        or any(overlaps(w, start, end) for w in (*waits, *running))
        or any(inside(life[n], start, end) for life in lives for n in ("created_at", "terminated_at", "lost_at"))
        or any(life["worker_key"] == s["worker_key"] and life["start_at"] <= s["at"] <= (life["end_at"] or s["at"])
               and inside(s["at"], start, end) for life in lives for s in world.samples)
        or any(r["endpoint"] == endpoint and overlaps(
            {"from_at": r["registered_at"], "to_at": r["unregistered_at"]}, start, end) for r in world.registrations)
        or (silent is not None and any(
            i["state"] == "online" and i["endpoint"] == endpoint and i["from_at"] <= silent
            and (i["to_at"] is None or i["to_at"] >= silent) for i in world.intervals))
    )  # fmt: skip
    if not exists:
        return None
    row: Row = {name: kinds[kind] for name, kind in (
        ("tasks_submitted", "submitted"), ("tasks_completed", "completed"), ("tasks_failed", "failed"),
        ("tasks_timeout", "timeout"), ("tasks_cancelled", "cancelled"), ("tasks_retried", "retried"),
        ("late_events", "late_event"), ("duplicate_events", "duplicate_event"))}  # fmt: skip
    row |= attempts | workers | sample_figures(world, endpoint, start)
    row["anomalies"] = 0
    for name, spans in (("queue_depth_end", waits), ("running_end", running)):
        row[name] = sum(s["from_at"] < end and (s["to_at"] is None or s["to_at"] >= end) for s in spans)
    row["queue_depth_max"] = row["queue_depth_end"]
    row |= {"workers_created": len(created), "cold_starts": len(cold), "cold_start_sum_ms": sum(cold),
            "max_cold_start_ms": max(cold, default=None),
            "workers_terminated": sum(inside(life["terminated_at"], start, end) for life in lives),
            "workers_lost": sum(inside(life["lost_at"], start, end) for life in lives)}  # fmt: skip
    row["worker_source"], row["quality"] = _evidence(world, endpoint, start, end)
    if silent is not None:
        row |= {"worker_source": "none", "quality": "unknown"}
    _forget(world, row, silent is not None)
    return row | _derived(row)


def _evidence(world: World, endpoint: str, start: datetime, end: datetime) -> tuple[str, str | None]:
    if not world.has_workers:
        return "none", None
    used = [
        i for i in world.intervals if i["endpoint"] == endpoint and overlaps(i, start, end) and i["state"] == "online"
    ]
    sources, qualities = [i["evidence"] for i in used], [i["quality"] for i in used]
    if used and not world.has_attempts:
        polled = not world.setting["has_worker_snapshot"]
        sources.append("current_state" if polled else "snapshots")
        qualities.append("estimated" if polled else "exact")
    return (max(sources, key=SOURCE_ORDER.index, default="none"),
            max(qualities, key=QUALITY_ORDER.index, default="exact"))  # fmt: skip


def _forget(world: World, row: Row, silent: bool) -> None:
    """Replace what cannot be measured by None (M-105, E-510, M-306)."""
    if not world.has_attempts:
        row.update(dict.fromkeys((*COUNTS, "queue_depth_end", "running_end", "queue_depth_max", "exec_hist",
                                  "execution_time_distribution"), None))  # fmt: skip
    if not world.setting["has_task_event"]:
        row.update(dict.fromkeys(EVENTS, None))
    if not world.has_workers or silent:
        row.update(dict.fromkeys((*WORKERS, *COLD, "active_workers", "idle_workers", "total_workers", "idle_spells",
                                  "longest", "max_cold_start_ms"), None))  # fmt: skip
    if not world.setting["has_cold_start"]:
        row.update(dict.fromkeys((*COLD, "max_cold_start_ms"), None))
    if not world.setting["has_worker_snapshot"]:
        row.update(dict.fromkeys((*SAMPLES, *SLOTS, "max_gpu_utilization"), None))
    if silent:
        row.update(dict.fromkeys((*SAMPLES, *SLOTS, "max_gpu_utilization"), None))


def _derived(row: Row) -> Row:
    def total(*names: str) -> Any:
        return None if any(row[n] is None for n in names) else sum(row[n] for n in names)

    finished = total("tasks_completed", "tasks_failed", "tasks_timeout")
    idle_s = None if row["idle_ms"] is None else Fraction(row["idle_ms"]) / 1000
    return {
        "success_rate": ratio(None if finished is None else 100 * row["tasks_completed"], finished),
        "avg_queue_wait_ms": ratio(row["queue_wait_sum_ms"], row["queue_wait_n"]),
        "avg_execution_ms": ratio(row["execution_sum_ms"], row["execution_n"]),
        "avg_failed_execution_ms": ratio(row["failed_execution_sum_ms"], row["failed_execution_n"]),
        "avg_total_ms": ratio(row["total_sum_ms"], row["total_n"]),
        "avg_worker_utilization": ratio(None if row["busy_ms"] is None else 100 * row["busy_ms"], row["online_ms"]),
        "slot_utilization": ratio(
            None if row["slot_busy_ms"] is None else 100 * row["slot_busy_ms"], row["slot_online_ms"]),
        "total_idle_time_sec": half_up(idle_s, 3),
        "avg_idle_duration_sec": ratio(idle_s, row["idle_spells"], 3),
        "max_idle_duration_sec": None if row["longest"] is None else half_up(row["longest"] / 1000, 3),
        "avg_cold_start_ms": ratio(row["cold_start_sum_ms"], row["cold_starts"]),
        "avg_gpu_utilization": ratio(row["gpu_sum"], row["gpu_n"]),
        "avg_gpu_memory_used_mb": ratio(row["gpu_memory_used_mb_sum"], row["gpu_memory_used_mb_n"]),
        "avg_cpu_utilization": ratio(row["cpu_utilization_sum"], row["cpu_utilization_n"]),
        "avg_memory_used_mb": ratio(row["memory_used_mb_sum"], row["memory_used_mb_n"]),
        "snapshot_coverage_pct": ratio(
            None if row["snapshots_received"] is None else 100 * row["snapshots_received"], row["snapshots_expected"]),
    }  # fmt: skip


def larger_rows(
    world: World, minutes: dict[tuple[str, datetime], Row], length: timedelta
) -> dict[tuple[str, datetime], Row]:
    """Hour or day rows of the given minute rows by (endpoint, bucket)."""
    epoch = datetime(1970, 1, 1)
    groups: dict[tuple[str, datetime], dict[datetime, Row]] = defaultdict(dict)
    for (endpoint, minute), row in minutes.items():
        groups[endpoint, epoch + (minute - epoch) // length * length][minute] = row
    return {key: _larger_row(world, key[0], key[1], length, rows) for key, rows in groups.items()}


def _larger_row(world: World, endpoint: str, start: datetime, length: timedelta, minutes: dict[datetime, Row]) -> Row:
    end = min(start + length, world.closed_through)
    rows = list(minutes.values())
    closed = (end - start) // MINUTE

    def known(name: str) -> list[Any]:
        return [row[name] for row in rows if row[name] is not None]

    result: Row = {name: sum(known(name)) if known(name) else None for name in SUMS}
    for name in ("max_queue_wait_ms", "max_execution_ms", "max_cold_start_ms", "max_gpu_utilization",
                 "queue_depth_max"):  # fmt: skip
        result[name] = max(known(name), default=None)
    again = attempt_figures(world, endpoint, start, end) | worker_figures(world, endpoint, start, end)
    for name in ("p95_queue_wait_ms", "queue_hist", "min_execution_ms", "p50_execution_ms", "p95_execution_ms",
                 "p99_execution_ms", "exec_hist", "execution_time_distribution", "active_workers", "idle_workers",
                 "total_workers", "idle_spells", "longest"):  # fmt: skip
        result[name] = again[name]
    last = minutes.get(end - MINUTE, {})
    for name in ("queue_depth_end", "running_end"):
        result[name] = last.get(name, 0) if world.has_attempts else None
    if not world.has_attempts:
        result["exec_hist"] = result["execution_time_distribution"] = None
    judged = closed - sum(row["quality"] == "unknown" for row in rows)
    if result["online_ms"] is None:
        result |= dict.fromkeys(("active_workers", "idle_workers", "total_workers", "idle_spells", "longest",
                                 "avg_active_workers", "avg_idle_workers", "avg_workers", "min_workers",
                                 "max_workers"), None)  # fmt: skip
    else:
        result["avg_active_workers"] = ratio(sum(known("active_workers")), judged)
        result["avg_idle_workers"] = ratio(sum(known("idle_workers")), judged)
        result["avg_workers"] = ratio(result["online_ms"], judged * 60000)
        result["min_workers"] = min(known("total_workers")) if len(rows) == closed else 0
        result["max_workers"] = max(known("total_workers"))
    qualities = known("quality")
    result["worker_source"] = max((row["worker_source"] for row in rows), key=SOURCE_ORDER.index)
    result["quality"] = max(qualities, key=QUALITY_ORDER.index) if qualities else None
    result |= {"state": "closed" if closed == length // MINUTE else "partial", "closed_minutes": closed}
    if length == DAY:
        hours = larger_rows(world, {(endpoint, minute): row for minute, row in minutes.items()}, HOUR)
        load = {bucket: Fraction(row["online_ms"] or 0) / row["closed_minutes"] for (_, bucket), row in hours.items()}
        peak = max(sorted(load), key=lambda bucket: load[bucket])
        result["peak_hour"] = peak.hour if load[peak] > 0 else None
    return result | _derived(result)

"""Random small worlds for property tests, and their way into a warehouse.

What belongs here: strategies that stay within what the core tables may hold, and the inserts.
What does not: expectations (``oracle_mart``).
"""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import duckdb
from hypothesis import strategies as st

from monitoring_pipelines.warehouse.sql_cases import ALL_MAPPED, empty_warehouse
from monitoring_pipelines_tests.sql.oracle_mart import World

#: Ten minutes on either side of midnight, so that minutes, hours and days all have a border inside.
START = datetime(2026, 2, 1, 23, 54)
ORIGIN = datetime(2026, 2, 1)
MINUTES = 12
ENDPOINTS = ("a", "A")
WORKERS = ("p", "q")
FLAGS = ("has_task_event", "has_task_times", "has_worker", "has_worker_event", "has_worker_snapshot", "has_cold_start")


def worlds(all_mapped: bool = False) -> st.SearchStrategy[World]:
    """Worlds by seed: drawing every value from Hypothesis yields mostly empty ones, in which nothing overlaps."""
    return st.integers(0, 2**40).map(lambda seed: build_world(Random(seed), all_mapped))


def build_world(random: Random, all_mapped: bool = False) -> World:
    """A source with a handful of rows around midnight, closed up to some minute."""
    closed = START + timedelta(minutes=random.choice([random.randint(1, MINUTES), MINUTES + 1, MINUTES + 1]))
    flags = {name: all_mapped or random.random() < 0.8 for name in FLAGS}
    setting = {**ALL_MAPPED, **flags, "snapshot_interval_s": random.choice([60, 60, 30, 90])}
    if all_mapped:
        closed, setting["snapshot_interval_s"] = START + timedelta(minutes=MINUTES + 1), 60
    world = World(ORIGIN, closed, closed + timedelta(seconds=random.randint(0, 400)), setting)
    for worker in WORKERS:
        _add_worker(world, random, worker)
    world.attempts = [_attempt(random, n) for n in range(random.randint(0, 14))]
    kinds = ("submitted", "completed", "failed", "timeout", "cancelled", "retried", "late_event", "duplicate_event")
    for n in range(random.randint(0, 8)):
        row = {"task_key": f"I{n}", "endpoint": random.choice(ENDPOINTS), "at": _instant(random)}
        kind = random.choice(kinds)
        world.instants.append(row | {"kind": kind, "total_ms": _duration(random) if kind == "completed" else None})
    for n in range(random.randint(0, 5)):
        begin, end = sorted((_instant(random), _instant(random)))
        row = {"task_key": f"W{n}", "endpoint": random.choice(ENDPOINTS), "from_at": begin}
        world.waits.append(row | {"to_at": random.choice([end, end, None])})
    world.snapshots = [_snapshot(random, n) for n in range(random.choice([0, 3, 30]))]
    if random.random() < 0.3:
        begin, end = sorted((_instant(random), _instant(random)))
        row = {"endpoint": "a", "registered_at": begin, "unregistered_at": random.choice([end, None])}
        world.registrations.append(row)
    return world


def _instant(random: Random) -> datetime:
    """Half seconds, often on a border of a minute, sometimes some microseconds off."""
    half = random.choice([random.randint(0, MINUTES * 120), random.randint(0, MINUTES) * 120])
    return START + timedelta(milliseconds=500 * half, microseconds=random.choice([0, 0, 0, 1, 1500, -1]))


def _duration(random: Random) -> Decimal | None:
    """Milliseconds with 3 decimals, often small or on the border of a range; None is no observation."""
    special = random.choice(["0", "0.001", "1", "499.999", "500", "2999.999", "5000"])
    return random.choice([None, Decimal(special), Decimal(random.randint(0, 10_000_000)).scaleb(-3)])


def _attempt(random: Random, number: int) -> dict[str, Any]:
    """One attempt; short, open, empty and reversed ones included."""
    started = _instant(random)
    ended = random.choice([_instant(random), started + timedelta(seconds=random.randint(0, 90)), started])
    is_reversed = random.random() < 0.1
    started, ended = (max(started, ended), min(started, ended)) if is_reversed else sorted((started, ended))
    is_open = not is_reversed and random.random() < 0.15
    outcome = "open" if is_open else random.choice(["completed", "completed", "failed", "lost", "timeout"])
    observed = not is_open and not is_reversed
    return {
        "task_key": f"T{number}", "attempt_no": 1, "endpoint": random.choice(ENDPOINTS),
        "worker_key": random.choice([*WORKERS, *WORKERS, *WORKERS, "stranger", None]), "started_at": started,
        "ended_at": None if is_open else ended, "outcome": outcome, "reversed": is_reversed,
        "queue_wait_ms": _duration(random),
        "execution_ms": _duration(random) if observed and outcome == "completed" else None,
        "failed_execution_ms": _duration(random) if observed and outcome in ("failed", "timeout") else None,
    }  # fmt: skip


def _add_worker(world: World, random: Random, worker: str) -> None:
    """Online pieces in order, touching or apart, over one or more lives; facts, concurrency and busy polls."""
    times = sorted({_instant(random) for _ in range(random.randint(2, 6))})
    pieces: list[dict[str, Any]] = []
    life_no, endpoint = 1, random.choice(ENDPOINTS)
    for begin, end in itertools.pairwise(times):
        if random.random() < 0.25:
            if random.random() < 0.5:
                life_no, endpoint = life_no + 1, random.choice(ENDPOINTS)
            continue
        pieces.append({
            "worker_key": worker, "life_no": life_no, "endpoint": endpoint, "state": "online", "from_at": begin,
            "to_at": end, "evidence": random.choice(["lifecycle", "snapshots", "current_state", "attempts"]),
            "quality": random.choice(["exact", "exact", "bridged", "estimated"]),
        })  # fmt: skip
    if pieces and random.random() < 0.5:
        pieces[-1]["to_at"] = None
    for number in sorted({p["life_no"] for p in pieces}):
        own = [p for p in pieces if p["life_no"] == number]
        world.lives.append({
            "worker_key": worker, "life_no": number, "endpoint": own[0]["endpoint"], "start_at": own[0]["from_at"],
            "end_at": own[-1]["to_at"], "created_at": random.choice([None, own[0]["from_at"]]),
            "terminated_at": own[-1]["to_at"], "lost_at": random.choice([None, _instant(random)]),
            "cold_start_ms": _duration(random),
        })  # fmt: skip
    if random.random() < 0.4:
        begin, end = sorted((_instant(random), _instant(random)))
        pieces.append({
            "worker_key": worker, "life_no": 1, "endpoint": endpoint, "state": "busy", "from_at": begin, "to_at": end,
            "evidence": random.choice(["snapshots", "current_state"]), "quality": "estimated",
        })  # fmt: skip
    world.intervals += pieces
    for at in sorted({_instant(random) for _ in range(random.randint(0, 2))}):
        world.concurrency.append({"worker_key": worker, "valid_from": at, "concurrency": random.randint(1, 3)})


def _snapshot(random: Random, number: int) -> dict[str, Any]:
    """One resource sample; duplicates and polls included."""
    return {
        "snapshot_key": f"S{number}", "row_id": number, "worker_key": random.choice(WORKERS), "at": _instant(random),
        "origin": random.choice(["source", "source", "source", "poll"]),
        "gpu_utilization": random.choice([None, random.randint(0, 10000) / 100]),
        "gpu_memory_used_mb": random.choice([None, random.randint(0, 80000)]),
        "cpu_utilization": random.choice([None, 0.005, 1.25, 33.335, 99.995]),
        "memory_used_mb": random.choice([None, random.randint(0, 80000)]),
    }  # fmt: skip


TABLES = {
    "core.task_attempt": "attempts", "core.task_instant": "instants", "core.task_wait": "waits",
    "core.worker_life": "lives", "core.worker_interval": "intervals", "raw.worker_snapshot": "snapshots",
    "raw.worker_concurrency": "concurrency", "raw.endpoint_registration": "registrations",
}  # fmt: skip


def warehouse() -> duckdb.DuckDBPyConnection:
    """An empty in-memory warehouse with all tables."""
    con = duckdb.connect(":memory:")
    con.execute("SET TimeZone = 'UTC'; SET threads = 2")
    empty_warehouse(con)
    return con


def load(con: duckdb.DuckDBPyConnection, world: World, source_id: str = "shop") -> None:
    """Replace whatever the source has in the warehouse by the world's rows."""
    for table, name in TABLES.items():
        con.execute(f"DELETE FROM {table} WHERE source_id = ?", [source_id])
        _insert(con, table, [{"source_id": source_id, **row} for row in getattr(world, name)])
    state = {"source_id": source_id, "as_of": world.as_of, "closed_through": world.closed_through}
    for table, row in (("meta.source_state", state | {"origin": world.origin}), ("meta.source_setting", world.setting)):
        con.execute(f"DELETE FROM {table} WHERE source_id = ?", [source_id])
        _insert(con, table, [{**row, "source_id": source_id}])


def _insert(con: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        names = ", ".join(f'"{name}"' for name in row)
        con.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))

"""Random event streams: the core layer agrees with a plain second implementation, however rows arrive."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import duckdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring_pipelines.warehouse import core_workers, open_spans
from monitoring_pipelines.warehouse.core_refresh import compare_samples, refresh_core, refresh_keys
from monitoring_pipelines_tests.sql.core_cases import SOURCE, add_rows, contents, new_warehouse
from monitoring_pipelines_tests.sql.oracle_core import (
    FINAL,
    Event,
    Row,
    Rules,
    Verdict,
    Worker,
    duration_of,
    judge,
    online_of,
    wait_of,
)

BASE = datetime(2026, 2, 1, 10)
TYPES = ("queued", "assigned", "assigned", "assigned", "started", "completed", "completed", "failed", "timeout",
         "cancelled", "orphaned", "requeued", "requeued", "info")  # fmt: skip
STATUSES = ("running", "running", "queued", "succeeded", "failed", "timed_out", "cancelled", "unknown")
WORKERS = ("u", "v", "w")
few = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@dataclass
class World:
    """Rows of one source, all times on a coarse grid so that equal instants are common."""

    now: datetime
    limit: float | None
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    events: dict[str, list[Event]] = field(default_factory=dict)
    tasks: dict[str, Row] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)

    @property
    def setting(self) -> dict[str, Any]:
        """What differs from the usual settings."""
        mode = "off" if self.limit is None else "derive"
        return {"timeout_mode": mode, "timeout_limit_s": self.limit, "clock_skew_max_s": 40, "has_worker_event": True}


def _world(seed: int, tasks: int = 25) -> World:
    rng = random.Random(seed)

    def instant(last: int = 120) -> datetime:
        return BASE + timedelta(seconds=5 * rng.randrange(last))

    world = World(BASE + timedelta(seconds=rng.choice([300, 620, 2000])), rng.choice([None, None, 30.0, 100.0]))
    raw: dict[str, list[dict[str, Any]]] = {
        "task_event": [],
        "task": [],
        "worker": [],
        "worker_event": [],
        "worker_snapshot": [],
    }
    for number in range(tasks):
        key, events = f"t{number}", []
        at = instant()
        for _ in range(rng.choice([0, 1, 2, 3, 4, 5, 6, 8])):
            kind = "created" if not events and rng.random() < 0.8 else rng.choice(TYPES)
            worker = None if kind in ("created", "queued") else rng.choice([*WORKERS, "w", "w", None])
            events.append(Event(len(raw["task_event"]) + 1, kind, at, worker))
            raw["task_event"].append(
                {"row_id": events[-1].row_id, "task_key": key, "event_type": kind, "at": at, "worker_key": worker}
            )
            at += timedelta(seconds=5 * rng.choice([-1, 0, 0, 1, 2, 4, 12]))
        world.events[key] = events
        if rng.random() < 0.8 or not events:
            row = Row(
                rng.choice(STATUSES),
                instant(),
                *(rng.choice([None, instant()]) for _ in range(5)),
                worker=rng.choice([None, "w"]),
            )
            if row.ended and row.ended > world.now + timedelta(seconds=5):
                row = Row("running", row.seen)
            world.tasks[key] = row
            raw["task"].append({"task_key": key, "status": row.status, "status_seen_at": row.seen, "created_at": row.created,
                "queued_at": row.queued, "started_at": row.started, "ended_at": row.ended, "updated_at": row.updated, "worker_key": row.worker})  # fmt: skip
    _workers(rng, world, raw, instant)
    world.rows = {f"raw.{name}": rows for name, rows in raw.items()}
    return world


def _workers(rng: random.Random, world: World, raw: dict[str, list[dict[str, Any]]], instant: Any) -> None:
    visible = world.now + timedelta(seconds=5)
    for name in WORKERS:
        ready = BASE - timedelta(seconds=rng.choice([0, 60]))
        ended = instant() + timedelta(seconds=100) if rng.random() < 0.4 else None
        raw["worker"].append({"worker_key": name, "ready_at": ready, "terminated_at": ended})
        samples = sorted({instant() for _ in range(rng.choice([0, 3, 8]))})
        for at in samples:
            raw["worker_snapshot"].append({"worker_key": name, "at": at, "is_idle": rng.random() < 0.3})
        offline = tuple(instant() for _ in range(rng.choice([0, 0, 1, 2])))
        for at in offline:
            raw["worker_event"].append({"worker_key": name, "event_type": "offline", "at": at})
        named = [e for events in world.events.values() for e in events if e.worker == name and e.at <= visible]
        world.workers[name] = Worker(
            ready, ended if ended and ended <= visible else None,
            tuple(s for s in samples if s <= visible), tuple(o for o in offline if o <= visible),
            tuple(e.at for e in named if e.type in ("assigned", "started")),
            tuple(e.at for e in named if e.type in ("completed", "failed")),
        )  # fmt: skip


def _rules(world: World) -> Rules:
    visible = world.now + timedelta(seconds=5)
    idle: dict[str, list[datetime]] = {}
    for row in world.rows["raw.worker_snapshot"]:
        if row["is_idle"] and row["at"] <= visible:
            idle.setdefault(row["worker_key"], []).append(row["at"])
    feed_last = max((s for w in world.workers.values() for s in w.samples), default=None)
    lives = {name: online_of(worker, world.now, feed_last)[0] for name, worker in world.workers.items()}
    limit = None if world.limit is None else timedelta(seconds=world.limit)
    return Rules(world.now, timedelta(seconds=40), limit, idle=idle, lives=lives)


def _visible(row: Row | None, now: datetime) -> Row | None:
    if row is None:
        return None
    until = now + timedelta(seconds=5)
    times = {
        n: (v if v is None or v <= until else None) for n, v in vars(row).items() if isinstance(v, datetime | None)
    }
    return Row(**(vars(row) | times | {"worker": row.worker, "seen": min(row.seen, now)}))


def _judged(world: World) -> dict[str, Verdict]:
    rules = _rules(world)
    return {
        key: judge(events, _visible(world.tasks.get(key), world.now), rules) for key, events in world.events.items()
    }


def _stored(world: World, order: random.Random | None = None) -> duckdb.DuckDBPyConnection:
    """The world in a warehouse: at once, or in random batches with a refresh after each."""
    con = new_warehouse(world.setting, world.now)
    if order is None:
        for table, rows in world.rows.items():
            add_rows(con, table, rows)
        refresh_core(con, SOURCE)
        return con
    numbered = [(table, n, row) for table, rows in world.rows.items() for n, row in enumerate(rows, 1)]
    order.shuffle(numbered)
    while numbered:
        size = order.choice([1, 5, 20, 60])
        batch, numbered = numbered[:size], numbered[size:]
        for table, number, row in batch:
            add_rows(con, table, [row], number)
        chunk_tasks = order.choice([3, 1000])
        if order.random() < 0.5:
            refresh_core(con, SOURCE, chunk_tasks=chunk_tasks)
        else:
            _refresh_giving_way(con, chunk_tasks)
    return con


def _refresh_giving_way(con: duckdb.DuckDBPyConnection, chunk_tasks: int) -> None:
    """A refresh whose connection ends between workers and tasks, because somebody waits for the warehouse."""
    with con.cursor() as one:
        begun = refresh_keys(one, SOURCE, chunk_tasks=chunk_tasks, gives_way=lambda: True)
    with con.cursor() as two:
        compare_samples(two, refresh_keys(two, SOURCE, chunk_tasks=chunk_tasks, begun=begun))


def _ms(span: timedelta | None) -> Decimal | None:
    return None if span is None else Decimal(span // timedelta(microseconds=1)) / 1000


@given(st.integers(0, 10**6))
@few
def test_every_span_has_a_begin_and_no_open_one_began_before_the_kept_instant(seed: int) -> None:
    with _stored(_world(seed), random.Random(seed)) as con:
        for table, (begin, end) in open_spans.SPANS.items():
            every = f"SELECT count(*) FROM {table} WHERE {end} IS NULL"
            known = open_spans.since(con, table)
            assert known != "true"
            assert con.execute(f"SELECT count(*) FROM {table} WHERE {begin} IS NULL").fetchone() == (0,)
            assert con.execute(f"{every} AND {known}").fetchone() == con.execute(every).fetchone()


@given(st.integers(0, 10**6))
@few
def test_attempts_agree_with_the_second_implementation(seed: int) -> None:
    """M-201 to M-218: attempts and countable instants of random tasks."""
    world = _world(seed)
    rules = _rules(world)
    with _stored(world) as con:
        for key, verdict in _judged(world).items():
            found = con.execute(
                "SELECT attempt_no, started_at, worker_key, enqueued_at, ended_at, outcome, end_source, counted, reversed, "
                "queue_wait_ms, execution_ms, failed_execution_ms, late_event_count FROM core.task_attempt WHERE task_key = ? ORDER BY 1",
                [key],
            ).fetchall()
            expected = [
                (a.no, a.start, a.worker, a.enqueued, a.end, a.outcome, a.source, a.counted, a.reversed, _ms(wait_of(a, rules)),
                 _ms(duration_of(a, rules, ("completed",))), _ms(duration_of(a, rules, ("failed", "timeout"))), a.late)
                for a in verdict.attempts
            ]  # fmt: skip
            context = f"{world.events[key]}\n{world.tasks.get(key)}\n{rules}"
            assert found == expected, context
            instants = con.execute('SELECT kind, "at" FROM core.task_instant WHERE task_key = ?', [key]).fetchall()
            assert Counter(instants) == Counter(verdict.instants), context


@given(st.integers(0, 10**6))
@few
def test_online_time_agrees_with_the_second_implementation(seed: int) -> None:
    """M-301, M-302, M-305, M-307: online time and end of workers known by facts."""
    world = _world(seed, tasks=8)
    feed_last = max((s for w in world.workers.values() for s in w.samples), default=None)
    with _stored(world) as con:
        for name, worker in world.workers.items():
            stretches, end = online_of(worker, world.now, feed_last)
            life = con.execute("SELECT end_at FROM core.worker_life WHERE worker_key = ?", [name]).fetchall()
            assert life == [(end,)], worker
            pieces = con.execute(
                "SELECT from_at, to_at FROM core.worker_interval WHERE worker_key = ? AND state = 'online' ORDER BY 1",
                [name],
            ).fetchall()
            joined: list[list[datetime | None]] = []
            for begin, to in pieces:
                if joined and joined[-1][1] == begin:
                    joined[-1][1] = to
                else:
                    joined.append([begin, to])
            assert [tuple(p) for p in joined] == stretches, worker


@given(st.integers(0, 10**6))
@settings(few, max_examples=12)
def test_order_and_batches_of_arrival_do_not_matter(seed: int) -> None:
    """M-805: any order and batching of the same rows ends in the same tables and anomalies."""
    world = _world(seed, tasks=12)
    with _stored(world) as together, _stored(world, random.Random(seed)) as one_by_one:
        expected, found = contents(together), contents(one_by_one)
        for table in expected:
            assert found[table] == expected[table], (
                table,
                found[table] - expected[table],
                expected[table] - found[table],
            )


@given(st.integers(0, 10**6))
@settings(few, max_examples=8)
def test_workers_derived_in_parts_are_the_same(seed: int) -> None:
    """M-805: how many workers are derived at a time, which follows the memory there is, does not matter."""
    world = _world(seed)
    with (
        _stored(world) as whole,
        patch.multiple(core_workers, EVIDENCE_ROWS=9, RECENT=timedelta(0)),
        _stored(world) as parts,
    ):
        assert contents(parts) == contents(whole)
        assert parts.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'claim_whole'").fetchone() == (1,)


@given(st.integers(0, 10**6))
@settings(few, max_examples=10)
def test_a_second_run_changes_nothing(seed: int) -> None:
    """M-804, M-805: recomputing everything, with nothing new, writes no row and marks no hour."""
    world = _world(seed)
    with _stored(world) as con:
        before = contents(con)
        con.execute("DELETE FROM meta.dirty_hour")
        con.execute("INSERT INTO meta.dirty_task SELECT source_id, task_key, NULL FROM raw.task_event")
        con.execute("INSERT INTO meta.dirty_worker SELECT source_id, worker_key, '1970-01-01', NULL FROM raw.worker")
        result = refresh_core(con, SOURCE)
        assert contents(con) == before
        assert not any(result.changes.values())
        assert con.execute("SELECT count(*) FROM meta.dirty_hour").fetchall() == [(0,)]


@given(st.integers(0, 10**6))
@settings(few, max_examples=10)
def test_an_attempt_has_at_most_one_counted_outcome(seed: int) -> None:
    """M-908: every counted outcome is an attempt's or an event's without one; every attempt is counted, lost or open."""
    world = _world(seed, tasks=60)
    with _stored(world) as con:
        attempts = con.execute("SELECT task_key, outcome, counted FROM core.task_attempt").fetchall()
        assert all(counted == (outcome in FINAL) for _, outcome, counted in attempts)
        counts = dict(con.execute(
            f"SELECT task_key, count(*) FROM core.task_instant WHERE kind IN {FINAL} GROUP BY 1").fetchall())  # fmt: skip
        for key, number in Counter(key for key, _, counted in attempts if counted).items():
            assert counts[key] >= number

"""The whole pipeline over a simulated day, against what the simulator knows to have happened.

What belongs here: minute, hour and day statistics equal the ground truth, and every invariant holds. What does not: single
rules (``sql``), the simulation itself (``demo``).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.demo import SMALL, World, generate
from monitoring_pipelines.demo.first_run import first_run
from monitoring_pipelines.demo.scale import Noise
from monitoring_pipelines.demo.truth import COLUMNS
from monitoring_pipelines.pipeline import Pipeline, tick
from monitoring_pipelines.warehouse.audits import run_audits
from monitoring_pipelines.warehouse.windows import prepare

NOW = datetime(2026, 3, 10, 4, 30)
DAYS = 1.0
#: Rows delayed by the platform arrive within 40 minutes; before that the books are complete on both sides.
SETTLED = NOW - timedelta(hours=1)
SCALE = replace(
    SMALL,
    platform_only=True,
    tasks_per_minute=8.0,
    worker_life_h=4.0,
    noise=Noise(slow_commit=0.02, late_row=0.01, duplicate=0.01, lost_end=0.004, reversed_clock=0.004,
                cancel_queued=0.02, cancel_running=0.01, slow_submit=0.02),
)  # fmt: skip


def configure(folder: Path, dsn: str) -> Path:
    (folder / "source.dsn").write_text(dsn)
    path = folder / "monitoring.yaml"
    path.write_text(
        "version: 1\npaths: {data: ./data, logs: ./logs}\nsources:\n"
        "  - {id: shop, preset: waverless, read_dsn_file: source.dsn}\n"
    )
    return path


def differences(pipe: Pipeline, world: World, until: datetime) -> list[str]:
    """Every cell of the minute statistics before ``until`` that is not the truth's."""
    listed = ", ".join(COLUMNS)
    with pipe.warehouse.reader() as con:
        rows = con.execute(
            f"SELECT endpoint, stat_minute, {listed} FROM mart.endpoint_minute_stats WHERE stat_minute < ?", [until]
        ).fetchall()
    got = {row[:2]: [None if value is None else int(value) for value in row[2:]] for row in rows}
    wanted = {
        (row["endpoint"], row["stat_minute"]): [row[name] for name in COLUMNS]
        for row in world.truth().rows()
        if row["stat_minute"] < until
    }
    result = []
    for key in sorted(got.keys() | wanted.keys()):
        expected = wanted.get(key, [0] * len(COLUMNS))
        found = got.get(key, [0] * len(COLUMNS))
        result += [
            f"{key[0]} {key[1]:%m-%d %H:%M} {name}: {value} instead of {truth}"
            for name, value, truth in zip(COLUMNS, found, expected, strict=True)
            if value != truth
        ]
    return result


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, World]:
    """A simulated day in SQLite, and the pipeline after its first run."""
    folder = tmp_path_factory.mktemp("truth")
    world = generate(DAYS, 21, NOW, scale=SCALE, folder=folder).world
    settings = load_settings(configure(folder, f"sqlite:///{folder}/waverless.db"))
    pipe = first_run(settings, FixedClock(NOW), lambda _line: None).pipe
    yield pipe, world
    world.close()


def test_minute_statistics_equal_the_simulators_books(loaded: tuple[Pipeline, World]) -> None:
    """M-201…M-217, M-301…M-308, M-313: counts, waits, executions, busy and online time, cell by cell."""
    pipe, world = loaded
    wrong = differences(pipe, world, SETTLED)
    assert not wrong, f"{len(wrong)} cells differ:\n" + "\n".join(wrong[:40])


def test_books_are_not_trivial(loaded: tuple[Pipeline, World]) -> None:
    """The comparison would notice: each compared figure occurs."""
    _, world = loaded
    for name in COLUMNS:
        assert sum(row[name] for row in world.truth().rows()) > 0, name


def test_every_invariant_holds(loaded: tuple[Pipeline, World]) -> None:
    """M-901…M-910 over everything the first run computed."""
    pipe, _ = loaded
    with pipe.warehouse.writer("test") as con:
        prepare(con)
        results = run_audits(con, datetime(2026, 3, 9), datetime(2026, 3, 11))
    assert results
    assert not [f"{r.rule} {r.name}: {r.bad_rows} bad rows, e.g. {r.sample[:2]}" for r in results if not r.passed]


def test_hours_and_days_add_up_to_the_truth(loaded: tuple[Pipeline, World]) -> None:
    """M-903 seen from outside: sums over the settled hours equal the truth's."""
    pipe, world = loaded
    until = SETTLED.replace(minute=0)
    sums = ", ".join(f"sum({name})" for name in COLUMNS)
    with pipe.warehouse.reader() as con:
        got = con.execute(f"SELECT {sums} FROM mart.endpoint_hourly_stats WHERE stat_hour < ?", [until]).fetchone()
    rows = [row for row in world.truth().rows() if row["stat_minute"] < until]
    assert [int(value) for value in got] == [sum(row[name] for row in rows) for name in COLUMNS]


def test_ticks_over_a_live_mariadb_end_in_the_truth(mariadb_db, tmp_path: Path) -> None:
    """E-601…E-606, M-801: inserts, updates and late commits while ticks run; the last minutes equal the books."""
    scale = replace(SCALE, noise=replace(SCALE.noise, silent_death=0.0))
    world = generate(0.1, 4, NOW, scale=scale, mysql_dsn=mariadb_db.dsn).world
    clock = FixedClock(NOW)
    settings = load_settings(configure(tmp_path, mariadb_db.dsn))
    pipe = first_run(settings, clock, lambda _line: None).pipe
    for _ in range(12):
        for _ in range(5):
            clock.advance(60)
            world.advance(clock.now() - timedelta(seconds=20))
            world.advance(clock.now())
        tick(pipe)
    clock.advance(3600)
    world.advance(clock.now())
    tick(pipe)
    tick(pipe)
    wrong = differences(pipe, world, clock.now() - timedelta(hours=1))
    world.close()
    assert not wrong, f"{len(wrong)} cells differ:\n" + "\n".join(wrong[:40])

"""A counter stamped by a clock that is ahead is no evidence before its time, and restates the past when it is (E-306, M-701)."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta
from pathlib import Path

from monitoring_pipelines import pipeline
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.ddl import ddl

T0 = datetime(2026, 2, 1, 10)
CONFIG = """\
version: 1
stats: {start: 2026-02-01}
sources: [{id: feeds, preset: collector, read_dsn_file: feeds.dsn}]
"""
ROWS = (
    "SELECT minute(stat_minute), increase::DOUBLE FROM mart.ingest_minute_stats WHERE series = 'trade' "
    "AND stat_minute >= TIMESTAMP '2026-02-01 10:00' ORDER BY 1"
)


def count(root: Path, minutes: float, value: int) -> None:
    at = (T0 + timedelta(minutes=minutes)).isoformat(sep=" ")
    with sqlite3.connect(root / "feeds.db") as con:
        con.execute(
            "INSERT INTO mp_ingest_samples (process_id, series, at, kind, value) VALUES ('c', 'trade', ?, 'ok', ?)",
            (at, value),
        )
    con.close()


def test_a_counter_from_the_future_waits_for_its_time_and_then_divides_what_it_gained(tmp_path: Path):
    (tmp_path / "monitoring.yaml").write_text(CONFIG)
    (tmp_path / "feeds.dsn").write_text(f"sqlite:///{tmp_path}/feeds.db")
    with sqlite3.connect(tmp_path / "feeds.db") as con:
        con.executescript(ddl(None, "sqlite"))
    con.close()
    clock = FixedClock(T0)
    pipe = pipeline.Pipeline.of(load_settings(tmp_path / "monitoring.yaml"), clock)

    def figures(minutes: float) -> dict[int, float | None]:
        clock.instant = T0 + timedelta(minutes=minutes)
        pipeline.tick(pipe)
        with pipe.warehouse.reader("test") as con:
            return dict(con.execute(ROWS).fetchall())

    count(tmp_path, 0, 0)
    count(tmp_path, 1, 60)
    count(tmp_path, 9, 860)
    assert figures(5) == {0: 60.0, 1: 0.0, 2: 0.0, 3: 0.0}
    count(tmp_path, 3, 180)
    assert figures(6) == {0: 60.0, 1: 60.0, 2: 60.0, 3: 0.0, 4: 0.0}
    after = {minute: round(value or 0.0, 3) for minute, value in figures(12).items()}
    assert after == {0: 60.0, 1: 60.0, 2: 60.0, **dict.fromkeys(range(3, 9), 113.333), 9: 0.0, 10: 0.0}

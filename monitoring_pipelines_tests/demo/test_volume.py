"""Benchmark volume: days multiplied by the server are coherent days.

What belongs here: the filler over a real MariaDB. What does not: figures (``benchmarks``).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from monitoring_pipelines.demo.scale import BENCHMARK
from monitoring_pipelines.demo.volume import fill_mysql

NOW = datetime(2026, 3, 10, 4, 30)


def test_every_copied_day_has_the_rows_and_the_shape_of_the_simulated_one(mariadb_db) -> None:
    """Three days: equal counts, unique keys, events that find their task, times shifted by whole days."""
    scale = replace(BENCHMARK, endpoints=5, workers=8, tasks_per_minute=3.0)
    filled = fill_mysql(mariadb_db.dsn, 3, NOW, scale=scale)
    con = mariadb_db.connect()
    with con.cursor() as cursor:
        cursor.execute("SELECT count(*), count(DISTINCT task_id) FROM tasks")
        tasks, distinct = cursor.fetchone()
        assert tasks == distinct
        cursor.execute("SELECT count(*) FROM tasks GROUP BY RIGHT(task_id, 2) LIKE '~_', "
                       "IF(LOCATE('~', task_id), RIGHT(task_id, 1), '')")  # fmt: skip
        counts = {row[0] for row in cursor.fetchall()}
        assert len(counts) == 1
        assert counts == {tasks / 3}
        cursor.execute("SELECT count(*) FROM task_events e LEFT JOIN tasks t USING (task_id) WHERE t.id IS NULL "
                       "OR e.event_time < t.created_at - INTERVAL 1 SECOND")  # fmt: skip
        assert cursor.fetchone() == (0,)
        cursor.execute("SELECT min(event_time), max(event_time) FROM task_events")
        first, last = cursor.fetchone()
        assert datetime(2026, 3, 7, 4, 30) <= first < datetime(2026, 3, 7, 5, 30)
        assert last <= NOW
        cursor.execute("SELECT (SELECT count(*) FROM endpoints) + (SELECT count(*) FROM tasks) + (SELECT count(*) FROM "
                       "task_events) + (SELECT count(*) FROM workers) + (SELECT count(*) FROM worker_events) + "
                       "(SELECT count(*) FROM worker_resource_snapshots)")  # fmt: skip
        assert cursor.fetchone()[0] <= filled.rows
    con.close()

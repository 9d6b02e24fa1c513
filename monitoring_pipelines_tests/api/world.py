"""Rows of a small platform in a warehouse, published: what the API reads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.warehouse.connect import Warehouse, transaction
from monitoring_pipelines.warehouse.core_tables import ensure_core
from monitoring_pipelines.warehouse.publish import publish
from monitoring_pipelines.warehouse.windows import prepare

HASH = "md5_number_lower(concat_ws(chr(31), $source, $key))"


class World:
    """Writes what the pipeline would have written, through the product's own tables."""

    def __init__(self, settings: Settings, clock: FixedClock) -> None:
        self.settings, self.clock = settings, clock
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self.warehouse = Warehouse(settings.warehouse_path, clock=clock)
        with self.warehouse.writer("tables") as con:
            ensure_core(con)
            prepare(con)

    @property
    def lake(self) -> Path:
        return self.settings.lake_path

    def write(self, *statements: tuple[str, dict[str, Any]]) -> None:
        """Keep statements until the next publication, which runs them all at once."""
        self._waiting += statements

    def source(self, source: str = "shop", as_of: datetime | None = None) -> None:
        at = as_of or self.clock.now()
        closed = at.replace(second=0, microsecond=0)
        self.write(
            ("DELETE FROM meta.source_state WHERE source_id = $s", {"s": source}),
            (
                "INSERT INTO meta.source_state (source_id, as_of, closed_through, origin) VALUES ($s, $a, $c, $o)",
                {"s": source, "a": at, "c": closed, "o": closed - timedelta(days=3)},
            ),
        )

    def task(
        self, key: str, status: str = "succeeded", *, ago: timedelta = timedelta(hours=1), outputs: int = 1,
        source: str = "shop", outcome: str | None = "", deleted: bool = False, endpoint: str = "e",
    ) -> None:  # fmt: skip
        created = self.clock.now() - ago
        ended = created + timedelta(seconds=10) if status in ("succeeded", "failed", "timed_out", "cancelled") else None
        words = {"succeeded": "completed", "failed": "failed", "timed_out": "timeout", "running": "open"}
        found = words.get(status) if outcome == "" else outcome
        base = {"source": source, "key": key}
        statements: list[tuple[str, dict[str, Any]]] = [(
            ("INSERT INTO raw.task (source_id, task_key, endpoint, status, raw_status, created_at, started_at, ended_at, "
            "effective_end, output_expected, is_deleted, first_seen_at, changed_at, key_hash) VALUES ($source, $key, $endpoint, "
            f"$status, upper($status), $created, $created, $ended, $ended, true, $deleted, $created, $created, {HASH})"),
            base | {"endpoint": endpoint, "status": status, "created": created, "ended": ended, "deleted": deleted},
        )]  # fmt: skip
        if found:
            statements.append((
                ("INSERT INTO core.task_attempt (source_id, task_key, attempt_no, endpoint, worker_key, started_at, ended_at, outcome, "
                "counted, execution_ms, late_event_count, task_hash) VALUES ($source, $key, 1, $endpoint, 'w1', $created, $ended, "
                f"$outcome, $outcome <> 'open', CASE WHEN $outcome = 'completed' THEN 10000 END, 0, {HASH})"),
                base | {"endpoint": endpoint, "created": created, "ended": ended, "outcome": found},
            ))  # fmt: skip
        statements += [(
            ("INSERT INTO raw.task_output (source_id, output_key, task_key, name, uri, created_at, is_deleted, origin, valid, "
            "natural_key, first_seen_at, task_hash) VALUES ($source, $key || $n, $key, 'f' || $n, 'u' || $n, $at, false, 'app', "
            f"true, $key || $n, $at, {HASH})"),
            base | {"n": str(n), "at": ended or created},
        ) for n in range(outputs)]  # fmt: skip
        self.write(*statements, (f"INSERT INTO meta.publish_task SELECT {HASH}", base))

    def job_run(
        self, job: str, outcome: str, ms: float, *, ago: timedelta = timedelta(hours=1), source: str = "shop"
    ) -> None:
        ended = self.clock.now() - ago
        self.write(
            (
                (
                    "INSERT INTO raw.job_run (source_id, run_key, job_id, started_at, ended_at, duration_ms, outcome, trigger, "
                    "error_message, first_seen_at) SELECT $s, $j || count(*), $j, $b, $e, $ms, $o, 'schedule', NULL, $e FROM raw.job_run"
                ),
                {"s": source, "j": job, "b": ended - timedelta(milliseconds=ms), "e": ended, "ms": ms, "o": outcome},
            ),
            ("INSERT INTO meta.publish_job VALUES ($s, $j)", {"s": source, "j": job}),
            (
                "INSERT INTO meta.publish_pending VALUES (CAST(uuid() AS VARCHAR), 'raw.job_run', time_bucket(INTERVAL 10 MINUTE, $b::TIMESTAMP), $b)",
                {"b": ended - timedelta(milliseconds=ms)},
            ),
        )

    def job(self, job: str, category: str = "", *, source: str = "shop", name: str | None = None) -> None:
        self.write(
            (
                (
                    "INSERT INTO raw.job (source_id, job_id, name, category, enabled, risk_level, schedule, first_seen_at) "
                    "VALUES ($s, $j, $n, $c, true, 'medium', '0 * * * *', $t)"
                ),
                {"s": source, "j": job, "n": name or job, "c": category, "t": self.clock.now()},
            ),
            (
                "INSERT INTO meta.publish_pending VALUES (CAST(uuid() AS VARCHAR), 'raw.job', NULL, $t)",
                {"t": self.clock.now()},
            ),
        )

    def minute(self, endpoint: str, at: datetime, *, source: str = "shop") -> None:
        """One row of minute statistics of tasks."""
        self._statistics("mart.endpoint_minute_stats", "stat_minute", endpoint, at, source)

    def hour(self, endpoint: str, at: datetime, *, source: str = "shop") -> None:
        """One row of hourly statistics of tasks, by which an endpoint is known."""
        self._statistics("mart.endpoint_hourly_stats", "stat_hour", endpoint, at, source)

    def _statistics(self, table: str, bucket: str, endpoint: str, at: datetime, source: str) -> None:
        self.write(
            (
                (
                    f"INSERT INTO {table} (source_id, endpoint, {bucket}, tasks_submitted, state, quality, revision) "
                    "VALUES ($s, $e, $b, 1, 'closed', 'exact', 1)"
                ),
                {"s": source, "e": endpoint, "b": at},
            ),
            self._changed(table, at.replace(minute=0)),
        )

    def messages(
        self, channel: str, at: datetime, *, ok: int, failed: int = 0, latency_ms: float | None = None,
        p95_ms: float | None = None, source: str = "shop", grains: Sequence[str] = ("minute", "hour", "day"),
    ) -> None:  # fmt: skip
        """Attempts of a source's own messages in one minute, in the statistics of these grains."""
        tables = {"minute": ("notification_minute_stats", "stat_minute", at.replace(second=0)),
                  "hour": ("notification_hourly_stats", "stat_hour", at.replace(minute=0, second=0)),
                  "day": ("notification_daily_stats", "stat_date", at.replace(hour=0, minute=0, second=0))}  # fmt: skip
        for table, bucket, start in (tables[grain] for grain in grains):
            self.write(
                (
                    (
                        f"INSERT INTO mart.{table} (source_id, channel, {bucket}, attempts_ok, attempts_failed, latency_n, "
                        "latency_sum_ms, p95_latency_ms, state) VALUES ($s, $c, $b, $ok, $bad, $n, $sum, $p95, 'closed')"
                    ),
                    {"s": source, "c": channel, "b": start, "ok": ok, "bad": failed, "n": ok if latency_ms else 0,
                     "sum": ok * (latency_ms or 0), "p95": p95_ms},
                ),
                self._changed(f"mart.{table}", start),
            )  # fmt: skip

    def sample(self, process: str, at: datetime, *, source: str = "shop") -> None:
        """One sample of a process."""
        self.write(
            (
                (
                    'INSERT INTO raw.process_sample (source_id, process_id, "at", rss_bytes, scope, first_seen_at) '
                    "VALUES ($s, $p, $t, 1073741824, 'process', $t)"
                ),
                {"s": source, "p": process, "t": at},
            ),
            self._changed("raw.process_sample", at),
        )

    @staticmethod
    def _changed(table: str, at: datetime) -> tuple[str, dict[str, Any]]:
        return (
            f"INSERT INTO meta.publish_pending VALUES (CAST(uuid() AS VARCHAR), '{table}', time_bucket(INTERVAL 10 MINUTE, $t::TIMESTAMP), $t)",
            {"t": at},
        )

    def publish(self) -> None:
        with self.warehouse.writer("publish") as con:
            with transaction(con):
                for sql, values in self._waiting:
                    con.execute(sql, values)
            self._waiting.clear()
            publish(con, self.lake, self.clock, budget_s=60)

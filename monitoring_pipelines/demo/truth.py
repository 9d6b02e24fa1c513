"""What really happened on the simulated platform, per endpoint and minute, in the words of M-2xx and M-3xx.

What belongs here: the simulator's own book-keeping, made while it simulates. What does not: any reading of the rows it
wrote; the truth must not share code with the pipeline it judges.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from monitoring_pipelines.demo.eventloop import from_ms
from monitoring_pipelines.demo.scale import MINUTE_MS

#: Order of the numbers kept per endpoint and minute; names are those of ``mart.endpoint_minute_stats``.
COLUMNS = (
    "tasks_submitted", "tasks_completed", "tasks_failed", "tasks_timeout", "tasks_cancelled", "tasks_retried",
    "attempts_started", "late_events", "duplicate_events", "queue_wait_n", "queue_wait_sum_ms", "execution_n",
    "execution_sum_ms", "workers_created", "busy_ms", "online_ms",
)  # fmt: skip
_INDEX = {name: position for position, name in enumerate(COLUMNS)}


class Truth:
    """Counts and durations (milliseconds) per (endpoint, minute)."""

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._cells: dict[tuple[str, int], list[int]] = {}

    def add(self, endpoint: str, instant: int, column: str, amount: int = 1) -> None:
        """Count ``amount`` in the minute of ``instant``."""
        if self.enabled:
            self._cell(endpoint, instant // MINUTE_MS)[_INDEX[column]] += amount

    def add_span(self, endpoint: str, start: int, end: int, column: str) -> None:
        """Distribute ``[start, end)`` over the minutes it touches (M-103)."""
        if not self.enabled or end <= start:
            return
        index = _INDEX[column]
        while start < end:
            minute = start // MINUTE_MS
            border = min(end, (minute + 1) * MINUTE_MS)
            self._cell(endpoint, minute)[index] += border - start
            start = border

    def copy(self) -> Truth:
        """An independent copy, to which open spans can be added."""
        other = Truth(self.enabled)
        other._cells = {key: list(cell) for key, cell in self._cells.items()}
        return other

    def rows(self) -> list[dict[str, str | datetime | int]]:
        """One mapping per endpoint and minute with any activity, ordered by endpoint and minute."""
        result = []
        for (endpoint, minute), cell in sorted(self._cells.items()):
            row: dict[str, str | datetime | int] = {"endpoint": endpoint, "stat_minute": from_ms(minute * MINUTE_MS)}
            row.update(zip(COLUMNS, cell, strict=True))
            result.append(row)
        return result

    def write_parquet(self, path: Path) -> int:
        """Write ``rows()`` as Parquet and return their number."""
        import duckdb
        import pyarrow as pa

        table = pa.Table.from_pylist(
            self.rows(),
            schema=pa.schema(
                [("endpoint", pa.string()), ("stat_minute", pa.timestamp("us"))] + [(c, pa.int64()) for c in COLUMNS]
            ),
        )
        with duckdb.connect() as con:
            con.register("truth", table)
            con.sql("SELECT * FROM truth").write_parquet(str(path))
        return table.num_rows

    def _cell(self, endpoint: str, minute: int) -> list[int]:
        cell = self._cells.get((endpoint, minute))
        if cell is None:
            cell = self._cells[(endpoint, minute)] = [0] * len(COLUMNS)
        return cell

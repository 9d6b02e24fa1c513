"""Whether outputs keep coming (C-107): the one judgement behind the check of full runs and the rule of the alert tick.

What belongs here: counting the last hour of one source, the condition, its text. What does not: answering as a check
(``checks.completeness``) or as a rule (``alerts.rules.tasks``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.warehouse.check_sql import query

if TYPE_CHECKING:
    import duckdb

HOUR = timedelta(hours=1)
#: How far back the newest output is looked for before all of history is.
NEAR = timedelta(days=7)


@dataclass(frozen=True)
class Flow:
    """Settled tasks that ended in the hour, and output rows of the application created in it."""

    tasks: int
    outputs: int
    #: Only known while the flow has stopped.
    last_output_at: datetime | None = None

    def stopped(self, least_tasks: int) -> bool | None:
        """Whether it is to be reported; None: too few tasks to say so."""
        if self.outputs:
            return False
        return True if self.tasks >= least_tasks else None

    def text(self, chinese: bool) -> str:
        """What is wrong, in a sentence."""
        if chinese:
            return f"过去一小时结束了 {self.tasks} 个任务，但没有写入任何输出"
        return f"{self.tasks} tasks ended in the last hour and no output row was written"

    def details(self) -> dict[str, Any]:
        """For the finding."""
        return {"tasks": self.tasks, "last_output_at": self.last_output_at}


def flow(con: duckdb.DuckDBPyConnection, source_id: str, end: datetime, now: datetime, settle: timedelta) -> Flow:
    """Count the hour before ``end``.

    Args:
        con: The warehouse.
        source_id: The source.
        end: End of the hour, naive UTC.
        now: Instant by which tasks are settled or not.
        settle: How long after its end a task is settled.
    """
    window = {"source_id": source_id, "window_start": end - HOUR, "window_end": end}
    row = query(con, "output_flow", window | {"now": now, "settle_us": settle // timedelta(microseconds=1)})[0]
    last = None
    if row["tasks"] and not row["outputs"]:
        for oldest in (end - NEAR, datetime.min):
            last = last or query(con, "last_output", window | {"oldest": oldest})[0]["created_at"]
    return Flow(row["tasks"], row["outputs"], last)

"""Which runs are really alive, by a lock the operating system drops when a process dies.

What belongs here: the sign of life of a run and finding runs that lost it.
What does not: what a run does; Dagster's own run monitoring (it cannot see local processes after a restart).

A machine that loses power leaves runs in state STARTED. Dagster's default launcher has no health check, so such a run
would keep its pool slot, and the minute tick would wait for it, until a time limit ends it.
"""

from __future__ import annotations

import fcntl
import os
from datetime import timedelta
from pathlib import Path

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._time import get_current_timestamp

#: A run is not judged while it is this young: its process may not have reached its first step.
GRACE = timedelta(seconds=60)


class RunLife:
    """A file that the process of one run keeps locked.

    Args:
        data_dir: Directory of the warehouse; runs and judges must be on the same host, as the warehouse demands anyway.
        run_id: Dagster's run id.
    """

    def __init__(self, data_dir: Path, run_id: str) -> None:
        self.path = data_dir / "runs" / f"{run_id}.alive"
        self._handle: int | None = None

    def hold(self) -> None:
        """Lock the file; shared, so that several processes of one run (multiprocess executor) may hold it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(self._handle, fcntl.LOCK_SH)

    def release(self) -> None:
        """Unlock and remove the file."""
        if self._handle is not None:
            # In this order: whoever finds the file unlocked and still there may call the run lost.
            self.path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None

    def is_lost(self) -> bool:
        """True when the file exists and no process holds it: the process died without saying so."""
        try:
            handle = os.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return self.path.exists()
        finally:
            os.close(handle)


def fail_lost_runs(instance: DagsterInstance, data_dir: Path) -> list[str]:
    """Mark runs as failed whose process is gone, so that their pool slots and schedules become free.

    Returns:
        The ids of the runs marked.
    """
    lost = []
    now = get_current_timestamp()
    for record in instance.get_run_records(RunsFilter(statuses=[DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING])):
        run_id = record.dagster_run.run_id
        life = RunLife(data_dir, run_id)
        if now - (record.start_time or now) < GRACE.total_seconds() or not life.is_lost():
            continue
        message = "The process of this run is gone (killed, or the machine restarted); the next run continues its work."
        instance.report_run_failed(record.dagster_run, message)
        life.path.unlink(missing_ok=True)
        lost.append(run_id)
    return lost

"""How big a simulated platform is and where its faults lie.

What belongs here: the numbers a caller may choose. What does not: how they turn into rows (``gpu_platform``
and its peers).
"""

from __future__ import annotations

from dataclasses import dataclass, field

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Noise:
    """Probabilities of the small irregularities every real platform shows; all are shares of 1."""

    #: An event's transaction commits after others with a higher id.
    slow_commit: float = 0.01
    #: An event is inserted long after it happened (buffered by a worker, replayed from a queue).
    late_row: float = 0.002
    #: An event is written twice, under two event ids.
    duplicate: float = 0.002
    #: The final event of an attempt is never written; only the task row tells.
    lost_end: float = 0.0005
    #: The worker's clock is behind: the attempt ends before it started.
    reversed_clock: float = 0.0004
    #: A task's own transaction commits some seconds after its creation time.
    slow_submit: float = 0.002
    cancel_queued: float = 0.003
    cancel_running: float = 0.001
    #: A worker's sample is missing from one snapshot round; a whole round is missing.
    snapshot_missing: float = 0.003
    round_missing: float = 0.002
    snapshot_duplicate: float = 0.0002
    #: A submission names the endpoint in another case.
    case_variant: float = 0.004
    #: A dead worker whose row never gets an end time.
    silent_death: float = 0.25


@dataclass(frozen=True)
class Scale:
    """Size of the simulated platforms. Rates are means over a day; traffic follows the day in Asia/Shanghai."""

    endpoints: int = 8
    workers: int = 22
    tasks_per_minute: float = 10.0
    #: Lower bound of the worker count as a share of its mean; the rest follows traffic.
    worker_floor: float = 0.5
    zipf: float = 1.1
    #: Mean hours a worker lives before it dies by accident.
    worker_life_h: float = 36.0
    #: Characters of ``tasks.input`` and ``tasks.output``, which the product must never read.
    payload_chars: int = 60
    #: ``worker_events`` rows for every pulled and completed task, next to the life-cycle ones.
    worker_task_events: bool = True
    #: Peers of the GPU platform; their volume does not grow with it.
    tktool_tasks_per_day: int = 400
    speech_texts_per_day: int = 300
    collector_interval_s: int = 60
    scheduler_jobs: int = 12
    #: Only the GPU platform, for benchmarks.
    platform_only: bool = False
    #: Keep the ground truth (costs time and memory at benchmark volume).
    truth: bool = True
    noise: Noise = field(default_factory=Noise)


SMALL = Scale(
    endpoints=4,
    workers=8,
    tasks_per_minute=4.0,
    worker_life_h=9.0,
    tktool_tasks_per_day=120,
    speech_texts_per_day=100,
    scheduler_jobs=6,
)
STANDARD = Scale()
#: The volume of M-809: 100 endpoints, 520 workers, 750 tasks and 3,000 task events a minute.
BENCHMARK = Scale(
    endpoints=100, workers=520, tasks_per_minute=750.0, worker_floor=0.95, worker_task_events=False,
    platform_only=True, truth=False,
)  # fmt: skip


@dataclass(frozen=True)
class Faults:
    """Instants (milliseconds since the epoch) at which the seeded faults of the later checks begin."""

    #: Completed tasks of one endpoint, and of one workflow, no longer leave outputs.
    outputs_lost_at: int
    #: The job that ends overdue tasks hangs (tktool), or is never called (tts): such tasks stay in progress for ever.
    sweeper_stuck_at: int
    #: One collector process starts to leak memory, connections and file descriptors.
    leak_at: int
    #: One scheduled job starts to fail, another one no longer starts at its time.
    job_fails_at: int
    #: The snapshot collector skips one endpoint from here for two hours.
    snapshot_gap_at: int
    #: One endpoint is removed from the registry.
    endpoint_deleted_at: int

    @classmethod
    def relative_to(cls, now_ms: int) -> Faults:
        """Faults as far back from ``now_ms`` as their checks need to see them."""
        return cls(
            outputs_lost_at=now_ms - 30 * HOUR_MS - 17 * MINUTE_MS,
            sweeper_stuck_at=now_ms - 40 * HOUR_MS,
            leak_at=now_ms - 9 * HOUR_MS,
            job_fails_at=now_ms - 5 * HOUR_MS,
            snapshot_gap_at=now_ms - 7 * HOUR_MS,
            endpoint_deleted_at=now_ms - 20 * HOUR_MS,
        )

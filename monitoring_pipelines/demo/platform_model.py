"""The things of the simulated GPU platform: endpoints, workers, tasks.

What belongs here: their state, and its row in the platform's own tables. What does not: behaviour over time
(``gpu_platform`` for tasks, ``fleet`` for workers).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from monitoring_pipelines.demo.scale import Scale

#: Written where MySQL and MariaDB store a zero date; embedded SQLite gets NULL (E-304).
ZERO_DATE = "0000-00-00 00:00:00.000"

_NAMES = (
    "flux-dev", "sdxl-turbo", "wan-video", "whisper-large", "qwen-image", "kokoro-tts", "esrgan-upscale",
    "llava-caption", "rembg", "musicgen", "depth-anything", "instant-id",
)  # fmt: skip
#: Median execution in ms of the endpoints in turn; the mean lies about a quarter higher.
_MEDIANS = (6_000, 2_200, 38_000, 9_000, 14_000, 1_300, 4_500, 7_000)
_CONCURRENCY = (1, 1, 1, 2, 1, 4, 1, 2)
_SIGMA = 0.65


@dataclass(eq=False, slots=True)
class Endpoint:
    """One deployed model. ``arrivals`` is its mean of tasks per millisecond."""

    id: int
    name: str
    arrivals: float
    mu: float
    concurrency: int
    timeout_ms: int
    failure_rate: float
    min_workers: int
    max_workers: int
    created: int
    emits_started: bool
    gpu_memory_mb: int
    status: str = "Running"
    updated: int = 0
    gpu_collected: bool = True
    queue: deque[Task] = field(default_factory=deque)
    free: list[Worker] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    in_flight: int = 0
    demand: float = 0.0


@dataclass(eq=False, slots=True)
class Worker:
    """One pod. ``state`` is the physical truth, ``status`` what the platform believes."""

    id: int
    worker_id: str
    endpoint: Endpoint
    created: int
    pod_started: int
    ready: int
    slots: int
    heartbeat_phase: int
    state: str = "starting"  # starting, alive, draining, dead, gone
    status: str = "STARTING"
    #: When it stopped working for the platform; its heartbeats end there.
    last_seen: int | None = None
    terminated: int | None = None
    last_task: int | None = None
    failure: str | None = None
    tasks: dict[Task, int] = field(default_factory=dict)
    completed: int = 0
    written: bool = False
    idle_since: int = 0
    # Book-keeping of the ground truth only.
    counted: int = 0
    busy_since: int = 0
    last_evidence: int = 0
    unproven: list[tuple[int, int]] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Task:
    """One request. ``name`` is the endpoint as the submitter spelled it."""

    id: int
    task_id: str
    endpoint: Endpoint
    name: str
    created: int
    enqueued: int
    visible: int
    status: str = "PENDING"
    worker: str = ""
    started: int | None = None
    completed: int | None = None
    updated: int = 0
    error: str | None = None
    has_output: bool = False
    attempt: int = 0
    zero_start: bool = False
    written: bool = False
    counted_final: bool = False


def make_endpoints(scale: Scale, start_ms: int) -> list[Endpoint]:
    """Endpoints with Zipf traffic and as many workers as their share of the load asks for."""
    weights = [1.0 / (rank + 1) ** scale.zipf for rank in range(scale.endpoints)]
    rates = [scale.tasks_per_minute / 60_000 * weight / sum(weights) for weight in weights]
    medians = [_MEDIANS[rank % len(_MEDIANS)] for rank in range(scale.endpoints)]
    loads = [rate * median * math.exp(_SIGMA**2 / 2) for rate, median in zip(rates, medians, strict=True)]
    result = []
    for rank in range(scale.endpoints):
        concurrency = _CONCURRENCY[rank % len(_CONCURRENCY)]
        # Half by load, half evenly: small endpoints keep a spare worker, as teams do.
        share = 0.5 * loads[rank] / sum(loads) + 0.5 / scale.endpoints
        mean_workers = scale.workers * share
        peak = loads[rank] * 1.75 / concurrency
        floor = int(mean_workers * scale.worker_floor + 0.5)
        result.append(
            Endpoint(
                id=rank + 1,
                name=_NAMES[rank] if rank < len(_NAMES) else f"model-{rank + 1:03d}",
                arrivals=rates[rank],
                mu=math.log(medians[rank]),
                concurrency=concurrency,
                timeout_ms=int(medians[rank] * 6),
                failure_rate=(0.02, 0.008, 0.05, 0.015)[rank % 4],
                min_workers=floor,
                max_workers=max(math.ceil(mean_workers * 1.4), math.ceil(peak * 1.5) + 1, floor),
                created=start_ms,
                emits_started=rank % 3 == 1,
                gpu_memory_mb=(24_576, 49_152, 81_920)[rank % 3],
                gpu_collected=rank != scale.endpoints - 2,
                updated=start_ms,
            )
        )
    return result

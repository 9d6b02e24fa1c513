"""Workers of the simulated platform: scaling with traffic, cold starts, deaths, heartbeats and resource samples.

What belongs here: the life of workers, their rows, and the ground truth of online and busy time. What does not: tasks
(``gpu_platform``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from monitoring_pipelines.demo.eventloop import Changes, Row, scramble
from monitoring_pipelines.demo.platform_model import ZERO_DATE, Endpoint, Worker
from monitoring_pipelines.demo.scale import HOUR_MS
from monitoring_pipelines.demo.truth import Truth

if TYPE_CHECKING:
    from monitoring_pipelines.demo.gpu_platform import Platform

_SCALE_EVERY_MS = 30_000
_IDLE_BEFORE_LEAVING_MS = 900_000
_HEARTBEAT_MS = 10_000
_SNAPSHOT_EVERY_MS = 60_000
_SNAPSHOT_GAP_MS = 2 * HOUR_MS


class Fleet:
    """All workers of one platform."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._workers: list[Worker] = []
        self._changed: dict[Worker, None] = {}
        self._worker_id = 0
        self._event_id = 0
        self._snapshot_id = 0
        start = platform.now
        for endpoint in platform.endpoints:
            platform.at(start + endpoint.id % 30 * 1_000, self._scale, endpoint)
        platform.at(start - start % 60_000 + 60_000 + 5_000, self._snapshot_round)

    # --- scaling and lives ----------------------------------------------------------------------------------------

    def _scale(self, endpoint: Endpoint) -> None:
        platform = self._platform
        platform.at(platform.now + _SCALE_EVERY_MS, self._scale, endpoint)
        # Smoothed over some minutes, as autoscalers are: one busy moment starts nobody.
        endpoint.demand += 0.15 * (endpoint.in_flight + len(endpoint.queue) - endpoint.demand)
        needed = math.ceil(endpoint.demand * 1.3 / endpoint.concurrency - 0.25)
        if endpoint.queue and not endpoint.workers:
            needed = max(needed, 1)
        wanted = min(endpoint.max_workers, max(endpoint.min_workers, needed))
        present = len(endpoint.workers)
        for _ in range(min(4, wanted - present)):
            self._start(endpoint)
        if present > wanted:
            for worker in endpoint.free:
                idle = worker.slots == endpoint.concurrency and not worker.tasks
                if idle and platform.now - worker.idle_since > _IDLE_BEFORE_LEAVING_MS:
                    self._leave(worker)
                    break

    def _start(self, endpoint: Endpoint) -> None:
        platform, rng = self._platform, self._platform.rng
        now = platform.now
        self._worker_id += 1
        pod_started = now + 4_000 + int(rng.lognormvariate(10.2, 0.5))  # about half a minute to pull and start
        ready = pod_started + rng.randint(2_000, 20_000)
        suffix = f"{scramble(self._worker_id):016x}"
        worker = Worker(
            self._worker_id, f"{endpoint.name}-{suffix[:9]}-{suffix[9:14]}", endpoint, now, pod_started, ready,
            endpoint.concurrency, rng.randrange(_HEARTBEAT_MS),
        )  # fmt: skip
        endpoint.workers.append(worker)
        self._workers.append(worker)
        self._changed[worker] = None
        platform.at(pod_started, self._pod_started, worker)
        platform.at(ready, self._ready, worker)

    def _pod_started(self, worker: Worker) -> None:
        self.event(worker, "WORKER_STARTED", worker.pod_started)
        self._changed[worker] = None

    def _ready(self, worker: Worker) -> None:
        platform, rng = self._platform, self._platform.rng
        now = platform.now
        worker.state, worker.status = "alive", "ONLINE"
        worker.idle_since = worker.last_evidence = now
        self._changed[worker] = None
        self.event(worker, "WORKER_REGISTERED", now, cold_start=worker.pod_started - worker.created)
        platform.truth.add(worker.endpoint.name, now, "workers_created")
        worker.endpoint.free.append(worker)
        life = int(rng.expovariate(1.0 / (platform.scale.worker_life_h * HOUR_MS))) + 60_000
        platform.at(now + life, self._preempted if rng.random() < 0.2 else self._die, worker)
        platform.dispatch(worker.endpoint)

    def _unlist(self, worker: Worker, state: str) -> None:
        worker.state, worker.last_seen = state, self._platform.now
        worker.endpoint.workers.remove(worker)
        if worker in worker.endpoint.free:
            worker.endpoint.free.remove(worker)
        self._changed[worker] = None

    def _leave(self, worker: Worker) -> None:
        self._unlist(worker, "draining")
        worker.status = "DRAINING"
        self._platform.at(self._platform.now + self._platform.rng.randint(1_000, 8_000), self._left, worker)

    def _left(self, worker: Worker) -> None:
        now = self._platform.now
        worker.state, worker.status, worker.terminated = "gone", "OFFLINE", now
        self.event(worker, "WORKER_OFFLINE", now)
        self._settle(worker, now)
        self._changed[worker] = None

    def _preempted(self, worker: Worker) -> None:
        """The cloud takes the machine back: tasks are handed over, then the pod ends."""
        if worker.state != "alive":
            return
        self._unlist(worker, "draining")
        worker.status, worker.failure = "DRAINING", "SPOT_RECLAIMED"
        self._cut_busy(worker)
        for task in list(worker.tasks):
            self._platform.preempt(task, worker)
        self._platform.at(self._platform.now + 1_000, self._left, worker)

    def _die(self, worker: Worker) -> None:
        if worker.state != "alive":
            return
        platform, rng = self._platform, self._platform.rng
        self._unlist(worker, "dead")
        silent = rng.random() < platform.noise.silent_death
        self._cut_busy(worker)
        self._settle(worker, worker.last_evidence if silent else platform.now)
        platform.at(platform.now + rng.randint(45_000, 75_000), self._found_dead, worker, silent)

    def _found_dead(self, worker: Worker, silent: bool) -> None:
        platform = self._platform
        worker.status = "OFFLINE"
        worker.failure = "HEARTBEAT_LOST" if silent else "OOM_KILLED"
        if not silent:
            worker.terminated = worker.last_seen
            self.event(worker, "WORKER_OFFLINE", worker.last_seen or platform.now)
        self._changed[worker] = None
        for task in list(worker.tasks):
            platform.orphan(task, worker)

    # --- ground truth of worker time ------------------------------------------------------------------------------

    def evidence(self, worker: Worker) -> None:
        """Something proves that the worker lives now: its past is certain (M-304)."""
        worker.last_evidence = self._platform.now
        if worker.unproven:
            for start, end in worker.unproven:
                self._platform.truth.add_span(worker.endpoint.name, start, end, "busy_ms")
            worker.unproven.clear()

    def busy_begin(self, worker: Worker) -> None:
        """An attempt starts; the first of overlapping ones opens the busy span (M-307)."""
        self.evidence(worker)
        if worker.counted == 0:
            worker.busy_since = self._platform.now
        worker.counted += 1

    def busy_end(self, worker: Worker, instant: int, proves_life: bool) -> None:
        """An attempt ends; the last of overlapping ones closes the busy span."""
        worker.counted -= 1
        if worker.counted == 0:
            worker.unproven.append((worker.busy_since, instant))
        if proves_life:
            self.evidence(worker)

    def _cut_busy(self, worker: Worker) -> None:
        """All running attempts end with their worker, also one whose clock would have run backwards (M-307)."""
        starts = [task.started for task in worker.tasks if task.started is not None]
        if worker.counted:
            starts.append(worker.busy_since)
        if starts:
            worker.unproven.append((min(starts), self._platform.now))
        worker.counted = 0

    def _settle(self, worker: Worker, end: int, truth: Truth | None = None) -> None:
        """Count the worker's life and remaining busy spans up to ``end``."""
        truth = truth or self._platform.truth
        truth.add_span(worker.endpoint.name, worker.ready, end, "online_ms")
        for start, stop in worker.unproven:
            truth.add_span(worker.endpoint.name, start, min(stop, end), "busy_ms")

    def truth_with_open_spans(self) -> Truth:
        """A copy of the truth in which living workers are counted up to now."""
        now, truth = self._platform.now, self._platform.truth.copy()
        for worker in self._workers:
            if worker.state in ("alive", "draining"):
                self._settle(worker, now, truth)
                if worker.counted:
                    truth.add_span(worker.endpoint.name, worker.busy_since, now, "busy_ms")
        return truth

    # --- rows -----------------------------------------------------------------------------------------------------

    def event(
        self, worker: Worker, kind: str, instant: int, task_id: str | None = None, cold_start: int | None = None
    ) -> None:
        """Write one ``worker_events`` row."""
        if kind in ("WORKER_TASK_PULLED", "WORKER_TASK_COMPLETED"):
            self.evidence(worker)
        self._event_id += 1
        number = self._event_id
        idle = self._platform.now - worker.idle_since if kind == "WORKER_TASK_PULLED" else None
        self._platform.insert(
            "worker_events",
            (
                number, f"wev-{scramble(number):016x}", worker.worker_id, worker.endpoint.name, kind,
                self._platform.text(instant), cold_start, idle, task_id or "", None,
            ),
        )  # fmt: skip

    def _snapshot_round(self) -> None:
        platform, rng, noise = self._platform, self._platform.rng, self._platform.noise
        now = platform.now
        platform.at(now + _SNAPSHOT_EVERY_MS, self._snapshot_round)
        if rng.random() < noise.round_missing:
            return
        gap = 0 <= now - platform.faults.snapshot_gap_at < _SNAPSHOT_GAP_MS
        for endpoint in platform.endpoints:
            if gap and endpoint.id == 2:
                continue
            for worker in endpoint.workers:
                if worker.state != "alive":
                    continue
                draw = rng.random()
                if draw < noise.snapshot_missing:
                    continue
                self._snapshot(worker, draw)
                if draw > 1.0 - noise.snapshot_duplicate:
                    self._snapshot(worker, draw)

    def _snapshot(self, worker: Worker, draw: float) -> None:
        platform, endpoint = self._platform, worker.endpoint
        self.evidence(worker)
        self._snapshot_id += 1
        busy = bool(worker.tasks)
        task = next(iter(worker.tasks)).task_id if busy else ""
        if endpoint.gpu_collected:
            load = round(62.0 + 36.0 * draw, 2) if busy else round(2.5 * draw, 2)
            gpu: Row = (load, int(endpoint.gpu_memory_mb * (0.78 if busy else 0.61)), endpoint.gpu_memory_mb)
        else:
            gpu = (0, 0, 0)  # the collector lacks the driver library and writes zeros (E-115)
        platform.insert(
            "worker_resource_snapshots",
            (
                self._snapshot_id, worker.worker_id, endpoint.name, platform.text(platform.now), 0 if busy else 1, task,
                *gpu, round((35.0 if busy else 4.0) + 20.0 * draw, 2), int(6_000 + 2_500 * draw), 32_768,
            ),
        )  # fmt: skip

    def take(self, changes: Changes) -> None:
        """Add new and changed worker rows; a living worker's heartbeat changes its row in place."""
        now = self._platform.now
        for endpoint in self._platform.endpoints:
            for worker in endpoint.workers:
                if worker.state == "alive":
                    self._changed[worker] = None
        for worker in self._changed:
            target = changes.updates if worker.written else changes.inserts
            target.setdefault("workers", []).append(self._row(worker, now))
            worker.written = True
        self._changed = {}

    def _row(self, worker: Worker, now: int) -> Row:
        text, optional = self._platform.text, self._platform.optional_text
        seen = worker.created if worker.state == "starting" else worker.last_seen or now
        heartbeat = max(worker.created, seen - (seen - worker.heartbeat_phase) % _HEARTBEAT_MS)
        status = "BUSY" if worker.status == "ONLINE" and worker.tasks else worker.status
        started = worker.pod_started if worker.pod_started <= now else None
        # Old clients wrote a zero date for "no task yet".
        last_task = ZERO_DATE if worker.last_task is None and worker.id % 40 == 7 else optional(worker.last_task)
        return (
            worker.id, worker.worker_id, worker.endpoint.name, worker.worker_id, status, worker.endpoint.concurrency,
            len(worker.tasks), text(worker.created), text(heartbeat), text(worker.created), optional(started),
            text(worker.ready) if worker.ready <= now else None, optional(worker.terminated),
            worker.pod_started - worker.created if worker.ready <= now else None, text(heartbeat), last_task,
            worker.completed, worker.failure, "pod ended unexpectedly" if worker.failure else None,
        )  # fmt: skip

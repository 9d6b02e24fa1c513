"""The simulated GPU inference platform: submissions, dispatch, outcomes and the rows the platform writes about them.

What belongs here: the life of tasks and their events, with the irregularities of real platforms. What does not: workers
coming and going and their samples (``fleet``), writing to a database (``writers``).
"""

from __future__ import annotations

from monitoring_pipelines.demo.eventloop import Changes, EventLoop, Row, day_curve, scramble
from monitoring_pipelines.demo.fleet import Fleet
from monitoring_pipelines.demo.platform_model import ZERO_DATE, Endpoint, Task, Worker, make_endpoints
from monitoring_pipelines.demo.scale import Faults, Scale
from monitoring_pipelines.demo.truth import Truth

_SIGMA = 0.65
_ERRORS = (
    "CUDA out of memory. Tried to allocate 2.50 GiB", "HTTP 502 from weights mirror",
    "输入图片无法解码: unsupported format", "worker process exited with code 137",
)  # fmt: skip


class Platform(EventLoop):
    """Endpoints, tasks, workers, their events and resource snapshots, as in the waverless preset."""

    database = "waverless"

    def __init__(self, seed: int, start_ms: int, scale: Scale, faults: Faults) -> None:
        super().__init__(seed, start_ms)
        self.scale, self.faults, self.noise = scale, faults, scale.noise
        self.truth = Truth(scale.truth)
        self.endpoints = make_endpoints(scale, start_ms)
        self.fleet = Fleet(self)
        self._task_id = 0
        self._event_id = 0
        self._changed: dict[Task, None] = {}
        self._changed_endpoints: dict[Endpoint, bool] = dict.fromkeys(self.endpoints, True)
        self._input = '{"prompt": "' + "x" * max(0, scale.payload_chars - 14) + '"}'
        self._output = '{"images": ["' + "x" * max(0, scale.payload_chars - 15) + '"]}'
        noise = self.noise
        self._irregular = noise.slow_commit + noise.late_row + noise.duplicate
        for endpoint in self.endpoints:
            self.at(start_ms + int(self.rng.random() * 60_000), self._arrive, endpoint)
        if faults.endpoint_deleted_at > start_ms and scale.endpoints > 3:
            self.at(faults.endpoint_deleted_at, self._delete_endpoint, self.endpoints[-1])

    # --- submission and dispatch ---------------------------------------------------------------------------------

    def _arrive(self, endpoint: Endpoint) -> None:
        if endpoint.status == "deleted":
            return
        rng = self.rng
        count = rng.randint(8, 30) if rng.random() < 0.001 else 1  # a user submits a batch now and then
        for _ in range(count):
            self._submit(endpoint)
        gap = rng.expovariate(endpoint.arrivals * day_curve(self.now))
        self.at(self.now + 1 + int(gap), self._arrive, endpoint)

    def _submit(self, endpoint: Endpoint) -> None:
        rng, now = self.rng, self.now
        self._task_id += 1
        name = endpoint.name
        if endpoint.id == 1 and rng.random() < self.noise.case_variant:
            name = name.title()
        visible = now + (rng.randint(500, 15_000) if rng.random() < self.noise.slow_submit else 0)
        task_id = f"task-{scramble(self._task_id):016x}"
        task = Task(self._task_id, task_id, endpoint, name, now, now, visible, updated=now)
        self.truth.add(name, now, "tasks_submitted")
        self._changed[task] = None
        self._event(task, "TASK_CREATED", now, commit=visible)
        self._event(task, "TASK_QUEUED", now, commit=visible)
        if rng.random() < self.noise.cancel_queued:
            self.at(visible + 1 + int(rng.expovariate(1 / 4_000)), self._cancel_queued, task)
        if visible > now:
            self.at(visible, self._enqueue, task)
        else:
            endpoint.queue.append(task)
            self.dispatch(endpoint)

    def _enqueue(self, task: Task) -> None:
        task.endpoint.queue.append(task)
        self.dispatch(task.endpoint)

    def dispatch(self, endpoint: Endpoint) -> None:
        """Reserve free slots for waiting tasks; the worker takes each a moment later."""
        queue, free = endpoint.queue, endpoint.free
        while queue and free:
            task = queue.popleft()
            if task.status != "PENDING":
                continue
            worker = free[-1]
            worker.slots -= 1
            if worker.slots == 0:
                free.pop()
            self.at(self.now + 20 + int(self.rng.expovariate(1 / 120)), self._assign, task, worker)

    def _assign(self, task: Task, worker: Worker) -> None:
        endpoint, now, rng = task.endpoint, self.now, self.rng
        if worker.state != "alive" or task.status != "PENDING":
            if task.status == "PENDING":
                endpoint.queue.appendleft(task)
            self.release(worker)
            self.dispatch(endpoint)
            return
        task.attempt += 1
        task.status, task.worker, task.started, task.completed = "IN_PROGRESS", worker.worker_id, now, None
        task.counted_final = False
        self._touch(task)
        endpoint.in_flight += 1
        truth = self.truth
        truth.add(task.name, now, "attempts_started")
        truth.add(task.name, now, "queue_wait_n")
        truth.add(task.name, now, "queue_wait_sum_ms", now - task.enqueued)
        self._event(task, "TASK_ASSIGNED", now, worker.worker_id)
        self.fleet.evidence(worker)
        kind, duration = self._outcome(endpoint)
        if endpoint.emits_started and duration > 400:
            self.at(now + 150, self._started, task, task.attempt, worker)
        worker.tasks[task] = task.attempt
        if self.scale.worker_task_events:
            self.fleet.event(worker, "WORKER_TASK_PULLED", now, task.task_id)
        if kind == "TASK_COMPLETED" and duration < 4_000 and rng.random() < self.noise.reversed_clock * 4:
            self.at(now + duration, self._finish_reversed, task, task.attempt, worker)
        else:
            self.fleet.busy_begin(worker)
            self.at(now + duration, self._finish, task, task.attempt, worker, kind)

    def _outcome(self, endpoint: Endpoint) -> tuple[str, int]:
        """Final event and time until it, drawn when the attempt starts."""
        rng = self.rng
        duration = 1 + int(rng.lognormvariate(endpoint.mu, _SIGMA))
        if duration > endpoint.timeout_ms:
            return "TASK_TIMEOUT", endpoint.timeout_ms + rng.randint(0, 15_000)  # the platform's sweep has a period
        draw = rng.random()
        if draw < endpoint.failure_rate:
            return "TASK_FAILED", 1 + int(duration * rng.random())
        if draw > 1.0 - self.noise.cancel_running:
            return "TASK_CANCELLED", 1 + int(duration * rng.random())
        return "TASK_COMPLETED", duration

    def _started(self, task: Task, attempt: int, worker: Worker) -> None:
        if worker.tasks.get(task) == attempt and worker.state == "alive":
            self._event(task, "TASK_STARTED", self.now, worker.worker_id)

    # --- outcomes -------------------------------------------------------------------------------------------------

    def _finish(self, task: Task, attempt: int, worker: Worker, kind: str) -> None:
        if worker.tasks.get(task) != attempt or worker.state not in ("alive", "draining"):
            return
        now, rng, truth = self.now, self.rng, self.truth
        lost = kind == "TASK_COMPLETED" and rng.random() < self.noise.lost_end
        self._close(task, worker, kind, now)
        if not lost:
            proves_life = kind in ("TASK_COMPLETED", "TASK_FAILED")
            self.fleet.busy_end(worker, now, proves_life)
            self._event(task, kind, now, worker.worker_id, task.error, self._durations(task, now))
            if kind == "TASK_COMPLETED":
                truth.add(task.name, now, "execution_n")
                truth.add(task.name, now, "execution_sum_ms", now - (task.started or now))
        else:
            self.fleet.busy_end(worker, now, proves_life=False)
        if self.scale.worker_task_events and kind in ("TASK_COMPLETED", "TASK_FAILED"):
            self.fleet.event(worker, "WORKER_TASK_COMPLETED", now, task.task_id)
        if kind == "TASK_FAILED" and task.attempt < 3 and rng.random() < 0.5:
            self.at(now + rng.randint(500, 5_000), self._requeue, task, attempt)
        elif kind == "TASK_TIMEOUT" and rng.random() < 0.3:
            self.at(now + rng.randint(3_000, 90_000), self._late_completion, task, worker)
        self.release(worker)
        self.dispatch(task.endpoint)

    def _finish_reversed(self, task: Task, attempt: int, worker: Worker) -> None:
        """The worker's clock is behind the server's: completed before assigned (M-209)."""
        if worker.tasks.get(task) != attempt or worker.state not in ("alive", "draining"):
            return
        started = task.started or self.now
        instant = max(task.enqueued, started - self.rng.randint(5, 400))
        self._close(task, worker, "TASK_COMPLETED", instant)
        self._event(task, "TASK_COMPLETED", instant, worker.worker_id)
        self.release(worker)
        self.dispatch(task.endpoint)

    def _close(self, task: Task, worker: Worker, kind: str, instant: int) -> None:
        """Final state of the task row and of the books."""
        status, column = _FINALS[kind]
        task.status, task.completed, task.counted_final = status, instant, True
        task.error = None
        if kind == "TASK_FAILED":
            task.error = self.rng.choice(_ERRORS)
        elif kind == "TASK_TIMEOUT":
            task.error = f"task exceeded {task.endpoint.timeout_ms // 1000}s"
        if kind == "TASK_COMPLETED":
            broken = task.endpoint.id == 3 and instant >= self.faults.outputs_lost_at
            task.has_output = not (broken and self.rng.random() < 0.8)
            worker.completed += 1
        self._touch(task)
        self.truth.add(task.name, instant, column)
        del worker.tasks[task]
        worker.last_task = self.now
        task.endpoint.in_flight -= 1

    def _cancel_queued(self, task: Task) -> None:
        if task.status != "PENDING" or task.attempt:
            return
        task.status, task.completed, task.zero_start = "CANCELLED", self.now, self.rng.random() < 0.2
        self._touch(task)
        self.truth.add(task.name, self.now, "tasks_cancelled")
        self._event(task, "TASK_CANCELLED", self.now)

    def _late_completion(self, task: Task, worker: Worker) -> None:
        """The worker reports success after the platform had given up (M-205: changes nothing)."""
        if worker.state == "alive":
            self._event(task, "TASK_COMPLETED", self.now, worker.worker_id, None, self._durations(task, self.now))
            self.truth.add(task.name, self.now, "late_events")
            self.fleet.evidence(worker)

    def _requeue(self, task: Task, attempt: int, front: bool = False) -> None:
        if task.attempt != attempt or task.status in ("PENDING", "COMPLETED"):
            return
        task.status, task.worker, task.started, task.completed = "PENDING", "", None, None
        task.enqueued = self.now
        self._touch(task)
        self._event(task, "TASK_REQUEUED", self.now)
        self.truth.add(task.name, self.now, "tasks_retried")
        if front:
            task.endpoint.queue.appendleft(task)
        else:
            task.endpoint.queue.append(task)
        self.dispatch(task.endpoint)

    def orphan(self, task: Task, worker: Worker) -> None:
        """The platform notices that the task's worker is gone; the task goes back to the queue a moment later."""
        attempt = worker.tasks.pop(task)
        task.endpoint.in_flight -= 1
        kind = "WORKER_LOST" if self.rng.random() < 0.3 else "TASK_ORPHANED"
        self._event(task, kind, self.now, worker.worker_id, "worker heartbeat lost")
        self.at(self.now + self.rng.randint(0, 2_000), self._requeue, task, attempt, True)

    def preempt(self, task: Task, worker: Worker) -> None:
        """A worker that is asked to leave gives its task back at once."""
        attempt = worker.tasks.pop(task)
        task.endpoint.in_flight -= 1
        self._requeue(task, attempt, True)

    def release(self, worker: Worker) -> None:
        """Give one slot back."""
        worker.slots += 1
        if worker.slots == worker.endpoint.concurrency:
            worker.idle_since = self.now
        if worker.slots == 1 and worker.state == "alive":
            worker.endpoint.free.append(worker)

    def _delete_endpoint(self, endpoint: Endpoint) -> None:
        endpoint.status, endpoint.updated = "deleted", self.now
        endpoint.min_workers = endpoint.max_workers = 0
        self._changed_endpoints.setdefault(endpoint, False)

    # --- rows -----------------------------------------------------------------------------------------------------

    def _touch(self, task: Task) -> None:
        task.updated = self.now
        self._changed[task] = None

    def _durations(self, task: Task, now: int) -> tuple[int, int, int]:
        """The platform's own figures: waiting counts from the first submission even on a later attempt (M-214)."""
        started = task.started or now
        return started - task.created, now - started, now - task.created

    def _event(
        self, task: Task, kind: str, instant: int, worker: str = "", error: str | None = None,
        figures: tuple[int, int, int] | None = None, commit: int | None = None,
    ) -> None:  # fmt: skip
        draw = self.rng.random() if commit is None or commit <= self.now else 1.0
        if draw < self._irregular:
            self._irregular_event(draw, task, kind, instant, worker, error, figures)
        else:
            self._write_event(task, kind, instant, worker, error, figures, commit)

    def _irregular_event(
        self, draw: float, task: Task, kind: str, instant: int, worker: str, error: str | None,
        figures: tuple[int, int, int] | None,
    ) -> None:  # fmt: skip
        noise, rng, now = self.noise, self.rng, self.now
        if draw < noise.slow_commit:
            self._write_event(task, kind, instant, worker, error, figures, now + rng.randint(200, 20_000))
        elif draw < noise.slow_commit + noise.late_row:
            delay = min(2_400_000, 60_000 + int(rng.lognormvariate(12.0, 1.0)))  # minutes, at most 40
            self.at(now + delay, self._write_event, task, kind, instant, worker, error, figures)
        else:
            self._write_event(task, kind, instant, worker, error, figures)
            self._write_event(task, kind, instant, worker, error, figures, now + rng.randint(5, 3_000))
            self.truth.add(task.name, instant, "duplicate_events")

    def _write_event(
        self, task: Task, kind: str, instant: int, worker: str, error: str | None,
        figures: tuple[int, int, int] | None, commit: int | None = None,
    ) -> None:  # fmt: skip
        self._event_id += 1
        number = self._event_id
        wait, execution, total = figures or (None, None, None)
        self.insert(
            "task_events",
            (
                number, f"evt-{scramble(number):016x}", task.task_id, task.name, kind, self.text(instant),
                worker or None, error, max(0, task.attempt - 1), None, wait, execution, total,
            ),
            commit,
        )  # fmt: skip

    def _task_row(self, task: Task) -> Row:
        started = ZERO_DATE if task.zero_start else self.optional_text(task.started)
        return (
            task.id, task.task_id, task.name, self._input, task.status, self._output if task.has_output else None,
            task.error, task.worker or None, None, self.text(task.created), self.text(task.updated), started,
            self.optional_text(task.completed), None,
        )  # fmt: skip

    def take(self) -> Changes:
        """Rows committed since the last call, and the present state of every changed task, worker and endpoint."""
        changes = super().take()
        inserts = changes.inserts.setdefault("tasks", [])
        updates = changes.updates.setdefault("tasks", [])
        invisible: dict[Task, None] = {}
        for task in self._changed:
            if task.visible > self.now:
                invisible[task] = None
                continue
            (updates if task.written else inserts).append(self._task_row(task))
            task.written = True
        self._changed = invisible
        for endpoint, new in self._changed_endpoints.items():
            target = changes.inserts if new else changes.updates
            target.setdefault("endpoints", []).append(self._endpoint_row(endpoint))
        self._changed_endpoints = {}
        self.fleet.take(changes)
        return changes

    def _endpoint_row(self, endpoint: Endpoint) -> Row:
        return (
            endpoint.id, endpoint.name, f"registry.example/{endpoint.name}:1.4", endpoint.status, endpoint.min_workers,
            1, 0 if endpoint.id % 4 == 0 else endpoint.timeout_ms // 1000, 50, self.text(endpoint.created),
            self.text(endpoint.updated),
        )  # fmt: skip

    def truth_until_now(self) -> Truth:
        """The ground truth with the time of living workers counted up to now."""
        return self.fleet.truth_with_open_spans()


_FINALS = {
    "TASK_COMPLETED": ("COMPLETED", "tasks_completed"),
    "TASK_FAILED": ("FAILED", "tasks_failed"),
    "TASK_TIMEOUT": ("FAILED", "tasks_timeout"),
    "TASK_CANCELLED": ("CANCELLED", "tasks_cancelled"),
}

"""The second simulated platform: workflows that must leave output files, and sometimes do not.

What belongs here: tables ``tasks`` and ``task_outputs`` of the tktool preset with the faults of completeness checks
(missing, late, repeated and orphan outputs, tasks that run for ever). What does not: the GPU
platform (``gpu_platform``).
"""

from __future__ import annotations

from dataclasses import dataclass

from monitoring_pipelines.demo.eventloop import Changes, EventLoop, Row, day_curve, scramble
from monitoring_pipelines.demo.scale import DAY_MS, HOUR_MS, Faults

_WORKFLOWS = ("wf-portrait", "wf-upscale", "wf-video-cut", "wf-translate")
_WEIGHTS = (48, 27, 16, 9)
#: The workflow whose outputs are lost, and the one whose outputs come late.
_LOSING, _LATE = "wf-upscale", "wf-video-cut"
_TIMEOUT_MS = 10 * HOUR_MS
_TYPES = (("png", 1_800_000), ("jpg", 420_000), ("mp4", 24_000_000), ("json", 3_000))


@dataclass(eq=False, slots=True)
class _Task:
    task_id: str
    workflow: str
    created: int
    timeout: int
    status: str = "PENDING"
    remote_id: str | None = None
    started: int | None = None
    completed: int | None = None
    written: bool = False


class Tktool(EventLoop):
    """A workflow tool: task rows change in place, one output row per produced file."""

    database = "tktool"

    def __init__(self, seed: int, start_ms: int, tasks_per_day: float, faults: Faults) -> None:
        super().__init__(seed, start_ms)
        self.faults = faults
        self._arrivals = tasks_per_day / DAY_MS
        self._number = self._output_id = 0
        self._changed: dict[_Task, None] = {}
        self._hanging: list[_Task] = []
        self.at(start_ms + 1_000, self._arrive)
        self.at(start_ms + 60_000, self._sweep)

    def _arrive(self) -> None:
        rng = self.rng
        self._number += 1
        number = scramble(self._number) << 64 | scramble(self._number + (1 << 40))
        hexa = f"{number:032x}"
        task_id = f"{hexa[:8]}-{hexa[8:12]}-{hexa[12:16]}-{hexa[16:20]}-{hexa[20:]}"
        workflow = rng.choices(_WORKFLOWS, _WEIGHTS)[0]
        task = _Task(task_id, workflow, self.now, self.now + _TIMEOUT_MS)
        self._changed[task] = None
        self.at(self.now + rng.randint(800, 9_000), self._start, task)
        self.at(self.now + 1 + int(rng.expovariate(self._arrivals * day_curve(self.now))), self._arrive)

    def _start(self, task: _Task) -> None:
        rng = self.rng
        task.status, task.started = "RUNNING", self.now
        if rng.random() > 0.004:
            task.remote_id = str(1_900_000_000_000_000_000 + scramble(self._number) % 10**17)
        self._changed[task] = None
        draw = rng.random()
        if draw < 0.012:
            self._hanging.append(task)  # the remote never answers: only the sweeper ends it
            return
        duration = 4_000 + int(rng.lognormvariate(10.6, 0.7))
        self.at(self.now + duration, self._finish, task, "FAILED" if draw < 0.05 else "SUCCESS")

    def _sweep(self) -> None:
        """End overdue tasks once a minute; from the fault on it hangs and does nothing."""
        self.at(self.now + 60_000, self._sweep)
        if self.now >= self.faults.sweeper_stuck_at:
            return
        overdue = [task for task in self._hanging if self.now > task.timeout]
        for task in overdue:
            self._hanging.remove(task)
            task.status, task.completed = "FAILED", self.now
            self._changed[task] = None

    def _finish(self, task: _Task, status: str) -> None:
        rng = self.rng
        task.status, task.completed = status, self.now
        self._changed[task] = None
        if status == "FAILED":
            if rng.random() < 0.03:
                self._output(task, 0, self.now)  # a file was saved before the failure (C-112)
            return
        if task.workflow == _LOSING and self.now >= self.faults.outputs_lost_at and rng.random() < 0.85:
            return
        if rng.random() < 0.006:
            return  # the normal trickle of losses
        delay = 300 + int(rng.lognormvariate(8.3, 0.8))
        if task.workflow == _LATE and 0 <= self.now - self.faults.leak_at < 3 * HOUR_MS:
            delay += rng.randint(1_900_000, 5_400_000)  # storage queue behind for three hours (C-104)
        for position in range(rng.choice((1, 1, 1, 2, 4))):
            self.at(self.now + delay + 40 * position, self._output, task, position, None)

    def _output(self, task: _Task, position: int, instant: int | None) -> None:
        rng = self.rng
        instant = self.now if instant is None else instant
        kind, size = _TYPES[scramble(position + len(task.workflow)) % len(_TYPES)]
        size = 0 if rng.random() < 0.02 else int(size * (0.4 + rng.random()))
        name = f"{task.task_id[:8]}_{position:05d}.{kind}"
        url = f"https://files.example.net/{task.workflow}/{task.task_id}/{name}?sign={rng.getrandbits(32):08x}"
        self._write_output(task.task_id, position, name, url, kind, size, instant)
        draw = rng.random()
        if draw < 0.006:  # a retried callback saves the same file under a new signature (C-110)
            again = url[:-8] + f"{rng.getrandbits(32):08x}"
            self._write_output(task.task_id, position, name, again, kind, size, instant)
        elif draw < 0.007:
            stray = f"{rng.getrandbits(128):032x}"
            self._write_output(stray, position, name, url, kind, size, instant)  # its task is nowhere (C-111)

    def _write_output(
        self, task_id: str, position: int, name: str, url: str, kind: str, size: int, instant: int
    ) -> None:
        # Ids follow the clock and leave room between them: rows that others insert (a repair) get ids of their own.
        self._output_id = max(self._output_id + 1, self.now * 10)
        self.insert(
            "task_outputs",
            (self._output_id, task_id, str(9 + position), name, url, kind, size, "", "", self.text(instant)),
        )

    def take(self) -> Changes:
        """Outputs saved since the last call, and the present state of changed tasks."""
        changes = super().take()
        for task in self._changed:
            target = changes.updates if task.written else changes.inserts
            target.setdefault("tasks", []).append(self._row(task))
            task.written = True
        self._changed = {}
        return changes

    def _row(self, task: _Task) -> Row:
        return (
            task.task_id, task.workflow, task.status, task.remote_id, None, self.text(task.created),
            self.optional_text(task.started), self.optional_text(task.completed), self.text(task.timeout),
        )  # fmt: skip

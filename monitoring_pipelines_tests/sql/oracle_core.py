"""A second, slow implementation of attempts and worker time, read from the rules and not from the SQL.

What belongs here: M-201 to M-218 for one task at a time and M-301, M-302, M-305 for one worker at a time, in plain Python.
What does not: speed, storage, anything the product imports.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

START = ("assigned", "started")
FINAL = ("completed", "failed", "timeout", "cancelled")
RELEASING = ("orphaned", "requeued")
OUTCOME_OF_STATUS = {"succeeded": "completed", "failed": "failed", "timed_out": "timeout", "cancelled": "cancelled"}


@dataclass(frozen=True)
class Event:
    """One task event."""

    row_id: int
    type: str
    at: datetime
    worker: str | None = None


@dataclass(frozen=True)
class Row:
    """The row of a task."""

    status: str
    seen: datetime
    created: datetime | None = None
    queued: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    updated: datetime | None = None
    worker: str | None = None


@dataclass(frozen=True)
class Rules:
    """Settings, and when workers were idle or ended."""

    now: datetime
    skew: timedelta = timedelta(seconds=300)
    limit: timedelta | None = None
    longest: timedelta = timedelta(hours=168)
    idle: dict[str, list[datetime]] = field(default_factory=dict)
    #: worker -> (start, end or None) of its lives
    lives: dict[str, list[tuple[datetime, datetime | None]]] = field(default_factory=dict)


@dataclass
class Attempt:
    """One attempt; ``end`` None while open."""

    no: int
    start: datetime
    worker: str | None
    enqueued: datetime | None
    end: datetime | None = None
    outcome: str = "open"
    source: str | None = None
    counted: bool = False
    reversed: bool = False
    own_end: bool = False
    observed: bool = False
    partner: tuple[int, str, datetime] | None = None
    late: int = 0
    first_worker: str | None = None

    @property
    def running(self) -> bool:
        """No end is known yet."""
        return self.end is None


@dataclass
class Verdict:
    """What a task amounts to."""

    attempts: list[Attempt] = field(default_factory=list)
    instants: list[tuple[str, datetime]] = field(default_factory=list)


def judge(events: list[Event], row: Row | None, rules: Rules) -> Verdict:
    """Attempts and countable instants of one task."""
    reader = _Reader(row, rules)
    known = [e for e in events if e.type != "info" and e.at <= rules.now + timedelta(seconds=5)]
    known.sort(key=lambda e: (e.at, e.row_id))
    reader.read(known)
    return reader.finish()


class _Reader:
    """Reads the events of one task in order."""

    def __init__(self, row: Row | None, rules: Rules) -> None:
        self.row, self.rules = row, rules
        self.attempts: list[Attempt] = []
        self.instants: list[tuple[str, datetime]] = []
        self.open: Attempt | None = None
        self.counted = False
        self.waiting = False
        self.requeued = False
        self.enqueue: datetime | None = None
        self.unstarted: tuple[int, str, datetime, str | None] | None = None
        self._had_start_event = False

    def read(self, events: list[Event]) -> None:
        created = [e.at for e in events if e.type == "created"]
        row = self.row
        submitted = (
            created[0] if created else (row.created if row and row.created else events[0].at if events else None)
        )
        self.submitted = submitted
        if submitted is not None:
            self.instants.append(("submitted", submitted))
        self.enqueue = row.queued if row and row.queued else submitted
        self.waiting = bool(created) or bool(row and row.created)
        rest, seen = [], set()
        for event in events:
            same = (event.type, event.at, event.worker)
            if same in seen:
                self.instants.append(("duplicate_event", event.at))
            elif event.type != "created":
                rest.append(event)
            seen.add(same)
        self._had_start_event = any(e.type in START for e in events)
        if row and row.started and not self._had_start_event:
            rest.append(Event(-1, "started", row.started, row.worker))
            rest.sort(key=lambda e: (e.at, e.row_id))
        while rest:
            instant = [e for e in rest if e.at == rest[0].at]
            rest = rest[len(instant) :]
            if self.open is not None:
                instant.sort(key=lambda e: e.type not in FINAL + RELEASING)
            else:
                instant.sort(key=lambda e: e.type in FINAL)
            for event in instant:
                self._take(event)

    def _matches(self, event: Event) -> bool:
        assert self.open is not None
        return event.worker is None or self.open.worker is None or event.worker == self.open.worker

    def _due(self, attempt: Attempt) -> datetime | None:
        """When the attempt times out, unless its worker stopped before (M-217)."""
        if self.rules.limit is None:
            return None
        due = attempt.start + self.rules.limit
        stop = self._stop(attempt)
        return due if stop is None or due <= stop[0] else None

    def _stop(self, attempt: Attempt) -> tuple[datetime, str] | None:
        """First idle sample or end of the worker (M-210 c, d)."""
        found = []
        worker = attempt.first_worker
        for at in self.rules.idle.get(worker or "", []):
            if at >= attempt.start + timedelta(seconds=1):
                found.append((at, "idle_snapshot"))
        begun = [life for life in self.rules.lives.get(worker or "", []) if life[0] <= attempt.start]
        if begun:
            end = max(begun)[1]
            if end is not None:
                found.append((max(end, attempt.start), "worker_end"))
        return min(found, default=None, key=lambda f: (f[0], f[1]))

    def _time_out(self, event: Event) -> None:
        """Close the open attempt if it ran into its limit before this event (M-217)."""
        attempt = self.open
        if attempt is None or attempt.partner is not None:
            return
        due = self._due(attempt)
        at_once = event.type in START or (event.type in RELEASING and self._matches(event))
        if due is not None and (event.at > due + timedelta(seconds=60) or (at_once and event.at > due)):
            self._close_by_timeout(attempt, due)

    def _close_by_timeout(self, attempt: Attempt, due: datetime) -> None:
        attempt.end, attempt.source = due, "derived_timeout"
        if self.counted:
            attempt.outcome = "lost"
        else:
            attempt.outcome, attempt.counted, attempt.observed = "timeout", True, True
            self.instants.append(("timeout", due))
        self.counted, self.open = True, None

    def _take(self, event: Event) -> None:
        was_open = self.open is not None
        self._time_out(event)
        if event.type in START:
            self._start(event, was_open)
        elif event.type in FINAL:
            self._final(event)
        elif event.type == "orphaned":
            if self.open is not None and self._matches(event):
                self._lose(event)
        elif event.type == "requeued":
            self._requeue(event)
        else:
            self.waiting = self.waiting or self.open is None
            if self.attempts:
                self.enqueue = event.at

    def _start(self, event: Event, was_open: bool) -> None:
        if self.open is not None and self._matches(event):
            self.open.worker = self.open.worker or event.worker
            return
        if self.attempts and not self.requeued:
            self.instants.append(("retried", event.at))
        attempt = Attempt(len(self.attempts) + 1, event.at, event.worker, self.enqueue, first_worker=event.worker)
        if self.unstarted and not was_open:
            number, kind, at, worker = self.unstarted
            if event.at - at <= self.rules.skew and (worker is None or event.worker is None or worker == event.worker):
                attempt.partner = (number, kind, at)
        self.attempts.append(attempt)
        self.open, self.counted, self.waiting, self.requeued = attempt, False, False, False
        self.enqueue, self.unstarted = None, None

    def _final(self, event: Event) -> None:
        if self.open is not None and self._matches(event):
            attempt = self.open
            attempt.end, attempt.source, attempt.own_end = event.at, "event", True
            if self.counted:
                attempt.outcome = "lost"
                self._late(event, attempt)
            else:
                attempt.outcome, attempt.counted, attempt.observed = event.type, True, True
                self.instants.append((event.type, event.at))
            self.open, self.counted, self.waiting, self.unstarted = None, True, False, None
        elif self.open is not None:
            named = [a for a in self.attempts if a.worker == event.worker]
            if self.counted or self.open.partner is not None or (named and named[-1].counted):
                self._late(event)
                return
            self.counted = True
            self.instants.append((event.type, event.at))
            if named:
                attempt = named[-1]
                attempt.outcome, attempt.counted = event.type, True
                if not attempt.own_end and attempt.source != "derived_timeout":
                    attempt.end, attempt.source, attempt.own_end = event.at, "event", True
        elif self.counted:
            self._late(event)
        else:
            self.counted, self.waiting = True, False
            self.unstarted = (event.row_id, event.type, event.at, event.worker)
            self.instants.append((event.type, event.at))

    def _late(self, event: Event, attempt: Attempt | None = None) -> None:
        self.instants.append(("late_event", event.at))
        named = [a for a in self.attempts if event.worker is not None and a.worker == event.worker]
        target = attempt or (named[-1] if named else self.attempts[-1] if self.attempts else None)
        if target is not None:
            target.late += 1

    def _lose(self, event: Event) -> None:
        assert self.open is not None
        self.open.end, self.open.source, self.open.own_end = event.at, "event", True
        if not self.open.counted:
            self.open.outcome = "lost"
        self.open, self.unstarted = None, None

    def _requeue(self, event: Event) -> None:
        if self.open is not None and self._matches(event):
            self._lose(event)
        elif self.waiting and self.open is None:
            self.instants.append(("duplicate_event", event.at))
            return
        self.instants.append(("retried", event.at))
        self.requeued, self.waiting, self.unstarted = True, self.open is None, None
        if self.attempts:
            self.enqueue = event.at

    def finish(self) -> Verdict:
        for attempt in self.attempts:
            if attempt.running:
                self._close_dangling(attempt)
        row = self.row
        counted = any(kind in FINAL for kind, _ in self.instants)
        if row and row.status in OUTCOME_OF_STATUS and not self.attempts and not counted:
            self.instants.append((OUTCOME_OF_STATUS[row.status], row.ended or row.updated or row.seen))
        return Verdict(self.attempts, self.instants)

    def _close_dangling(self, attempt: Attempt) -> None:
        last = attempt is self.attempts[-1]
        following = None if last else self.attempts[attempt.no]
        if attempt.partner is not None:
            _, kind, at = attempt.partner
            attempt.end, attempt.outcome, attempt.source = at, kind, "event"
            attempt.counted = attempt.reversed = True
            return
        row = self.row if last else None
        outcome = OUTCOME_OF_STATUS.get(row.status) if row else None
        by_row = self._row_end(attempt, row) if row and row.status not in ("running", "unknown") else None
        due = self._due(attempt)
        if due is not None and (not last or self.rules.now <= due):
            due = None
        if due is not None and outcome and by_row is not None and by_row <= due + timedelta(seconds=60):
            due = None
        if row and row.ended and outcome and due is None and not self._had_start_event:
            attempt.end, attempt.source, attempt.outcome, attempt.counted = row.ended, "task_row", outcome, True
            attempt.reversed = row.ended < attempt.start
            attempt.observed = not attempt.reversed
            self.instants.append((outcome, row.ended))
            return
        stop = self._stop(attempt)
        found = [(at, rank, how) for at, rank, how in (
            (by_row, 0, "task_row"), (due, 1, "derived_timeout"),
            (following.start if following else None, 2, "next_start"),
            (stop[0] if stop else None, 3, stop[1] if stop else ""),
        ) if at is not None]  # fmt: skip
        if not found:
            return
        attempt.end, _, attempt.source = min(found)
        attempt.outcome = "lost"
        if attempt.source == "derived_timeout" and not self.counted:
            attempt.outcome, attempt.counted, attempt.observed = "timeout", True, True
        elif attempt.source == "task_row" and outcome and not self.counted:
            attempt.outcome, attempt.counted = outcome, True
        if attempt.counted:
            self.instants.append((attempt.outcome, attempt.end))

    def _row_end(self, attempt: Attempt, row: Row) -> datetime | None:
        if not self._had_start_event and row.status in OUTCOME_OF_STATUS and row.ended:
            return row.ended
        for at in (row.ended, row.updated):
            if at is not None and at >= attempt.start:
                return at
        if row.status in OUTCOME_OF_STATUS:
            return max(attempt.start, row.seen)
        return row.seen if row.seen >= attempt.start else None


def wait_of(attempt: Attempt, rules: Rules) -> timedelta | None:
    """Queue wait of an attempt, if observed (M-214, M-215)."""
    if attempt.enqueued is None:
        return None
    wait = attempt.start - attempt.enqueued
    return wait if timedelta(0) <= wait <= rules.longest else None


def duration_of(attempt: Attempt, rules: Rules, outcomes: tuple[str, ...]) -> timedelta | None:
    """Duration of an attempt with one of the outcomes, if observed (M-213, M-215)."""
    if not attempt.observed or attempt.outcome not in outcomes or attempt.end is None:
        return None
    span = attempt.end - attempt.start
    return span if timedelta(0) <= span <= rules.longest else None


@dataclass(frozen=True)
class Worker:
    """Facts, samples, offline events and other evidence of one worker."""

    ready: datetime | None = None
    terminated: datetime | None = None
    samples: tuple[datetime, ...] = ()
    offline: tuple[datetime, ...] = ()
    starts: tuple[datetime, ...] = ()
    ends: tuple[datetime, ...] = ()


def online_of(
    worker: Worker, now: datetime, feed_last: datetime | None, tolerance: timedelta = timedelta(seconds=180)
) -> tuple[list[tuple[datetime, datetime | None]], datetime | None]:
    """Online stretches of a worker whose ready time is known, and its end (M-301, M-302, M-305)."""
    assert worker.ready is not None
    start = min([worker.ready, *worker.starts])
    evidence = sorted([*worker.samples, *worker.starts, *worker.ends])
    last = max([start, *evidence])
    final = [at for at in worker.offline if not any(e > at for e in evidence)]
    if worker.terminated is not None:
        end: datetime | None = max(worker.terminated, start)
    elif final and max(final) >= start:
        end = max(final)
    elif feed_last is not None and now - last > tolerance and feed_last - last > tolerance:
        end = last
    else:
        end = None
    cuts = []
    for at in sorted(worker.offline):
        following = [e for e in evidence if e > at]
        if at >= start and following and (end is None or following[0] <= end):
            cuts.append((at, following[0]))
    stretches, begin = [], start
    for cut, back in cuts:
        if cut > begin:
            stretches.append((begin, cut))
        begin = max(begin, back)
    if end is None or end > begin:
        stretches.append((begin, end))
    return stretches, end

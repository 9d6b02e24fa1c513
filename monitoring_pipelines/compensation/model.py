"""Words and values shared by planning, applying and undoing (R-1xx, R-305, R-410, R-411).

What belongs here: classes, outcomes, errors, plain records and the arithmetic of counters. What does not: SQL.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from monitoring_pipelines.errors import ProductError, Refused
from monitoring_pipelines.state.types import canonical_json

MODES = ("only_if_empty", "add_missing")

#: Class of a candidate (R-305), in the order shown.
CLASSES = (
    "eligible", "already_present", "no_remote_id", "remote_no_output", "remote_not_ready", "remote_failed",
    "remote_not_found", "auth_error", "transient_error", "validation_failed", "not_reached",
)  # fmt: skip
#: Outcome of an eligible item in a run (R-410).
ItemState = Literal["committed", "already_present", "failed", "not_reached", "pending"]
COMMITTED, ALREADY_PRESENT, FAILED, NOT_REACHED, PENDING = get_args(ItemState)
#: What a rollback did with a row (R-705).
RowOutcome = Literal["deleted", "modified_since", "already_absent", "blocked_by_reference"]
#: Stands in a plan for the instant of the insert (R-205).
APPLY_TIME = "(apply time)"
#: Plans that wait for somebody (S-331, R-901).
OPEN_PLAN_STATES = ("building", "ready", "approved")


class RepairRefused(Refused):
    """A safety rule forbids the step; ``code`` is the reason word (R-402), nothing was written."""

    def __init__(self, reason: str, message: str, hint: str | None = None, *, cause: str | None = None) -> None:
        super().__init__(message, hint, cause=cause)
        self.code = reason


class RepairLocked(ProductError):
    """Another run holds the lock of the source (R-403)."""

    exit_code = 4
    code = "locked"


class RemoteUnavailable(ProductError):
    """The result service did not answer usefully."""

    exit_code = 3
    code = "remote_unavailable"


@dataclass(frozen=True)
class PlanRequest:
    """What to plan. Either a window ``[window_from, window_to)`` in naive UTC, or ``task_ids`` (R-302, R-303)."""

    source_id: str
    window_from: datetime | None = None
    window_to: datetime | None = None
    task_ids: tuple[str, ...] | None = None
    max_tasks: int | None = None
    mode: str | None = None
    batch_size: int | None = None
    #: Ids of the recoverers to ask, in this order; None = all configured ones.
    recoverers: tuple[str, ...] | None = None
    alert_id: str | None = None


@dataclass(frozen=True)
class Task:
    """A task as recoverers and apply know it: keys as stored, times naive UTC."""

    task_key: str
    table: str
    status: str
    raw_status: str | None
    remote_id: str | None
    effective_end: datetime | None
    endpoint: str | None = None

    def snapshot(self) -> dict[str, Any]:
        """What is kept with the plan item and compared again before the insert (R-405)."""
        return {
            "table": self.table, "status": self.status, "raw_status": self.raw_status, "remote_id": self.remote_id,
            "effective_end": self.effective_end, "endpoint": self.endpoint,
        }  # fmt: skip


@dataclass(frozen=True)
class Recovered:
    """One output as a recoverer reports it. ``evidence`` says where it comes from; never a secret (R-103)."""

    uri: str
    media_type: str | None = None
    node_key: str | None = None
    size_bytes: int | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProposedRow:
    """One row to insert: unified values, and ``values`` by column of the output table."""

    natural_key: str
    node_key: str
    name: str
    uri: str
    media_type: str
    size_bytes: int | None
    values: Mapping[str, Any]
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The row as stored with the plan item."""
        return {
            "natural_key": self.natural_key, "node_key": self.node_key, "name": self.name, "uri": self.uri,
            "media_type": self.media_type, "size_bytes": self.size_bytes, "values": dict(self.values),
            "evidence": dict(self.evidence),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> ProposedRow:
        """The row out of a plan item."""
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})


@dataclass
class Item:
    """A candidate and its class (R-305)."""

    seq: int
    task: Task
    item_class: str
    reason: str | None = None
    remote_status: str | None = None
    remote_code: str | None = None
    tries: int = 0
    recoverer_id: str | None = None
    rows: tuple[ProposedRow, ...] = ()

    def record(self, plan_id: str) -> dict[str, Any]:
        """The row of ``repair_item``."""
        return {
            "plan_id": plan_id, "seq": self.seq, "task_key": self.task.task_key, "class": self.item_class,
            "reason": self.reason, "remote_status": self.remote_status, "remote_code": self.remote_code,
            "tries": self.tries, "recoverer_id": self.recoverer_id, "task": self.task.snapshot(),
            "rows": [row.as_dict() for row in self.rows], "run_state": PENDING, "run_reason": None,
        }  # fmt: skip


def sha256_of(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value``, hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


#: Columns of an item that the plan hash covers; what runs add later is not part of the plan (R-313).
HASHED_ITEM_COLUMNS = (
    "seq", "task_key", "class", "reason", "remote_status", "remote_code", "tries", "recoverer_id", "task", "rows",
)  # fmt: skip
HASHED_PLAN_COLUMNS = (
    "plan_id", "source_id", "mode", "window_from", "window_to", "task_ids", "max_tasks", "recoverers", "config_hash",
    "schema_fingerprint",
)  # fmt: skip


def plan_hash(plan: Mapping[str, Any], items: Iterable[Mapping[str, Any]]) -> str:
    """Hash over window, mode, configuration, fingerprint and every item in order (R-313).

    Args:
        plan: Row of ``repair_plan``.
        items: Rows of ``repair_item`` by ``seq``.
    """
    digest = hashlib.sha256(canonical_json({name: plan[name] for name in HASHED_PLAN_COLUMNS}).encode())
    for item in items:
        digest.update(b"\n" + canonical_json({name: item[name] for name in HASHED_ITEM_COLUMNS}).encode())
    return digest.hexdigest()


def plan_counters(items: Iterable[Item], remote_calls: int, duration_s: float) -> dict[str, Any]:
    """Counters of a plan (R-411); ``candidates`` is the sum of the classes by construction (R-305)."""
    classes: Counter[str] = Counter()
    rows = 0
    for item in items:
        classes[item.item_class] += 1
        rows += len(item.rows) if item.item_class == "eligible" else 0
    return {
        "candidates": sum(classes.values()),
        "classes": {name: classes[name] for name in CLASSES},
        "eligible": classes["eligible"],
        "rows_planned": rows,
        "remote_calls": remote_calls,
        "duration_s": round(duration_s, 3),
    }


@dataclass
class RunCounters:
    """Counters of an apply or resume run (R-410, R-411)."""

    eligible: int = 0
    rows_planned: int = 0
    tasks_committed: int = 0
    rows_inserted: int = 0
    rows_skipped_existing: int = 0
    rows_self_reverted: int = 0
    duplicates_reported: int = 0
    already_present: int = 0
    already_done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    not_reached: int = 0
    duration_s: float = 0.0
    waited_s: float = 0.0
    remote_calls: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Counters with the check of their invariant."""
        failed = sum(self.failed.values())
        done = self.tasks_committed + self.already_present + failed + self.not_reached
        return {
            "eligible": self.eligible, "rows_planned": self.rows_planned, "tasks_committed": self.tasks_committed,
            "rows_inserted": self.rows_inserted, "rows_skipped_existing": self.rows_skipped_existing,
            "rows_self_reverted": self.rows_self_reverted, "duplicates_reported": self.duplicates_reported,
            "already_present": self.already_present, "already_done": self.already_done, "failed": failed,
            "failed_by_reason": dict(self.failed), "not_reached": self.not_reached,
            "duration_s": round(self.duration_s, 3), "waited_s": round(self.waited_s, 3),
            "remote_calls": self.remote_calls, "adds_up": done == self.eligible,
        }  # fmt: skip

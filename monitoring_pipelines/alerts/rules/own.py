"""The product watching itself: heartbeats, reading, storage, clocks (C-501 to C-512).

What belongs here: conditions on the product's own marks. What does not: statistics that contradict themselves and
checks that failed (``own_results``).
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from monitoring_pipelines.alerts.rules.scope import Scope, SourceSeen, seconds, worst_level
from monitoring_pipelines.collect.own import SELF

if TYPE_CHECKING:
    import duckdb

#: A clock measured longer ago than this says nothing about now.
CLOCK_VALID_S = 900.0


@dataclass
class Own:
    """Heartbeats and source states are in the scope; nothing else is needed."""

    unused: dict[str, str] = field(default_factory=dict)

    def recall(self, con: Connection, scope: Scope) -> None:
        """Heartbeats are in the scope."""

    def look(self, con: duckdb.DuckDBPyConnection, scope: Scope) -> None:
        """Source states are in the scope."""

    def judge(self, scope: Scope) -> None:
        """Components, sources, storage."""
        judge_heartbeats(scope)
        for source in scope.settings.enabled_sources:
            seen = scope.sources.get(source.id)
            if seen is not None:
                _judge_lag(scope, seen)
                _judge_drift(scope, seen)
                _judge_clock(scope, seen)
        _judge_storage(scope)


def judge_heartbeats(scope: Scope) -> None:
    """C-501: a component that has beaten once and was not heard of for more than two of its periods.

    Needs no warehouse, so that the API process can watch the Dagster side with it and the reverse.
    """
    rule = scope.rules["self.heartbeat"]
    periods = rule.levels[0].threshold or 0
    for beat in scope.beats.values():
        age = seconds(scope.now - beat.at)
        dead = age > periods * beat.period_s
        details = {"period_s": beat.period_s, "process": beat.process_id, "last_at": beat.at} if dead else None
        scope.say(
            rule.id, SELF, {"component": beat.component}, "true" if dead else "false", value=max(age, 0.0),
            threshold=periods * beat.period_s, details=details,
        )  # fmt: skip


def _judge_lag(scope: Scope, seen: SourceSeen) -> None:
    """C-502."""
    if seen.as_of is None:
        # Nothing was read yet: a first load takes its time, but one that failed is known to have failed.
        condition = "true" if seen.last_error else "insufficient_data"
        details = {"error": seen.last_error, "threshold": scope.extract_limit_s} if seen.last_error else None
        scope.say("self.extract_lag", seen.source_id, {}, condition, details=details)  # type: ignore[arg-type]
        return
    rule = scope.rules["self.extract_lag"]
    unit = scope.extract_limit_s / 3
    limit = (rule.levels[0].threshold or 0) * unit
    age = seconds(scope.now - seen.as_of)
    late = age > limit
    details = {"error": seen.last_error or "–", "as_of": seen.as_of} if late else None
    scope.say(
        rule.id, seen.source_id, {}, "true" if late else "false", value=max(age, 0.0), threshold=limit, details=details
    )


def _judge_drift(scope: Scope, seen: SourceSeen) -> None:
    """C-506: the last cycle failed because of the schema; a cycle that works clears it."""
    drifted = seen.last_error is not None and seen.last_error_code == "schema_drift"
    details = {"error": seen.last_error, "since": seen.last_error_at} if drifted else None
    scope.say("self.schema_drift", seen.source_id, {}, "true" if drifted else "false", details=details)


def _judge_clock(scope: Scope, seen: SourceSeen) -> None:
    """C-512: the offset the last extraction measured."""
    if seen.clock_offset_s is None or seen.clock_at is None:
        scope.say("self.clock", seen.source_id, {}, "not_applicable")
        return
    if abs(seconds(scope.now - seen.clock_at)) > CLOCK_VALID_S:
        scope.say("self.clock", seen.source_id, {}, "insufficient_data")
        return
    details = {"offset_s": seen.clock_offset_s, "measured_at": seen.clock_at}
    scope.judge("self.clock", seen.source_id, {}, abs(seen.clock_offset_s), details=details)


def _judge_storage(scope: Scope) -> None:
    """C-508: room on the data volume, and whether the product may write there."""
    path = scope.settings.data_path
    labels = {"volume": "data"}
    critical = scope.rules["self.storage"].levels[-1]
    if not path.exists():
        scope.say("self.storage", SELF, labels, "insufficient_data")
        return
    if not os.access(path, os.W_OK):
        details = {"path": str(path), "reason": scope.word("not writable", "不可写")}
        scope.say("self.storage", SELF, labels, "true", level=critical, details=details)
        return
    usage = shutil.disk_usage(path)
    free = Fraction(100 * usage.free, usage.used + usage.free)
    held = worst_level(scope.rules["self.storage"], free)
    room = f"{float(free):.1f} %, {usage.free:,} bytes"
    details = {"path": str(path), "reason": scope.word(f"free: {room}", f"剩余空间 {room}")}
    scope.say(
        "self.storage", SELF, labels, "true" if held else "false", level=held, value=free,
        details=details if held else None,
    )  # fmt: skip

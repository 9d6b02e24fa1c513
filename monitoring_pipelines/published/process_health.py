"""How a process is: from its newest sample, the target it is read from and the thresholds of the rules (C-480, C-484, S-817).

What belongs here: one word for a process and what it follows from. What does not: samples (``processes``) and alerts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.severity import rank

if TYPE_CHECKING:
    from monitoring_pipelines.collect.health import Health
    from monitoring_pipelines.config.schema import Settings

#: Figure of a sample → rule whose thresholds judge it (C-452).
RULES = {"rss_bytes": "resource.memory", "conns": "resource.connections", "fd_usage_pct": "resource.fds"}


@dataclass(frozen=True)
class ProcessHealth:
    """``state`` is the worst of its parts; ``because``: those that are not healthy (``sample``, a figure, or ``target``)."""

    state: Health
    because: tuple[str, ...] = ()


def level_of(levels: Sequence[Mapping[str, Any]], value: Any) -> str | None:
    """Severity of the worst level whose threshold the value reaches; None for none, and where it is not measured."""
    if value is None:
        return None
    from monitoring_pipelines.alerts.rules.scope import COMPARE

    reached = [level["severity"] for level in levels if COMPARE[level["op"]](value, level["threshold"])]
    return max(reached, key=rank, default=None)


def health_of(
    row: Mapping[str, Any], settings: Settings, limits: Mapping[str, Sequence[Mapping[str, Any]]],
    targets: Sequence[Mapping[str, Any]], until: datetime | None, now: datetime,
) -> ProcessHealth:  # fmt: skip
    """The state of a process (C-484).

    Without a sample for two intervals and a second, or while nobody reads its source, it is unknown and its last figures say
    nothing (C-480); a target it is read from still does.

    Args:
        row: Its newest sample, with ``instants`` of the ones before it.
        settings: Intervals of collectors and extraction.
        limits: Levels of each rule, as ``processes.thresholds`` has them.
        targets: All targets with ``health_state``.
        until: When its source was read last, naive UTC.
        now: The present instant, naive UTC.
    """
    from monitoring_pipelines.alerts.rules.scope import collected_names, extract_limit_s, interval_s
    from monitoring_pipelines.collect.health import aggregate

    parts: dict[str, Health] = {"sample": "healthy"}
    every = interval_s(collected_names(settings), row["source_id"], row["process_id"], row.get("instants") or ())
    limit = 2 * every + 1
    if (
        until is None
        or (now - until).total_seconds() > extract_limit_s(settings)
        or (until - row["at"]).total_seconds() > limit
    ):
        parts["sample"] = "unknown"
    else:
        for name, rule in RULES.items():
            level = level_of(limits.get(rule, ()), row[name])
            if level is not None:
                parts[name] = "unhealthy" if rank(level) >= rank("high") else "degraded"
    names = {row["process_id"]} | {
        one.target for one in settings.scrapes if (one.source, one.process_id) == (row["source_id"], row["process_id"])
    }
    read_from = [
        one["health_state"] for one in targets
        if one["source_id"] == row["source_id"] and one["target"] in names and one["retired_at"] is None
    ]  # fmt: skip
    if read_from:
        parts["target"] = aggregate(read_from)
    return ProcessHealth(aggregate(parts.values()), tuple(name for name, state in parts.items() if state != "healthy"))

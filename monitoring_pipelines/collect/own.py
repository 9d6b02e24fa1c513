"""Samples of the product's own processes and of their host, as source ``_self``.

What belongs here: finding the processes and naming them. What does not: the figures (``process_figures``).
Short-lived runs are left out: their figures would be a new process every minute.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.collect.answers import Row
from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.process_figures import ask, host_figures, process_figures, python_figures

if TYPE_CHECKING:
    import psutil

SELF = "_self"
HOST = "host"
#: Words of a command line, all of which must occur, and the name of the process in the statistics.
_NAMES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("dagster._daemon",), "dagster-daemon"),
    (("dagster-daemon",), "dagster-daemon"),
    (("dagster_webserver",), "dagster-webserver"),
    (("dagster-webserver",), "dagster-webserver"),
    (("dagster", "code-server"), "code-server"),
    (("dagster", "api", "grpc"), "code-location"),
    (("serve",), "api"),
    (("up",), "supervisor"),
    (("demo",), "supervisor"),
)
#: Figures a host does not have.
_OF_A_PROCESS = (
    "rss_bytes", "vms_bytes", "objects", "fds", "fds_max", "conns", "tcp_by_state", "threads", "gc_collections",
)  # fmt: skip
_OURS = ("monitoring_pipelines", "monitoring-pipelines", "/mp", "dagster")


class OwnProcesses:
    """Takes samples of the processes this one belongs to; remembers CPU times between two samples."""

    def __init__(self) -> None:
        self._cpu: dict[tuple[int, float], tuple[float, float]] = {}
        self._host_measured = False

    def rows(self, at: datetime) -> list[Row]:
        """One ``process_sample`` per process found, and one of the host (scope ``host``)."""
        host = host_figures()
        rows = []
        seen: dict[tuple[int, float], tuple[float, float]] = {}
        for name, process in _named(_family()):
            values = self._sample(process, host, seen)
            if values is not None:
                values |= {"process_id": name, "at": at, "scope": "process"}
                rows.append(Row(SELF, "process_sample", name, at, values))
        self._cpu = seen
        rows.append(Row(SELF, "process_sample", HOST, at, self._host(host, at)))
        return rows

    def _host(self, figures: dict[str, Any], at: datetime) -> dict[str, Any]:
        """The whole machine: CPU since the last call (unknown at the first), memory."""
        import psutil

        busy = ask(lambda: psutil.cpu_percent(interval=None))
        values: dict[str, Any] = dict.fromkeys(_OF_A_PROCESS) | figures
        values |= {
            "process_id": HOST,
            "at": at,
            "scope": "host",
            "cpu_pct": busy if self._host_measured else None,
            "mem_pct": ask(lambda: psutil.virtual_memory().percent),
            "uptime_s": ask(lambda: round(time.time() - psutil.boot_time(), 3)),
        }
        self._host_measured = True
        return values

    def _sample(
        self, process: psutil.Process, host: dict[str, Any], seen: dict[tuple[int, float], tuple[float, float]]
    ) -> dict[str, Any] | None:
        """Figures of one process, None if it has ended meanwhile."""
        try:
            figures = process_figures(process.pid)
        except UsageError:
            return None
        born = ask(process.create_time)
        seconds = figures.pop("cpu_seconds")
        if seconds is not None and born is not None:
            seen[process.pid, born] = (seconds, time.perf_counter())
        figures["cpu_pct"] = _share(self._cpu.get((process.pid, born or 0.0)), seen.get((process.pid, born or 0.0)))
        return {**figures, **host, **(python_figures() if process.pid == os.getpid() else {})}


def _share(before: tuple[float, float] | None, now: tuple[float, float] | None) -> float | None:
    """Percent of one core between two (CPU seconds, instant); None the first time."""
    if before is None or now is None or now[1] <= before[1]:
        return None
    return round(100 * (now[0] - before[0]) / (now[1] - before[1]), 2)


def _family() -> list[psutil.Process]:
    """This process and those started by the same ``mp up`` (or service): its outermost ancestor of the product, down."""
    import psutil

    me = psutil.Process()
    root = me
    for ancestor in ask(me.parents) or ():
        words = ask(ancestor.cmdline) or ()
        if any(mark in word for word in words[:4] for mark in _OURS):
            root = ancestor
    found = [root, *(ask(lambda: root.children(recursive=True)) or ())]
    return found if me in found else [me, *found]


def _named(processes: list[psutil.Process]) -> Iterator[tuple[str, psutil.Process]]:
    """(name, process) of those worth a series of their own; the second of a name gets a number."""
    used: dict[str, int] = {}
    for process in sorted(processes, key=lambda p: p.pid):
        words = ask(process.cmdline) or []
        if "execute_run" in words or "execute_step" in words:
            continue
        text = " ".join(words)
        name = next((name for marks, name in _NAMES if all(m in words or m in text.split("/") for m in marks)), None)
        if name is None and process.pid == os.getpid():
            name = "collector"
        if name is None:
            continue
        used[name] = used.get(name, 0) + 1
        yield (name if used[name] == 1 else f"{name}-{used[name]}"), process

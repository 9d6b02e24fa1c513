"""What a process and its host use, as columns of ``process_sample`` (E-122, E-123).

What belongs here: asking the operating system. What does not: who is asked about, and where the answers are stored
(``client``, ``collect.own``). A figure that cannot be measured is None, never 0 and never the host's number.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.errors import UsageError

if TYPE_CHECKING:
    import psutil

# Linux, include/net/tcp_states.h
_TCP_STATES = {
    1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT", 7: "CLOSE",
    8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING", 12: "NEW_SYN_RECV",
}  # fmt: skip
_CGROUP = Path("/sys/fs/cgroup")


def process_figures(pid: int) -> dict[str, Any]:
    """Figures of one process; each is None where the system does not tell it.

    Besides columns of the entity the result has ``cpu_seconds``: user and system time since the process began.

    Raises:
        UsageError: There is no such process.
    """
    import psutil

    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess as error:
        raise UsageError(f"there is no process {pid}") from error
    connections = ask(lambda: process.net_connections("tcp"))
    states = None if connections is None else dict(Counter(c.status for c in connections))
    memory = ask(process.memory_info)
    times = ask(process.cpu_times)
    return {
        "rss_bytes": memory and memory.rss,
        "vms_bytes": memory and memory.vms,
        "mem_pct": ask(process.memory_percent),
        "cpu_seconds": times and times.user + times.system,
        "fds": ask(process.num_fds),
        "fds_max": ask(lambda: _open_files_limit(process, pid)),
        # Listening sockets are no connections; sockets without an owner are not the process's (E-123).
        "conns": None if states is None else sum(n for state, n in states.items() if state != psutil.CONN_LISTEN),
        "tcp_by_state": states,
        "threads": ask(process.num_threads),
        "uptime_s": ask(lambda: round(time.time() - process.create_time(), 3)),
        "objects": None,
        "gc_collections": None,
    }


def host_figures() -> dict[str, Any]:
    """Cores this process may use, load, free memory and sockets of the host's network namespace."""
    import psutil

    load = ask(os.getloadavg)
    return {
        "effective_cores": ask(effective_cores),
        "load1": load and load[0],
        "load5": load and load[1],
        "host_mem_available_bytes": ask(lambda: psutil.virtual_memory().available),
        "host_tcp_by_state": ask(_host_tcp_states) if sys.platform == "linux" else None,
    }


def python_figures() -> dict[str, int]:
    """Objects and collections of this process's interpreter."""
    return {
        "objects": len(gc.get_objects()) + gc.get_freeze_count(),
        "gc_collections": sum(generation["collections"] for generation in gc.get_stats()),
    }


def ask(question: Callable[[], Any]) -> Any:
    """The answer, or None where the system refuses or does not know (E-123)."""
    import psutil

    try:
        return question()
    except (psutil.Error, OSError, AttributeError, NotImplementedError):
        return None


def effective_cores(root: Path = _CGROUP, membership: Path = Path("/proc/self/cgroup")) -> float:
    """Cores this process may use: its affinity, or less by the quota of a control group it is in.

    Args:
        root: Where control groups are mounted.
        membership: The file that names the process's groups.
    """
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return min([cores, *_quotas(root, membership)])


def _quotas(root: Path, membership: Path) -> list[float]:
    """Core quotas of the process's control groups and all groups around them, versions 1 and 2."""
    folders = {root, root / "cpu"}
    for line in membership.read_text().splitlines() if membership.exists() else ():
        _, controllers, group = line.split(":", 2)
        base = root if not controllers else root / "cpu" if "cpu" in controllers.split(",") else None
        while base is not None and group not in ("", "/"):
            folders.add(base / group.lstrip("/"))
            group = group.rpartition("/")[0]
    found = []
    for folder in folders:
        text = _read(folder / "cpu.max")
        if text is None:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
            text = f"{quota} {period}" if quota and period and not quota.startswith("-") else "max"
        if not text.startswith("max"):
            limit, period = text.split()
            found.append(int(limit) / int(period))
    return found


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _open_files_limit(process: psutil.Process, pid: int) -> int | None:
    """Soft limit of open files; None when there is none."""
    soft = process.rlimit(resource.RLIMIT_NOFILE)[0] if sys.platform == "linux" else None
    if soft is None and pid == os.getpid():
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft in (None, resource.RLIM_INFINITY) else soft


def _host_tcp_states() -> dict[str, int]:
    """Sockets of the host's network namespace by state, those without an owning process included."""
    counts: Counter[str] = Counter()
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        path = Path(name)
        if path.exists():
            lines = path.read_text().splitlines()[1:]
            counts.update(_TCP_STATES.get(int(line.split()[3], 16), "UNKNOWN") for line in lines)
    return dict(counts)

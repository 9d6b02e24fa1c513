"""Measuring one contestant in a process of its own, and printing the comparison.

What belongs here: child processes, peak memory, medians, the table. What does not: what is measured.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Sample:
    """One run: wall and CPU seconds of the measured part, peak resident memory of the process in MB (10^6 bytes)."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    value: Any


def measure(work: Callable[[], Any], check: Callable[[Any], Any] = lambda value: value) -> None:
    """In the child: run ``work`` and print the sample as the last line of stdout.

    Args:
        work: The measured part.
        check: Turns its result into the sample's value (JSON); neither its time nor its memory is measured.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    print(json.dumps([wall, cpu, peak, check(result)]))


def in_child(module: str, arguments: Sequence[str], env: dict[str, str] | None = None) -> Sample:
    """Run ``python -m module arguments`` and return what its ``measure`` printed.

    Raises:
        RuntimeError: The child failed; its error output is the message.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    wall, cpu, peak, value = json.loads(done.stdout.strip().splitlines()[-1])
    return Sample(wall, cpu, peak, value)


def median(samples: Sequence[Sample], what: str) -> float:
    """Median of one figure of several samples."""
    return statistics.median(getattr(sample, what) for sample in samples)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def machine() -> str:
    """Processor count, system and Python, for the head of a report."""
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


@contextmanager
def test_server(dsn: str | None) -> Any:
    """A database on a fresh MariaDB server, or on the server of ``dsn``; yields the test helper's database."""
    from monitoring_pipelines_tests.support.mysql_server import TestDatabase, TestServer

    server = TestServer.from_dsn(dsn) if dsn else TestServer.start()
    try:
        database = TestDatabase(server).create()
        try:
            yield database
        finally:
            database.drop()
    finally:
        server.stop()

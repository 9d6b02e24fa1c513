"""Telling how far a long read is: rows, rows per second, time left.

What belongs here: counting and wording, for logs and for the command line's live line.
What does not: drawing (``cli`` does, through ``Progress.listen``) and deciding what is read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from monitoring_pipelines.readable import span

Listener = Callable[["Progress"], None]


@dataclass
class Progress:
    """One long piece of work.

    Args:
        label: What is being done, e.g. ``reconcile shop.tasks 2026-02-01``.
        total: Expected number of rows; None when unknown, 0 when there are none.
        log: Where lines go; None: only ``listen`` is served.
        every_s: Least seconds between two log lines.
    """

    label: str
    total: int | None = None
    log: logging.Logger | None = None
    every_s: float = 10.0
    listen: Listener | None = None
    rows: int = 0
    started: float = field(default_factory=time.perf_counter)
    _told: float = field(default_factory=time.perf_counter)

    def add(self, rows: int) -> None:
        """Count ``rows`` more rows, and say so when it is time."""
        self.rows += rows
        if self.listen is not None:
            self.listen(self)
        now = time.perf_counter()
        if self.log is not None and now - self._told >= self.every_s:
            self._told = now
            self.log.info("%s", self)

    @property
    def seconds(self) -> float:
        """Seconds since the work began."""
        return max(time.perf_counter() - self.started, 1e-9)

    @property
    def rows_per_s(self) -> float:
        """Average speed so far."""
        return self.rows / self.seconds

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the average speed; None while nothing can be said."""
        if self.total is None or not self.rows:
            return None
        return max(self.total - self.rows, 0) / self.rows_per_s

    def __str__(self) -> str:
        of = f" of {self.total:,}" if self.total is not None else ""
        left = f", {_duration(self.eta_s)} left" if self.eta_s is not None else ""
        return f"{self.label}: {self.rows:,}{of} rows, {self.rows_per_s:,.0f} rows/s{left}"

    def finish(self) -> None:
        """Tell the end state once."""
        if self.listen is not None:
            self.listen(self)
        if self.log is not None:
            self.log.info(
                "%s: done, %s rows in %s, %s rows/s",
                self.label, f"{self.rows:,}", _duration(self.seconds), f"{self.rows_per_s:,.0f}",
            )  # fmt: skip


def _duration(seconds: float) -> str:
    return span(round(seconds, 1) if seconds < 10 else round(seconds), "en")

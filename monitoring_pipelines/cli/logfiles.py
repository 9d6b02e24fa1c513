"""Log files of the running product: ``logs/monitoring.log`` and ``logs/scheduler.log`` (S-502).

What belongs here: which line goes into which file, rotation. What does not: terminals (``output``), files of check runs
(``quality.files``). One process writes a file: under ``mp up`` it is the supervisor, for all processes it started.
"""

from __future__ import annotations

import logging
import os
import re
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

from monitoring_pipelines.config.secrets import mask

SERVICE, SCHEDULER = "monitoring.log", "scheduler.log"
MOST_BYTES, MOST_FILES = 20_000_000, 10
#: Set for processes whose output the supervisor writes down.
SUPERVISED = "MP_SUPERVISED"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: Names of supervised processes that belong to Dagster.
_OF_DAGSTER = ("code", "webserver", "daemon")


class LogFiles:
    """Takes the lines of supervised processes, each beginning with ``name | ``, and those of the supervisor itself.

    Args:
        folder: ``paths.logs``; created when missing (S-506).
    """

    def __init__(self, folder: Path) -> None:
        self._files = {name: handler(folder, name) for name in (SERVICE, SCHEDULER)}

    def write(self, line: str) -> None:
        """Put one line into its file; a disk that takes no more must not end the product."""
        name = line.partition("|")[0].strip()
        file = self._files[SCHEDULER if name in _OF_DAGSTER else SERVICE]
        file.handle(logging.LogRecord("mp", logging.INFO, "", 0, _COLOUR.sub("", line), None, None))

    def close(self) -> None:
        """Close both."""
        for file in self._files.values():
            file.close()


def handler(folder: Path, name: str, text: str = "%(message)s") -> RotatingFileHandler:
    """A rotating file for log records, with UTC time and without secrets (E-006)."""
    folder.mkdir(parents=True, exist_ok=True)
    made = RotatingFileHandler(folder / name, maxBytes=MOST_BYTES, backupCount=MOST_FILES, encoding="utf-8", delay=True)
    formatter = _Masked(f"%(asctime)sZ {text}", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    made.setFormatter(formatter)
    made.handleError = lambda record: None  # type: ignore[method-assign]
    return made


def add_service_log(folder: Path) -> None:
    """Let this process write its log lines to ``monitoring.log`` too, unless a supervisor does it."""
    if SUPERVISED not in os.environ:
        logging.getLogger().addHandler(handler(folder, SERVICE, "%(levelname)s %(name)s: %(message)s"))


class _Masked(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))

"""Fixtures of the extraction tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from monitoring_pipelines_tests.source.tail_bench import EVENT, TASK, WORKER, Bench
from monitoring_pipelines_tests.support.mysql_server import TestDatabase
from monitoring_pipelines_tests.support.source_tables import VARIABLE


@pytest.fixture
def tail(tmp_path: Path, mariadb_db: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    """Make the small platform: ``tail(more="where: flag = 1")`` adds lines to the task block."""
    monkeypatch.setenv(VARIABLE, mariadb_db.dsn)

    def make(more: str = "", *, workers: bool = False, head: str = "", extra: str = "", tables: str = "") -> Bench:
        blocks = tables or TASK.format(more=more) + EVENT + (WORKER if workers else "")
        return Bench(tmp_path, mariadb_db, blocks, head=head, extra=extra)

    return make

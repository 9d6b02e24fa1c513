"""The Dagster home before anything runs on it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from monitoring_pipelines.cli.up import prepare_storage
from monitoring_pipelines.errors import ProductError

ROOT = Path(__file__).parents[2]
OPEN = "from dagster import DagsterInstance\nwith DagsterInstance.get() as instance: print(len(instance.get_runs()))"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    shutil.copy(ROOT / "dagster.yaml", path)
    return path


def test_processes_that_start_together_find_one_schema(home: Path):
    """Without preparing it, the first start of daemon and web server could leave a home that neither can open."""
    prepare_storage(home)
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    started = [
        subprocess.Popen([sys.executable, "-c", OPEN], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=120)[0].strip() for process in started] == ["0", "0", "0"]
    before = (home / "history" / "runs.db").stat().st_mtime_ns
    prepare_storage(home)
    assert (home / "history" / "runs.db").stat().st_mtime_ns == before, "a prepared home is left alone"


def test_a_home_that_cannot_be_used_is_an_error_with_its_cause(home: Path):
    (home / "history").mkdir()
    (home / "history" / "runs.db").write_bytes(b"not a database, but long enough to be taken for one" * 40)
    with pytest.raises(ProductError, match="cannot use its home") as caught:
        prepare_storage(home)
    assert "not a database" in caught.value.cause

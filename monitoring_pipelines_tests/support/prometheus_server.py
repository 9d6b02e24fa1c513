"""Prometheus and Alertmanager of the distribution on loopback ports, started and ended.

What belongs here: the processes. What does not: configurations and expectations.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from monitoring_pipelines_tests.support.mysql_server import free_port


@contextmanager
def prometheus(folder: Path, config: Path) -> Iterator[str]:
    """``host:port`` of a Prometheus that reads ``config`` and repeats an alert after a second."""
    options = (
        f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}", "--rules.alert.resend-delay=1s",
    )  # fmt: skip
    with _served(folder, ("prometheus",), *options) as address:
        yield address


@contextmanager
def alertmanager(folder: Path, config: Path) -> Iterator[str]:
    """``host:port`` of an Alertmanager that reads ``config`` and has no peers."""
    names = ("prometheus-alertmanager", "alertmanager")
    options = (f"--config.file={config}", f"--storage.path={folder / 'alertmanager'}", "--cluster.listen-address=")
    with _served(folder, names, *options) as address:
        yield address


@contextmanager
def _served(folder: Path, names: tuple[str, ...], *options: str) -> Iterator[str]:
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        if os.environ.get("ALLOW_SKIP") == "1":
            pytest.skip(f"{names[0]} is not installed")
        pytest.fail(f"{names[0]} is missing: run scripts/install_test_tools.sh", pytrace=False)
    address, said = f"127.0.0.1:{free_port()}", folder / f"{names[0]}.log"
    with said.open("w") as log:
        process = subprocess.Popen([path, *options, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not _ready(address):
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def _ready(address: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{address}/-/ready", timeout=2).close()
    except OSError:
        return False
    return True

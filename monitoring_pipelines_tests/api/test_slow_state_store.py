"""Scrapes of a state store that takes longer than they wait, and of a machine that gives no thread."""

from __future__ import annotations

import threading
import time
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitoring_pipelines.api.routes.metrics import collector_of
from monitoring_pipelines.api.services import Services
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.metrics import collector, from_state
from monitoring_pipelines.metrics.patience import Patience
from monitoring_pipelines.state import heartbeats
from monitoring_pipelines.state.store import StateUnavailable

from .conftest import NOW, make_settings


def test_a_store_that_is_always_slower_than_a_scrape_waits_is_shown_late_and_not_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = Services.of(make_settings(tmp_path, monkeypatch, {}), FixedClock(NOW))
    whole, read = from_state.collect, threading.Event()

    def slow(*given: Any) -> Any:
        found = whole(*given)
        time.sleep(0.6)
        read.set()
        return found

    def scrape() -> str:
        return collector_of(services).everything_text().whole().decode()

    def beat(n: int) -> str:
        """A commit, which makes the next scrape read anew; and its line."""
        at = NOW + timedelta(seconds=n)
        with services.state.begin() as con:
            heartbeats.beat(con, "extract", 60.0, at)
        return f'mp_component_heartbeat_timestamp_seconds{{component="extract"}} {at.replace(tzinfo=UTC).timestamp():.0f}\n'

    first = beat(0)
    assert first in scrape()
    monkeypatch.setattr(from_state, "collect", slow)
    monkeypatch.setattr(collector, "WAIT_S", 0.3)
    second = beat(1)
    assert first in scrape()
    assert read.wait(60)
    time.sleep(0.2)
    beat(2)
    late = scrape()
    assert second in late
    assert "mp_state_store_up 0\n" in late
    services.close()


def test_a_machine_that_gave_no_thread_once_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    patience = Patience("a test")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(StateUnavailable, match="no thread"):
            patience.run(lambda: 1)
    assert patience.run(lambda: 2, 0.5) == 2

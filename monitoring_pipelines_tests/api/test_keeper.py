"""The thread that reads new versions ahead outlives every error, also one at its very first look."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from monitoring_pipelines.api import keeper


def test_reading_ahead_goes_on_after_errors_and_reads_each_version_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([OSError("the folder is not there yet"), 1, 1, OSError("unplugged"), 2, 2, 3])
    read, done = [], threading.Event()

    def prepare(_services: object) -> None:
        read.append(published.newest)
        if published.newest == 2:
            raise ZeroDivisionError
        if published.newest == 3:
            done.set()

    class Published:
        newest = 0

        def lake(self) -> SimpleNamespace:
            look = next(looks, 3)
            if isinstance(look, OSError):
                raise look
            self.newest = look
            return SimpleNamespace(version=look)

    published = Published()
    monkeypatch.setattr(keeper, "PERIOD_S", 0.01)
    monkeypatch.setattr(keeper, "prepare", prepare)
    monkeypatch.setattr(keeper, "go_on", lambda *_: None)
    with keeper.keeping(SimpleNamespace(published=published)):  # type: ignore[arg-type]
        assert done.wait(30)
    assert read == [1, 2, 3]

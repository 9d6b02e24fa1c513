"""What the services of an application remember, and for how long."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import delete, insert

from monitoring_pipelines.api.services import Services
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.state import StateStore, tables
from monitoring_pipelines_tests.api.conftest import NOW, make_settings


def test_what_was_asked_of_the_state_store_is_asked_again_after_every_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits of this process and of others; without one nothing is read."""
    settings = make_settings(tmp_path, monkeypatch, {})
    services = Services.of(settings, FixedClock(NOW))
    other = StateStore.of(settings)
    setting = tables.setting
    asked = 0

    def names() -> list[str]:
        nonlocal asked
        asked += 1
        with services.state.read() as con:
            return list(con.execute(setting.select().order_by(setting.c.name)).scalars())

    def now(*more: int) -> list[str]:
        return services.of_state(("names",), names, *more)

    before = now()
    assert (now(), asked) == (before, 1)
    for number, store in enumerate((other, services.state)):
        name = f"x{number}"
        with store.begin() as con:
            con.execute(insert(setting).values(name=name, value=1, updated_at=NOW, updated_by=None))
        assert name in now()
        assert asked == number + 2
    assert now(7) == now(7)
    assert asked == 4, "something else it depends on has changed, once"
    with other.begin() as con:
        con.execute(delete(setting).where(setting.c.name.in_(("x0", "x1"))))
    assert now(7) == before
    services.close()
    other.dispose()


def test_a_server_may_open_as_many_files_as_it_needs_or_the_system_allows() -> None:
    program = (
        "import resource as r\n"
        "from monitoring_pipelines.cli.serve import allow_files\n"
        "most = r.getrlimit(r.RLIMIT_NOFILE)[1]\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (200, most))\n"
        "allow_files()\n"
        "print(r.getrlimit(r.RLIMIT_NOFILE) == (4096 if most == r.RLIM_INFINITY else min(4096, most), most))\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (200, 300))\n"
        "allow_files()\n"
        "print(r.getrlimit(r.RLIMIT_NOFILE))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["True", "(300, 300)"]

"""kill -9 between any two statements: no alert is lost, nothing is repeated early, nothing is told twice but by a crash
between a post and its commit (A-403, A-302)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from sqlalchemy import event

from monitoring_pipelines.state import tables
from monitoring_pipelines_tests.alerts.conftest import T0


class Killed(BaseException):
    """Stands for the end of the process: nothing in the product may catch it."""


def scenario(world) -> None:
    """A rise, an inhibited child, a check with a resolution: many kinds of statements in a few ticks."""
    world.says(severity="high")
    world.says("broker", alertname="BrokerDown", service="broker", labels={"target": "nats"})
    world.says("ingest.none", labels={"process": "p"}, service="collector")


#: Every seventh statement is enough in a test; over many changes of the code all are met.
PARTS = 4
STEPS = ((20, "rise"), (50, "end"), (130, None))
REPEAT_S = 60


def play(world, kill_at: int | None) -> int:
    """Run the scenario; at statement ``kill_at`` the process dies, and goes on a second later. Returns statements."""
    count = 0

    def before(*_):
        nonlocal count
        count += 1
        if count == kill_at:
            raise Killed

    engine = world.state.engine()
    scenario(world)
    event.listen(engine, "before_cursor_execute", before)
    try:
        for until, what in STEPS:
            while True:
                try:
                    world.run(until)
                    break
                except Killed:
                    engine.dispose()
            if what == "rise":
                world.says(severity="critical")
            if what == "end":
                world.says("broker", "false", alertname="BrokerDown", service="broker", labels={"target": "nats"})
    finally:
        event.remove(engine, "before_cursor_execute", before)
    return count


def story(world) -> list[tuple[str, float]]:
    return [(title, at) for at, title in world.sent]


@pytest.fixture(scope="module")
def known() -> dict[str, object]:
    return {}


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_any_statement_the_same_messages_arrive_and_none_early(tmp_path, known, part):
    from monitoring_pipelines.clock import FixedClock
    from monitoring_pipelines.state import StateStore
    from monitoring_pipelines_tests.alerts.conftest import World
    from monitoring_pipelines_tests.support.receiver import Receiver

    def run(name: str, kill_at: int | None):
        clock = FixedClock(T0)
        root = tmp_path / name
        root.mkdir()
        with Receiver(clock) as ops:
            (root / "ops.url").write_text(ops.url)
            (root / "ops.secret").write_text("SECexample0815")
            state = StateStore(f"sqlite:///{root}/state.sqlite3")
            event.listen(state.engine(), "connect", lambda con, _: con.execute("PRAGMA synchronous = OFF"))
            state.engine().dispose()
            world = World(root, clock, ops, {"critical_repeat": str(REPEAT_S)}, state)
            count = play(world, kill_at)
            left = {
                n["state"] for n in world.rows(tables.notification)
                if n["lease_until"] is None or n["lease_until"] <= clock.now()  # killed just now: its lease will end
            }  # fmt: skip
            alerts = sorted((a["type"], a["state"], a["severity"]) for a in world.alerts())
            state.dispose()
            return count, story(world), left, alerts

    if "plain" not in known:
        known["plain"] = run("plain", None)
    total, expected, _, alerts = known["plain"]
    for kill_at in range(1 + part * 7, total + 1, PARTS * 7):
        _, told, left, found = run(f"kill{kill_at}", kill_at)
        assert found == alerts, kill_at
        assert left <= {"sent", "suppressed"}, kill_at
        assert_same_story(told, expected, kill_at)


def assert_same_story(told, expected, kill_at) -> None:
    """Each expected message arrives, at its instant or late (the lease of a dead process has to end first)."""
    rest = list(told)
    for title, at in expected:
        found = next((one for one in rest if one[0] == title and one[1] >= at), None)
        assert found is not None, f"killed at {kill_at}: {title} of {at} s is missing in {told}"
        rest.remove(found)
    assert len(rest) <= 1, f"killed at {kill_at}: more than one message came twice: {told}"
    repeats = [at for title, at in told if title == "[REPEAT] target.down (collector)"]
    raised = [at for title, at in told if title == "[FIRING] target.down (collector)"]
    assert all(at >= raised[-1] + REPEAT_S for at in repeats[:1] if len(raised) == 2), told


SCRIPT = """
import os, sys
sys.path.insert(0, {path!r})
from pathlib import Path
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.state import StateStore
from monitoring_pipelines_tests.alerts.conftest import T0, World
from monitoring_pipelines_tests.support.receiver import Receiver
from sqlalchemy import event
root = Path({root!r})
clock = FixedClock(T0)
world = World(root, clock, Receiver(clock), {{}}, StateStore(f"sqlite:///{{root}}/state.sqlite3"))
world.state.engine()
world.says()
count = 0
def before(*_):
    global count
    count += 1
    if count == {kill_at}:
        os.kill(os.getpid(), 9)
event.listen(world.state.engine(), "before_cursor_execute", before)
world.tick()
"""


@pytest.mark.parametrize("kill_at", [3, 12, 20, 24])
def test_really_killed_processes_leave_a_store_that_goes_on(world, kill_at):
    world.state.engine()
    _ = world.settings
    code = SCRIPT.format(path=os.getcwd(), root=str(world.root), kill_at=kill_at)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode in (-9, 0), done.stderr
    world.says()
    world.run(700)
    assert world.instants == [10, 630]

"""kill -9 to each process in turn: the others say so, nothing is lost, nothing is said twice or early."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from monitoring_pipelines.clock import SystemClock
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.state import StateStore, tables
from monitoring_pipelines_tests.dagster.live import LiveDagster, free_port, live_dagster
from monitoring_pipelines_tests.support.receiver import Receiver

#: Each wait ends as soon as what it waits for is there.
pytestmark = pytest.mark.timeout(1800)
CONFIG = """\
version: 1
language: en
alerts:
  tick_s: 8
  group_wait_s: 1
  routes: {{critical: {{channels: [ops], repeat_s: 36000}}, warning: {{channels: [ops], repeat_s: 36000}}}}
channels: [{{id: ops, type: webhook, webhook_file: ops.url}}]
rules: [{{id: target.down, for: 0s}}]
scrapes: [{{target: collector, url: "http://127.0.0.1:{port}/metrics", interval_s: 5}}]
"""


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"process_resident_memory_bytes 1e8\n"
        self.send_response(200 if self.server.is_well else 500)  # type: ignore[attr-defined]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def target() -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.is_well = True  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Story:
    """The running product, its state and what was heard of it."""

    def __init__(self, live: LiveDagster, config: Path, ops: Receiver) -> None:
        self.live, self.ops = live, ops
        #: Messages before the last kill.
        self.before = 0
        self.state = StateStore.of(load_settings(config))

    def rows(self, table: Any) -> list[dict[str, Any]]:
        with self.state.read() as con:
            return [dict(row) for row in con.execute(select(table)).mappings()]

    def beating(self) -> set[str]:
        return {row["component"] for row in self.rows(tables.component_heartbeat)}

    def kill(self, name: str) -> None:
        """kill -9; what is heard from now on counts."""
        self.before = len(self.ops.requests)
        self.live.kill(name)

    def heard(self, kind: str, name: str) -> bool:
        """Whether a message arrived since the last kill about an alert of a type or of a component."""
        return any(
            got.json["kind"] == kind and name in (alert["type"], alert["labels"].get("component"))
            for got in self.ops.requests[self.before :]
            for alert in got.json["alerts"]
        )

    def wait_heard(self, kind: str, *names: str) -> None:
        self.live.wait(f"{kind} {' or '.join(names)}", lambda: any(self.heard(kind, name) for name in names))

    def wait_well(self) -> None:
        """No component is missing any more, and everything that was due is sent."""

        def is_well() -> bool:
            firing = [a for a in self.rows(tables.alert) if a["open_fingerprint"] and a["type"] == "self.heartbeat"]
            waiting = [n for n in self.rows(tables.notification) if n["state"] in ("pending", "failed")]
            return not firing and not waiting

        self.live.wait("everything alive again", is_well)


@pytest.fixture
def story(tmp_path: Path, target: Any) -> Iterator[Story]:
    with Receiver(SystemClock()) as ops:
        config = tmp_path / "monitoring.yaml"
        config.write_text(CONFIG.format(port=target.server_port))
        (tmp_path / "ops.url").write_text(ops.url)
        with live_dagster(tmp_path / "home", config, None) as live:
            live.commands["api"] = [
                "-c", "from monitoring_pipelines.cli import main; main()", "--config", str(config), "serve", "--port", str(free_port()),
                "--dagster-url", live.url,
            ]  # fmt: skip
            live.start("api")
            yield Story(live, config, ops)


def test_each_process_killed_in_turn_is_told_by_the_others(story: Story, target: Any):
    live = story.live
    live.wait("all signs of life", lambda: {"evaluator", "dispatcher", "api"} <= story.beating())
    live.wait("first sample", lambda: story.rows(tables.expectation))

    story.kill("daemon")
    target.is_well = False  # nobody can see this while the daemon is dead
    story.wait_heard("firing", "evaluator")
    live.start("daemon")
    story.wait_heard("firing", "target.down")
    story.wait_heard("resolved", "evaluator")
    story.wait_well()

    story.kill("code")
    story.wait_heard("firing", "dagster.code_location.monitoring_pipelines", "evaluator")
    live.start("code")
    story.wait_heard("resolved", "dagster.code_location.monitoring_pipelines", "evaluator")
    story.wait_well()

    story.kill("webserver")
    story.wait_heard("firing", "dagster.webserver.dagster")
    live.start("webserver")
    story.wait_heard("resolved", "dagster.webserver.dagster")
    story.wait_well()

    story.kill("api")
    story.wait_heard("firing", "api")
    target.is_well = True
    story.wait_heard("resolved", "target.down")
    live.start("api")
    story.wait_heard("resolved", "api")
    story.wait_well()

    sent = [n for n in story.rows(tables.notification) if n["channel"] == "ops"]
    assert {n["state"] for n in sent} <= {"sent", "suppressed"}
    told = Counter((n["kind"], one) for n in sent if n["state"] == "sent" for one in n["alert_ids"])
    heard = Counter((r.json["kind"], one["alert_id"]) for r in story.ops.requests for one in r.json["alerts"])
    assert heard == told, "every message arrived, and none arrived that the store does not know"
    assert set(told.values()) == {1}, "each alert began once and ended once"
    assert {kind for kind, _ in told} == {"firing", "resolved"}, "none repeated before its ten hours were over"
    ended = {a["alert_id"] for a in story.rows(tables.alert) if a["type"] in ("self.heartbeat", "target.down")}
    assert {one for kind, one in told if kind == "firing"} & ended == {
        one for kind, one in told if kind == "resolved"
    } & ended
    assert [a["state"] for a in story.rows(tables.alert) if a["type"] == "target.down"] == ["resolved"]

"""Collecting over real HTTP: what is stored, what a broken, slow or hostile target can do (E-124)."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from monitoring_pipelines.collect.fetch import get
from monitoring_pipelines.collect.run import Collector
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.state import StateStore, collected

NOW = datetime(2026, 2, 1, 6, 0)
METRICS = b"""\
# HELP process_resident_memory_bytes Resident memory size in bytes.
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 3.000000001e+09
process_open_fds 97
process_max_fds 1024
process_start_time_seconds 1769925540
tcp_by_state{state="ESTABLISHED"} 12
tcp_by_state{state="CLOSE_WAIT"} 3
num_threads NaN
published_total{data_type="trade",exchange="a"} 41
published_total{data_type="trade",exchange="b"} 1
published_total{data_type="orderbook",exchange="a"} 7
failed_total{data_type="trade"} 2
"""
Reply = Callable[[BaseHTTPRequestHandler], None]


class Site:
    """An HTTP server whose answers a test sets by path."""

    def __init__(self) -> None:
        site = self
        self.replies: dict[str, Reply] = {}
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.asked.append(self.path)
                site.replies[self.path](self)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, path: str, body: bytes = b"", status: int = 200, **headers: str) -> None:
        def reply(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        self.replies[path] = reply

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture(scope="session")
def empty_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("state") / "state.sqlite3"
    store = StateStore(f"sqlite:///{path}")
    store.engine()
    store.dispose()
    return path


@pytest.fixture
def state(tmp_path: Path, empty_state: Path) -> Iterator[StateStore]:
    for part in empty_state.parent.glob("state.sqlite3*"):
        shutil.copy(part, tmp_path / part.name)
    store = StateStore(f"sqlite:///{tmp_path / 'state.sqlite3'}")
    yield store
    store.dispose()


def collector(state: StateStore, **blocks: object) -> Collector:
    return Collector(Settings(**blocks), state)


def stored(state: StateStore, entity: str, source: str = "collector") -> list[dict]:
    rows = collected.since(state, NOW - timedelta(days=30), [entity])
    return [row.values for row in rows if row.source_id == source]


# -- one GET -----------------------------------------------------------------------------------------------------------


def test_a_body_comes_whole_plain_or_chunked(site: Site):
    site.answer("/plain", b"x" * 100_000)

    def chunked(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    site.replies["/chunked"] = chunked
    assert get(f"{site.url}/plain", 5).body == b"x" * 100_000
    assert get(f"{site.url}/chunked", 5).body == b"abcde"


def test_a_longer_body_than_allowed_is_refused_also_when_it_never_ends(site: Site):
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"y" * 65_536)
        except OSError:
            pass

    site.replies["/endless"] = endless
    answer = get(f"{site.url}/endless", 5, max_body=1_000_000)
    assert (answer.ok, answer.error) == (False, "body longer than 1000000 bytes")


def test_a_byte_now_and_then_does_not_hold_the_collector(site: Site):
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        try:
            for _ in range(200):
                handler.wfile.write(b"z")
                time.sleep(0.05)
        except OSError:
            pass

    site.replies["/drip"] = drip
    assert get(f"{site.url}/drip", 0.4).error == "no complete answer within 0.4 s"


def test_a_server_that_accepts_and_says_nothing_times_out():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        answer = get(f"http://127.0.0.1:{silent.getsockname()[1]}/", 0.3)
    assert (answer.status, answer.error) == (None, "no complete answer within 0.3 s")


def test_nothing_listens_and_nonsense_are_told_apart(site: Site):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "refused" in get(f"http://127.0.0.1:{port}/", 2).error.lower()

    def nonsense(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"hello\r\n\r\n")

    site.replies["/nonsense"] = nonsense
    assert get(f"{site.url}/nonsense", 2).error == "not HTTP: BadStatusLine"


def test_an_answer_cut_off_is_no_answer(site: Site):
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"only this")
        handler.close_connection = True

    site.replies["/cut"] = cut
    assert get(f"{site.url}/cut", 2).error is not None


def test_redirects_are_followed_on_the_same_host_and_nowhere_else(site: Site):
    other = Site()
    try:
        site.answer("/there", b"here")
        site.answer("/a", status=302, Location="/there")
        site.answer("/away", status=302, Location=f"{other.url}/secret")
        site.answer("/loop", status=302, Location="/loop")
        other.answer("/secret", b"secret")
        assert get(f"{site.url}/a", 2).body == b"here"
        assert get(f"{site.url}/away", 2).error.startswith("redirect to another place")
        assert get(f"{site.url}/loop", 2).error == "more than 3 redirects"
        assert other.asked == []
    finally:
        other.close()


# -- turns ------------------------------------------------------------------------------------------------------------


def scrape(site: Site, path: str = "/metrics", **more: object) -> dict:
    series = {"ok": "published_total", "error": "failed_total"}
    return {
        "target": "feed",
        "url": site.url + path,
        "interval_s": 15,
        "series": series,
        "process_id": "feed-1",
        **more,
    }


def test_a_scrape_becomes_rows_of_the_unified_entities(site: Site, state: StateStore):
    site.answer("/metrics", METRICS)
    collector(state, scrapes=[scrape(site)]).once(NOW)
    (result,) = stored(state, "probe_result")
    assert (result["target"], result["kind"], result["up"], result["http_status"]) == ("feed", "scrape", True, 200)
    assert result["latency_ms"] > 0
    (sample,) = stored(state, "process_sample")
    assert (sample["process_id"], sample["rss_bytes"], sample["fds"], sample["fds_max"]) == (
        "feed-1",
        3_000_000_001,
        97,
        1024,
    )
    assert sample["tcp_by_state"] == {"ESTABLISHED": 12, "CLOSE_WAIT": 3}
    assert (sample["threads"], sample["conns"], sample["objects"], sample["scope"]) == (None, None, None, "process")
    assert sample["uptime_s"] == (NOW - datetime(2026, 2, 1, 5, 59)).total_seconds()
    counters = {(row["series"], row["kind"]): row["value"] for row in stored(state, "ingest_counter")}
    assert counters == {("trade", "ok"): 42, ("orderbook", "ok"): 7, ("trade", "error"): 2}


@pytest.mark.parametrize(
    ("body", "status"),
    [(METRICS, 503), (b"<html>not metrics</html>", 200), (b"\xff\xfe\xfa", 200), (b'a{b="c} 1', 200)],
)
def test_a_page_that_cannot_be_read_is_down_and_gives_no_figures(site: Site, state: StateStore, body, status):
    site.answer("/metrics", body, status)
    done = collector(state, scrapes=[scrape(site)]).once(NOW)
    (result,) = stored(state, "probe_result")
    assert (result["up"], result["http_status"]) == (False, status)
    assert stored(state, "process_sample") == stored(state, "ingest_counter") == []
    assert "feed" in done.errors


def test_a_health_page_tells_its_state_and_its_age(site: Site, state: StateStore):
    site.answer("/health", b'{"status": "Degraded", "uptime": 61.5}', 503)
    collector(state, probes=[{"target": "page", "url": f"{site.url}/health"}]).once(NOW)
    (result,) = stored(state, "probe_result")
    assert (result["up"], result["http_status"], result["health_state"], result["uptime_s"]) == (
        False,
        503,
        "degraded",
        61.5,
    )


def test_a_slow_target_delays_no_other_and_stores_its_own_rows_later(site: Site, state: StateStore):
    release = threading.Event()

    def slow(handler: BaseHTTPRequestHandler) -> None:
        release.wait(10)
        handler.send_response(200)
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"{}")

    site.replies["/slow"] = slow
    site.answer("/fast", b"{}")
    probes = [{"target": name, "url": f"{site.url}/{name}", "interval_s": 15} for name in ("slow", "fast")]
    turns = collector(state, probes=probes)
    done = turns.once(NOW, wait_s=0.3)
    assert (done.asked, done.waiting) == (2, ["slow"])
    assert [row["target"] for row in stored(state, "probe_result")] == ["fast"]
    assert turns.once(NOW + timedelta(seconds=15), wait_s=0.3).waiting == []  # not asked again while it is being asked
    release.set()
    turns.close()
    rows = [(row["target"], row["at"]) for row in stored(state, "probe_result")]
    assert sorted(rows) == [
        ("fast", "2026-02-01T06:00:00Z"),
        ("fast", "2026-02-01T06:00:15Z"),
        ("slow", "2026-02-01T06:00:00Z"),
    ]


def test_targets_are_asked_at_their_interval_also_after_a_restart(site: Site, state: StateStore):
    site.answer("/metrics", METRICS)
    site.answer("/health", b"{}")
    blocks = {"scrapes": [scrape(site)], "probes": [{"target": "page", "url": f"{site.url}/health", "interval_s": 60}]}
    turns = collector(state, **blocks)
    for second in (0, 15, 30.2, 44.9):
        turns.once(NOW + timedelta(seconds=second))
    assert (site.asked.count("/metrics"), site.asked.count("/health")) == (4, 1)
    again = collector(state, **blocks)
    again.once(NOW + timedelta(seconds=46))
    assert (site.asked.count("/metrics"), site.asked.count("/health")) == (4, 1)
    again.once(NOW + timedelta(seconds=60))
    assert (site.asked.count("/metrics"), site.asked.count("/health")) == (5, 2)


def test_nothing_is_asked_until_something_is_configured(state: StateStore):
    assert collector(state).once(NOW).asked == 0


def test_the_product_samples_its_own_processes_and_its_host(state: StateStore):
    turns = collector(state)
    turns.once(NOW)
    turns.once(NOW + timedelta(seconds=15))  # not due yet
    samples = stored(state, "process_sample", "_self")
    mine = [s for s in samples if s["scope"] == "process" and s["objects"]]
    assert len(mine) == 1
    assert mine[0]["rss_bytes"] > 1_000_000
    assert mine[0]["threads"] >= 1
    assert mine[0]["fds"] > 2
    assert mine[0]["gc_collections"] is not None
    assert "TIME_WAIT" not in mine[0]["tcp_by_state"]
    (host,) = [s for s in samples if s["scope"] == "host"]
    assert (host["process_id"], host["rss_bytes"], host["fds"]) == ("host", None, None)
    assert 0 < host["mem_pct"] <= 100


def test_collecting_is_a_component_with_a_heartbeat(state: StateStore):
    from monitoring_pipelines.state.heartbeats import is_fresh

    collector(state).once(NOW)
    with state.read() as con:
        assert is_fresh(con, "collect", NOW + timedelta(seconds=240))
        assert not is_fresh(con, "collect", NOW + timedelta(seconds=241))


def test_moved_rows_stay_a_day_and_others_a_week(site: Site, state: StateStore):
    from sqlalchemy import update

    from monitoring_pipelines.state.tables import collected as table

    site.answer("/health", b"{}")
    turns = collector(state, probes=[{"target": "page", "url": f"{site.url}/health"}])
    turns.once(NOW - timedelta(days=2))
    turns.once(NOW - timedelta(hours=30))
    with state.begin() as con:
        con.execute(update(table).where(table.c.at == NOW - timedelta(hours=30)).values(moved_at=NOW))
    turns.once(NOW)
    assert [row["at"] for row in stored(state, "probe_result")] == ["2026-01-30T06:00:00Z", "2026-02-01T06:00:00Z"]


# -- figures of processes ----------------------------------------------------------------------------------------------


def test_cores_are_those_the_control_groups_leave(tmp_path: Path):
    from monitoring_pipelines.process_figures import effective_cores

    root, membership = tmp_path / "cgroup", tmp_path / "membership"
    (root / "system.slice" / "mp.service").mkdir(parents=True)
    membership.write_text("0::/system.slice/mp.service\n")
    mine = float(len(os.sched_getaffinity(0)))
    assert effective_cores(root, membership) == mine
    (root / "system.slice" / "mp.service" / "cpu.max").write_text("max 100000\n")
    (root / "system.slice" / "cpu.max").write_text("50000 100000\n")
    assert effective_cores(root, membership) == 0.5
    membership.write_text("4:cpu,cpuacct:/docker/x\n0::/\n")
    (root / "cpu" / "docker" / "x").mkdir(parents=True)
    (root / "cpu" / "docker" / "x" / "cpu.cfs_quota_us").write_text("25000\n")
    (root / "cpu" / "docker" / "x" / "cpu.cfs_period_us").write_text("100000\n")
    assert effective_cores(root, membership) == 0.25
    (root / "cpu" / "docker" / "x" / "cpu.cfs_quota_us").write_text("-1\n")
    assert effective_cores(root, membership) == mine

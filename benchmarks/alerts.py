"""Figures of alerting: a storm of findings, a day of ticks, an idle evaluation.

    python -m benchmarks.alerts                                    # small: 1,000 findings, two hours of ticks
    python -m benchmarks.alerts --findings 10000 --ticks 2880

* Storm: as many findings at once, each another alert and group; CPU seconds of the evaluation, DingTalk posts in the
  busiest minute, messages without an end.
* Day: evaluations every 30 s for a day with some rules, a few alerts and the scheduled check runs; growth of the store.
* Peer: the same storm as one row per finding in a plain table and one post per finding (what a script would do).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import func, insert, select

from benchmarks._common import machine
from monitoring_pipelines.alerts import engine, outbox
from monitoring_pipelines.alerts.model import Observation
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.state import StateStore, tables
from monitoring_pipelines.state.ids import new_id

T0 = datetime(2026, 2, 1, 6, 0, 0)
CONFIG = """\
version: 1
alerts: {routes: {critical: {channels: [ops]}, warning: {channels: [ops]}}}
channels: [{id: ops, type: dingtalk, webhook_file: ops.url}]
"""


class Receiver(BaseHTTPRequestHandler):
    posts: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Receiver.posts.append(len(body))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"errcode":0}')

    def log_message(self, *_: object) -> None:
        pass


def site(root: Path, url: str):
    (root / "ops.url").write_text(url)
    (root / "monitoring.yaml").write_text(CONFIG)
    settings = load_settings(root / "monitoring.yaml")
    return settings, StateStore(f"sqlite:///{root}/state.sqlite3"), FixedClock(T0)


def store_run(state: StateStore, at: datetime, findings: list[dict[str, object]]) -> None:
    run_id = new_id(at)
    with state.begin() as con:
        con.execute(insert(tables.check_run).values(
            run_id=run_id, type="full", trigger="schedule", status="issues_detected" if findings else "healthy",
            scheduled_at=at, started_at=at, ended_at=at, total_alerts=len(findings), count=1))  # fmt: skip
        con.execute(insert(tables.check_result).values(
            run_id=run_id, source_id="shop", check_id="custom", status="findings" if findings else "passed", stale=False))  # fmt: skip
        if findings:
            con.execute(insert(tables.finding), [{"run_id": run_id, "seq": n, "source_id": "shop", "check_id": "custom",
                                                  "created_at": at, **f} for n, f in enumerate(findings)])  # fmt: skip


def finding(n: int) -> dict[str, Any]:
    return {
        "alert_type": f"custom_{n}", "severity": "high", "labels": {"endpoint": f"e{n}"}, "message": f"finding {n}",
        "details": {"n": n}, "task_ids": [],
    }  # fmt: skip


def size(root: Path) -> int:
    return sum(p.stat().st_size for p in root.glob("state.sqlite3*"))


def settled_size(root: Path, state: StateStore) -> int:
    """Bytes without the log, which is merged at the end of the last connection."""
    import sqlite3

    state.dispose()
    with sqlite3.connect(root / "state.sqlite3") as con:
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return size(root)


def storm(root: Path, url: str, count: int) -> dict[str, Any]:
    settings, state, clock = site(root, url)
    store_run(state, T0, [finding(n) for n in range(count)])
    started = time.process_time()
    done = engine.apply(settings, state, clock.now(), [])
    engine_cpu = time.process_time() - started
    started = time.process_time()
    posts: list[float] = []
    while True:
        due = outbox.next_due(state, settings, clock.now())
        if due is None or due > T0 + timedelta(hours=1):
            break
        clock.instant = max(due, clock.now())
        before = len(Receiver.posts)
        outbox.dispatch(settings, state, clock, budget_s=600)
        posts += [(clock.now() - T0).total_seconds()] * (len(Receiver.posts) - before)
    send_cpu = time.process_time() - started
    clock.advance(30)
    started = time.process_time()
    engine.apply(settings, state, clock.now(), [])
    next_cpu = time.process_time() - started
    with state.read() as con:
        query = select(tables.notification.c.state, func.count()).group_by(tables.notification.c.state)
        states = dict(con.execute(query).all())
        told = con.execute(select(func.count()).where(tables.alert_channel.c.notified_at.is_not(None))).scalar_one()
    return {
        "findings": count, "alerts_fired": done.fired, "engine_cpu_s": round(engine_cpu, 2),
        "dispatch_cpu_s": round(send_cpu, 2), "next_tick_cpu_s": round(next_cpu, 2),
        "posts": len(posts), "most_posts_in_a_minute": max(sum(1 for b in posts if a <= b < a + 60) for a in posts),
        "alerts_told": told, "messages": states, "largest_body_bytes": max(Receiver.posts),
        "store_mb": round(size(root) / 1e6, 1),
    }  # fmt: skip


def day(root: Path, url: str, ticks: int) -> dict[str, Any]:
    settings, state, clock = site(root, url)

    def seen(n: int, condition: str, value: float) -> Observation:
        return Observation("resource.memory", "collector", condition, "medium", "warning", "CollectorHighMemory", "high",  # type: ignore[arg-type]
                           {"process": f"p{n}"}, for_s=300, value=value, threshold=3e9,
                           details={"samples": [{"rss_bytes": value} for _ in range(10)]} if condition == "true" else {})  # fmt: skip

    engine.apply(settings, state, clock.now(), [])
    first = settled_size(root, state)
    started = time.process_time()
    for number in range(ticks):
        # 20 rules, two of them firing all day, one that comes and goes every ten minutes.
        rules = [
            seen(n, "true" if n < 2 or (n == 2 and number // 20 % 2) else "false", float(number)) for n in range(20)
        ]
        if number % 30 == 0:
            store_run(state, clock.now(), [finding(0)] if number % 240 < 120 else [])
        engine.apply(settings, state, clock.now(), rules)
        due = outbox.next_due(state, settings, clock.now())
        while due is not None and due < clock.now() + timedelta(seconds=30):
            clock.instant = max(due, clock.now())
            outbox.dispatch(settings, state, clock)
            due = outbox.next_due(state, settings, clock.now())
        clock.instant = T0 + timedelta(seconds=30 * (number + 1))
    cpu = time.process_time() - started
    grown = (settled_size(root, state) - first) / 1e6
    return {
        "ticks": ticks, "growth_mb": round(grown, 2), "growth_mb_per_day": round(grown * 2880 / ticks, 2),
        "cpu_ms_per_tick": round(1000 * cpu / ticks, 2), "share_of_a_core_percent": round(100 * cpu / ticks / 30, 3),
    }  # fmt: skip


def peer(root: Path, url: str, count: int) -> dict[str, Any]:
    """One row and one post per finding, posts for two minutes' worth only."""
    import sqlite3

    import requests

    started = time.process_time()
    with sqlite3.connect(root / "peer.sqlite3") as con:
        con.execute("CREATE TABLE alert (id INTEGER PRIMARY KEY, content TEXT)")
        con.executemany("INSERT INTO alert(content) VALUES (?)", [(json.dumps(finding(n)),) for n in range(count)])
    sample = min(count, 200)
    for n in range(sample):
        requests.post(url, json={"msgtype": "text", "text": {"content": str(finding(n))}}, timeout=5)
    return {"cpu_s": round((time.process_time() - started) * count / sample, 2), "posts_in_the_first_minute": count}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--findings", type=int, default=1000)
    parser.add_argument("--ticks", type=int, default=240)
    args = parser.parse_args()
    count, ticks = args.findings, args.ticks
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/robot"
    result: dict[str, dict[str, Any]] = {}
    for name, run in (("storm", storm), ("day", day), ("peer", peer)):
        with tempfile.TemporaryDirectory() as folder:
            result[name] = run(Path(folder), url, ticks if name == "day" else count)
    server.shutdown()
    print(f"{machine()}; {count:,} findings at once, {ticks:,} evaluations\n")
    print(json.dumps(result, indent=2))
    storm_, day_, peer_ = result["storm"], result["day"], result["peer"]
    cpu = storm_["engine_cpu_s"] + storm_["dispatch_cpu_s"]
    print(f"\nproduct : peer = {cpu / peer_['cpu_s']:.2f} × CPU, {storm_['posts']} : {count} posts in the first minute")
    ok = storm_["most_posts_in_a_minute"] <= 20 and storm_["alerts_told"] == count and storm_["engine_cpu_s"] <= 5
    return 0 if ok and day_["growth_mb_per_day"] <= 10 else 1


if __name__ == "__main__":
    sys.exit(main())

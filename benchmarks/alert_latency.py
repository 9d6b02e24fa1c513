"""From a closed minute to the first message, end to end: `mp up` with its real daemon, a real server, a real receiver.

    python -m benchmarks.alert_latency                       # small: 6 trials
    python -m benchmarks.alert_latency --trials 20 --per-minute 7

Every trial is an endpoint of its own that succeeds every few seconds and fails from a known minute on; a rule per
endpoint (share of failed tasks over one minute, critical, no ``for``) makes it an alert and a group of its own. Printed
per trial: seconds from the instant at which the first bad minute may close (its end + ``stats.settle_s``, M-801) to the
arrival at the receiver, the same from the minute's end, and where the time went. There is no peer: the reach is 90 s.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks._common import machine, table, test_server

REACH_S = 90.0
SETTLE_S = 60
#: Every endpoint ends a task so often, seconds.
STEP_S = 5
MINUTE = timedelta(minutes=1)
DDL = """
CREATE TABLE tasks (id BIGINT AUTO_INCREMENT PRIMARY KEY, task_id VARCHAR(64) UNIQUE, endpoint VARCHAR(64), status VARCHAR(20),
  created_at DATETIME(3), started_at DATETIME(3), completed_at DATETIME(3), updated_at DATETIME(3), KEY (updated_at), KEY (completed_at))
"""
CONFIG = """\
version: 1
language: en
stats: {{backfill_days: 1}}
sources:
  - id: shop
    read_dsn_file: {root}/shop.dsn
    tables:
      task:
        table: tasks
        row_id: id
        key: task_id
        strategy: append
        columns:
          endpoint: endpoint
          status: {{column: status, map: {{DONE: succeeded, FAILED: failed}}}}
          created_at: created_at
          started_at: started_at
          ended_at: completed_at
alerts: {{routes: {{critical: {{channels: [ops]}}}}}}
channels: [{{id: ops, type: dingtalk, webhook_file: {root}/ops.url, per_minute: 100}}]
rules:
{rules}
"""


@dataclass
class Trial:
    """One endpoint, the minute in which it began to fail, and when somebody heard of it (UTC)."""

    endpoint: str
    minute: datetime
    heard_at: datetime | None = None

    @property
    def closable(self) -> datetime:
        """First instant at which the bad minute may close."""
        return self.minute + MINUTE + timedelta(seconds=SETTLE_S)


class Receiver:
    """Notes when the first message about an endpoint arrives."""

    def __init__(self, trials: list[Trial]) -> None:
        waiting = {trial.endpoint: trial for trial in trials}
        heard = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                at = now()
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                heard.posts += 1
                for name in re.findall(r"endpoint=(\w+)", body["markdown"]["text"]):
                    if name in waiting:
                        waiting.pop(name).heard_at = at
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b'{"errcode":0}')

            def log_message(self, *_: object) -> None:
                pass

        self.posts = 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/robot"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def now() -> datetime:
    """Present instant, naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)


def write_tasks(database: Any, trials: list[Trial], stop: threading.Event) -> None:
    """One ended task per endpoint and step: good before the trial's minute, failed from it on."""
    insert = (
        "INSERT INTO tasks (task_id, endpoint, status, created_at, started_at, completed_at, updated_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s)"
    )
    step = 0
    while not stop.wait(STEP_S - time.time() % STEP_S):
        at, step = now(), step + 1
        times = at - timedelta(seconds=3), at - timedelta(seconds=2), at, at
        ended = [(trial.endpoint, "FAILED" if at >= trial.minute else "DONE") for trial in trials]
        database.executemany(insert, [(f"{name}-{step}", name, status, *times) for name, status in ended])


def site(root: Path, dsn: str, url: str, trials: list[Trial]) -> Path:
    """A configuration with one rule per endpoint."""
    (root / "shop.dsn").write_text(dsn)
    (root / "ops.url").write_text(url)
    rules = "\n".join(
        f"  - {{id: fails.{t.endpoint}, metric: endpoint_minute_stats.success_rate, filter: {{endpoint: {t.endpoint}}}, "
        "op: '<', threshold: 50, severity: critical}"
        for t in trials
    )
    (root / "monitoring.yaml").write_text(CONFIG.format(root=root, rules=rules or "  []"))
    return root / "monitoring.yaml"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
        return bool(answer.status == 200)
    return False


def start(config: Path, root: Path) -> tuple[subprocess.Popen[bytes], str]:
    """`mp up`, answering, and the address of its Dagster web server."""
    ports = free_port(), free_port()
    code = "import sys; from monitoring_pipelines.cli.app import run; sys.exit(run(sys.argv[1:]))"
    options = f"--config {config} up --port {ports[0]} --page-port {ports[1]} --home {root}/home".split()
    with (root / "up.log").open("wb") as log:
        command = [sys.executable, "-c", code, *options]
        running = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    until = time.monotonic() + 180
    url = f"http://127.0.0.1:{ports[0]}"
    while not answers(f"{url}/server_info"):
        if running.poll() is not None or time.monotonic() > until:
            raise SystemExit(f"mp up did not start:\n{(root / 'up.log').read_text()[-3000:]}")
        time.sleep(0.5)
    return running, url


def end(running: subprocess.Popen[bytes]) -> None:
    """Ctrl-C, and what is left after a while is killed."""
    running.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        running.wait(40)
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)


def stages(root: Path, config: Path, trials: list[Trial]) -> dict[str, tuple[datetime | None, datetime | None]]:
    """Per endpoint when its first bad minute was stored as closed, and when its alert fired."""
    import duckdb
    from sqlalchemy import select

    from monitoring_pipelines.config import load_settings
    from monitoring_pipelines.state import StateStore, tables

    settings = load_settings(config)
    state = StateStore.of(settings)
    with state.read() as con:
        alerts = con.execute(
            select(tables.alert.c.labels, tables.alert.c.fired_at).order_by(tables.alert.c.fired_at.desc())
        )
        fired = {row.labels.get("endpoint"): row.fired_at for row in alerts}
    state.dispose()
    with duckdb.connect(str(settings.warehouse_path), read_only=True) as warehouse:
        query = "SELECT endpoint, stat_minute, first_closed_at FROM mart.endpoint_minute_stats"
        rows = warehouse.execute(query).fetchall()
    closed = {(endpoint, minute): at for endpoint, minute, at in rows}
    return {t.endpoint: (closed.get((t.endpoint, t.minute)), fired.get(t.endpoint)) for t in trials}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--per-minute", type=int, default=3)
    parser.add_argument("--dsn", help="of a MySQL or MariaDB server; default: one is started")
    parser.add_argument("--warm-up", type=int, default=3, help="minutes before the first trial")
    args = parser.parse_args()
    first = now().replace(second=0, microsecond=0) + (args.warm_up + 1) * MINUTE
    trials = [Trial(f"e{n:03}", first + n // args.per_minute * MINUTE) for n in range(args.trials)]
    receiver, stop = Receiver(trials), threading.Event()
    with test_server(args.dsn) as database, tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        database.execute(DDL)
        config = site(root, database.dsn, receiver.url, trials)
        writer = threading.Thread(target=write_tasks, args=(database, trials, stop), daemon=True)
        writer.start()
        running, _ = start(config, root)
        try:
            last = max(trial.closable for trial in trials) + timedelta(minutes=4)
            while now() < last and any(trial.heard_at is None for trial in trials):
                time.sleep(0.5)
            load = os.getloadavg()
        finally:
            end(running)
            stop.set()
            writer.join()
        return report(trials, stages(root, config, trials), receiver.posts, load)


def report(
    trials: list[Trial], seen: dict[str, tuple[datetime | None, datetime | None]], posts: int, load: Sequence[float]
) -> int:  # fmt: skip
    """Print every trial and the figures; 0 when all arrived and p95 is within the reach."""

    def after(instant: datetime | None, begin: datetime | None) -> str:
        return "–" if instant is None or begin is None else f"{(instant - begin).total_seconds():.1f}"

    print(f"{machine()}; load {load[0]:.1f} {load[1]:.1f} {load[2]:.1f}; {len(trials)} trials, {posts} posts\n")
    rows = []
    for t in trials:
        closed, fired = seen[t.endpoint]
        rows.append([t.endpoint, f"{t.minute:%H:%M}", after(closed, t.closable), after(fired, closed), after(t.heard_at, fired),
                     after(t.heard_at, t.closable), after(t.heard_at, t.minute + MINUTE)])  # fmt: skip
    stages = ("closable → closed", "closed → fired", "fired → heard", "closable → heard", "end → heard")
    print(table(("trial", "minute", *stages), rows))
    lost = [t for t in trials if t.heard_at is None]
    heard = [t for t in trials if t.heard_at is not None]
    if len(heard) < 2:
        print("\ntoo few messages arrived")
        return 1
    figures = {}
    for name, begin in (("closed", lambda t: t.closable), ("minute's end", lambda t: t.minute + MINUTE)):
        took = sorted((t.heard_at - begin(t)).total_seconds() for t in heard if t.heard_at is not None)
        cut = statistics.quantiles(took, n=20, method="inclusive")
        figures[name] = cut[18]
        print(f"\n{name} → first message: p50 {cut[9]:.1f} s, p95 {cut[18]:.1f} s, longest {took[-1]:.1f} s")
    print(f"\nnever heard: {len(lost)}")
    return 0 if not lost and figures["closed"] <= REACH_S else 1


if __name__ == "__main__":
    sys.exit(main())

"""Answers of the API and pages over ten million stored tasks, eight clients at once, while publications go on.

    python -m benchmarks.api                      # small: 200,000 tasks, 40 requests a path
    python -m benchmarks.api 10000000 --requests 320 --keep FOLDER
    python -m benchmarks.api 10000000 --requests 320 --keep FOLDER --every 60 --backfill

The server is a process of its own; a second one publishes 300 new tasks every two seconds (``--every``), thirty times as
often as the schedule, and gives way as runs of ``mp up`` do. With ``--backfill`` hours of another store are backfilled all the
while, through the domain code and through Dagster, and give way too. ``{n}`` in a path is another number in every request, so that
answers remembered from an earlier one hardly help: with more than a hundred requests endpoints are asked for again, and
answers of the same version are remembered. A client keeps its connection, takes gzip as browsers do, and reads answers to their end without looking into them: what
it costs is taken from the same cores as the server. The peer is the plain question to the same files: one DuckDB statement with count and page over all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import requests

from benchmarks._common import ROOT, free_port, machine, table
from benchmarks._published import NOW, fill, settings_of
from benchmarks._records import fill_records
from monitoring_pipelines.cli.supervise import give_way

DAY = "from=2026-02-{d:02}T00:00:00Z&to=2026-02-{e:02}T00:00:00Z"
PATHS = {
    "tasks, first page": "/api/v1/tasks",
    "tasks, any page": "/api/v1/tasks?page={p}",
    "tasks, failed, any page": "/api/v1/tasks?status=failed&page={q}",
    "tasks, one endpoint, failed": "/api/v1/tasks?endpoint=ep-{n}&status=failed",
    "tasks, one endpoint without output": "/api/v1/tasks?endpoint=ep-{n}&has_output=false",
    "tasks of a day": "/api/v1/tasks?" + DAY,
    "tasks, by text, first asked": "/api/v1/tasks?q={x}",
    "tasks, by text, again": "/api/v1/tasks?q=00ab",
    "tasks, by text of six letters": "/api/v1/tasks?q={y}",
    "tasks, by text, a whole key": "/api/v1/tasks?q={key}",
    "tasks, by text and status": "/api/v1/tasks?q={x}&status=failed",
    "tasks, by text, endpoint and output": "/api/v1/tasks?q={x}&endpoint=ep-{n}&has_output=true",
    "tasks, by text, any window": "/api/v1/tasks?q={x}&from=2026-02-{d:02}T07:31:00Z&to=2026-02-{e:02}T03:11:00Z",
    "one task": "/api/v1/tasks/{key}",
    "task counters": "/api/v1/task-counters",
    "completeness, hours": "/api/v1/completeness?granularity=hour&" + DAY,
    "missing, any window": "/api/v1/completeness/missing?hours={h}",
    "split, 30 days": "/api/v1/completeness/split?date=2026-01-{w}",
    "overview": "/api/v1/overview",
    "endpoints": "/api/v1/endpoints?q=ep-{n}",
    "endpoint, last 24 h": "/api/v1/endpoints/ep-{n}/stats",
    "endpoint, 12 h by minutes": "/api/v1/endpoints/ep-{n}/stats?from=2026-02-10T17:37:00Z&to=2026-02-11T05:37:00Z",
    "endpoint, 30 h by minutes": "/api/v1/endpoints/ep-{n}/stats?granularity=minute&from=2026-02-09T23:37:00Z&to=2026-02-11T05:37:00Z",
    "endpoint, 30 days by hours": "/api/v1/endpoints/ep-{n}/stats?granularity=hour&from=2026-01-12T05:00:00Z&to=2026-02-11T05:00:00Z",
    "workers of an endpoint": "/api/v1/endpoints/ep-{n}/workers",
    "stats of the task monitor": "/api/monitor/stats",
    "status of a task": "/api/task/status/{key}",
    "consistency metrics": "/api/monitoring/data-consistency/metrics?hours={h}",
    "health of the platform": "/api/monitoring/health",
    "alerts": "/api/v1/alerts",
    "10,000 jobs": "/api/v1/scheduler/metrics?scope=mapped",
    "runs of a job": "/api/v1/scheduler/jobs/job-{n}/runs",
    "list of jobs": "/api/v1/scheduler/jobs?scope=mapped",
    "configurations of jobs": "/api/v1/scheduler/configs?scope=mapped",
    "status of the scheduler": "/api/v1/scheduler/status?scope=mapped",
    "check runs": "/api/v1/checks/runs",
    "sources": "/api/v1/sources",
    "the product itself": "/api/v1/self",
    "check runs, any page": "/api/v1/checks/runs?page={p}",
    "a check run of 2,000 findings": "/api/v1/checks/runs/C000000000000000000008640",
    "alerts, any page, by gravity": "/api/v1/alerts?page={q}&sort=-severity",
    "an alert": "/api/v1/alerts/A{a:024}",
    "history of an alert": "/api/v1/alerts/A{a:024}/events",
    "alerts of the platform": "/api/monitoring/alerts?limit=50",
    "processes": "/api/v1/processes",
    "samples of a process": "/api/v1/processes/collector-{c}/samples?page={c}",
    "targets": "/api/v1/targets",
    "ingest": "/api/v1/ingest",
    "repair plans": "/api/v1/repair/plans",
    "repair plans, any page": "/api/v1/repair/plans?page={c}",
    "a plan of 10,000 tasks": "/api/v1/repair/plans/P000000000000000000000300",
    "its items, any page": "/api/v1/repair/plans/P000000000000000000000300/items?page={q}",
    "its journal, any page": "/api/v1/repair/runs/R000000000000000000000300/journal?page={q}",
    "notifications": "/api/v1/notifications",
    "notifications, any page": "/api/v1/notifications?page={q}",
    "page: overview": "/",
    "page: tasks": "/tasks?show=failed&page={q}",
    "page: tasks, by text": "/tasks?show=all&q={x}",
    "page: consistency": "/consistency",
    "page: endpoint": "/endpoints/ep-{n}?range=24h",
    "page: endpoints": "/endpoints?q=ep-{c}",
    "page: a task": "/tasks/{key}",
    "page: jobs, search": "/scheduler-monitoring?q=job-{n}",
    "page: jobs, failures": "/scheduler-monitoring?tab=heatmap",
    "page: a job": "/scheduler-monitoring/jobs/job-{n}",
    "page: alerts": "/alerts?page={c}",
    "page: an alert": "/alerts/A{a:024}",
    "page: checks": "/checks?page={q}",
    "page: a check run of 2,000 findings": "/checks/C000000000000000000008640",
    "page: repair": "/repair?page={c}",
    "page: a plan of 10,000 tasks": "/repair/plans/P000000000000000000000300?page={q}",
    "page: a run of 10,000 rows": "/repair/runs/R000000000000000000000300?page={q}",
    "page: resources": "/resources?process=collector-{c}",
    "page: ingest": "/ingest",
    "partitions, hours": "/api/v1/partitions",
    "partitions, days": "/api/v1/partitions?grain=day",
    "page: partitions": "/partitions",
    "page: partitions, 30 days": "/partitions?shown=30d",
    "page: the product itself": "/self",
    "scrape": "/metrics",
    "scrape, OpenMetrics": "/metrics#openmetrics",
}


def serve(folder: Path, port: int | None = None) -> tuple[str, subprocess.Popen[bytes]]:
    """The server in a process of its own; its address."""
    port = port or free_port()
    settings_of(folder)
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("mp")), "serve", "--config", str(folder / "monitoring.yaml"),
         "--now", f"{NOW.isoformat()}Z", "--port", str(port)],
        cwd=ROOT, env=os.environ.copy(),
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    while True:
        try:
            session().get(f"{url}/health/live", timeout=5)
            return url, process
        except requests.ConnectionError:
            time.sleep(0.2)


def session() -> requests.Session:
    """A client that ignores proxies."""
    client = requests.Session()
    client.trust_env = False
    return client


def ask(url: str, path: str, count: int, keys: list[str], clients: int = 8) -> list[float]:
    """Seconds of ``count`` requests, in ascending order; each client keeps its connection."""
    chance = random.Random(path)
    paths = []
    for _ in range(count):
        day = chance.randrange(1, 10)
        paths.append(path.format(
            n=chance.randrange(100), p=chance.randrange(1, 4000), q=chance.randrange(1, 200), h=chance.randrange(1, 720),
            w=chance.randrange(14, 31), x=f"{chance.randrange(16**4):04x}", y=f"{chance.randrange(16**6):06x}", key=chance.choice(keys), d=day, e=day + 1,
            a=chance.randrange(1, 20_001), c=chance.randrange(1, 7),
        ))  # fmt: skip
    shares = [paths[number::clients] for number in range(clients)]

    def work(share: list[str]) -> list[float]:
        client = HTTPConnection(urlsplit(url).netloc, timeout=120)
        place = bytearray(1 << 20)
        seconds = []
        for path in share:
            address, _, form = path.partition("#")
            headers = {"Accept": "application/openmetrics-text; version=1.0.0" if form else "*/*"}
            began = time.perf_counter()
            client.request("GET", address, headers=headers | {"Accept-Encoding": "gzip"})
            answer = client.getresponse()
            while answer.readinto(place):
                pass
            seconds.append(time.perf_counter() - began)
            if answer.status != 200:
                raise RuntimeError(f"{address} answered {answer.status}")
        client.close()
        return seconds

    with ThreadPoolExecutor(clients) as pool:
        return sorted(second for seconds in pool.map(work, shares) for second in seconds)


def known_keys(settings: Any) -> list[str]:
    """Keys of tasks from all over the store."""
    from monitoring_pipelines.published.reader import Published

    with Published(settings.lake_path).look() as look:
        rows = look.tuples(f"SELECT task_key FROM {look.table('core.task')} WHERE hash(task_key) % 5000 = 7 LIMIT 500")
        return [key for (key,) in rows]


def plain(settings: Any, count: int) -> list[float]:
    """The peer: the same page and total by one statement over all files."""
    from monitoring_pipelines.published.reader import Published

    with Published(settings.lake_path).look() as look:
        table_ = look.table("core.task")
        seconds = []
        for _ in range(count):
            began = time.perf_counter()
            look.value(f"SELECT count(*) FROM {table_} WHERE status = 'failed'")
            look.rows(f"SELECT * FROM {table_} WHERE status = 'failed' ORDER BY bucket_at DESC, task_key LIMIT 50")
            seconds.append(time.perf_counter() - began)
    return sorted(seconds)


def main() -> None:
    """Fill, serve, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="?", type=int, default=200_000)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--keep", help="folder for the store; one that exists is used again")
    parser.add_argument("--only", default="", help="only paths in whose name this pattern is found")
    parser.add_argument("--every", type=float, default=2, help="seconds between two publications; the schedule has 60")
    parser.add_argument("--quiet", action="store_true", help="no publications meanwhile")
    parser.add_argument("--backfill", action="store_true", help="backfills of another store meanwhile")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-api-") as scratch:
        folder = Path(given.keep or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        settings = settings_of(folder) if (folder / "data" / "lake").exists() else fill(folder, given.tasks, 10_000)
        fill_records(settings)
        keys = known_keys(settings)
        url, server = serve(folder)
        settle(psutil.Process(server.pid))
        with contextlib.ExitStack() as beside:
            beside.callback(end, server)
            if not given.quiet:
                beside.enter_context(running(scratch, "_published", str(folder), "3600", str(given.every)))
            if given.backfill:
                beside.enter_context(running(scratch, "backfill", "--days", "30"))
                time.sleep(30)  # its stores are being built, which is work like the rest
            measure(url, keys, given, server.pid, settings)


@contextlib.contextmanager
def running(scratch: str, module: str, *arguments: str) -> Iterator[None]:
    """Another benchmark module beside, with whatever it starts; it gives way as runs do, and is ended with nothing left behind
    outside ``scratch``."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments], cwd=ROOT, start_new_session=True,
        env=os.environ | {"TMPDIR": scratch}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    give_way(process.pid)
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"benchmarks.{module} ended before the requests did")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and wait for it."""
    process.terminate()
    process.wait(30)


def settle(process: psutil.Process) -> None:
    """Wait until a server that was just started has read what everybody asks for: no answer should be charged with that."""
    quiet = 0
    while quiet < 3:  # a busy machine may stop it for a moment
        spent = cpu_s(process)
        time.sleep(1)
        quiet = quiet + 1 if cpu_s(process) - spent < 0.1 else 0


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a server and its processes, those that have ended too."""
    spent = sum(process.cpu_times()[:4])
    for one in process.children():
        with contextlib.suppress(psutil.NoSuchProcess):  # an index is made; what it took counts once it has ended
            spent += sum(one.cpu_times()[:4])
    return spent


def memory_mb(process: psutil.Process) -> tuple[float, float]:
    """Memory of the server, and of both; pages that they share count twice."""
    server = together = process.memory_info().rss / 1e6
    for one in process.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            together += one.memory_info().rss / 1e6
    return server, together


def watch(process: psutil.Process, seen_mb: list[tuple[float, float]]) -> None:
    """Note the memory of both fifty times a second, until the server ends."""
    try:
        while True:
            seen_mb.append(memory_mb(process))
            time.sleep(0.02)
    except psutil.NoSuchProcess:
        return


def measure(url: str, keys: list[str], given: argparse.Namespace, pid: int, settings: Any) -> None:
    """Ask every path and print the table."""
    process = psutil.Process(pid)
    start_mb = memory_mb(process)
    rows = []
    seen_mb = [start_mb]
    threading.Thread(target=watch, args=(process, seen_mb), daemon=True).start()
    for what, path in PATHS.items():
        if not re.search(given.only, what):
            continue
        first = ask(url, path, 1, keys)[0]
        cpu = cpu_s(process)
        before = len(seen_mb)
        seconds = ask(url, path, given.requests, keys)
        cpu = cpu_s(process) - cpu
        resident = max((server for server, _ in seen_mb[before:]), default=memory_mb(process)[0])
        times = (seconds[int(len(seconds) * p) - 1] * 1000 for p in (0.5, 0.95, 1.0))
        rows.append([what, f"{first * 1000:.0f}", *(f"{ms:.0f}" for ms in times),
                     f"{1000 * cpu / given.requests:.1f}", f"{resident:.0f}"])  # fmt: skip
        print(rows[-1], file=sys.stderr, flush=True)
    if not given.only:
        seconds = plain(settings, 5)
        rows.append(["peer: failed tasks, plain SQL, one client", f"{seconds[-1] * 1000:.0f}",
                     f"{seconds[2] * 1000:.0f}", f"{seconds[-1] * 1000:.0f}", "", "", ""])  # fmt: skip
    print(
        f"{machine()}; load average {os.getloadavg()[0]:.1f}; publications {'off' if given.quiet else f'every {given.every:g} s'}"
        f"{', backfills beside' if given.backfill else ''}"
    )
    print(table(["answer", "first ms", "p50 ms", "p95 ms", "most ms", "CPU ms of the server", "most MB"], rows))
    most, together = (max(some) for some in zip(*seen_mb, strict=True))
    print(
        f"memory of the server: {start_mb[0]:.0f} MB after start, {most:.0f} MB at most, {together:.0f} MB with its searches"
    )


if __name__ == "__main__":
    main()

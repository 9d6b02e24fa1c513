"""The distribution's Prometheus scraping for minutes, while the API is restarted and data arrive.

    python -m benchmarks.scrape                          # small: 90 seconds, two restarts
    python -m benchmarks.scrape --seconds 600 --restart 75

Both paths are scraped every two seconds. It ends with 1 when a scrape failed while the API was up, a counter fell, or
Prometheus warned in its log (duplicate or out-of-order samples, for example).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._common import ROOT, free_port
from benchmarks._published import fill, settings_of
from benchmarks.api import serve, session
from monitoring_pipelines.cli.supervise import give_way

EVERY_S = 2
CONFIG = """\
global: {{scrape_interval: {every}s, scrape_timeout: {every}s}}
scrape_configs:
  - {{job_name: monitoring-pipelines, static_configs: [{{targets: ["{target}"]}}]}}
  - job_name: scheduler
    metrics_path: /api/v1/scheduler/metrics/prometheus
    static_configs: [{{targets: ["{target}"]}}]
"""


def main() -> int:
    """Run it and print what Prometheus saw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=90)
    parser.add_argument("--restart", type=int, default=30, help="seconds between two restarts of the API")
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--keep", help="folder for the store; one that exists is used again")
    given = parser.parse_args()
    if shutil.which("prometheus") is None:
        sys.exit("prometheus is not installed")
    with tempfile.TemporaryDirectory(prefix="bench-scrape-") as scratch:
        folder = Path(given.keep or scratch) / "store"
        folder.mkdir(parents=True, exist_ok=True)
        settings_of(folder)
        if not (folder / "data" / "lake").exists():
            fill(folder, given.tasks, 200)
        return watch(folder, Path(scratch), given.seconds, given.restart)


def watch(folder: Path, scratch: Path, seconds: int, restart: int) -> int:
    """Serve, scrape, restart; 0 when nothing was wrong."""
    url, server = serve(folder)
    port = int(url.rsplit(":", 1)[1])
    config, own = scratch / "prometheus.yml", free_port()
    config.write_text(CONFIG.format(every=EVERY_S, target=f"127.0.0.1:{port}"))
    log = (scratch / "prometheus.log").open("w+")
    began = time.time()
    prometheus = subprocess.Popen(
        ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={scratch / 'tsdb'}",
         f"--web.listen-address=127.0.0.1:{own}"], stdout=log, stderr=log,
    )  # fmt: skip
    ticks = subprocess.Popen([sys.executable, "-m", "benchmarks._published", str(folder), str(seconds), "5"], cwd=ROOT)
    give_way(ticks.pid)  # as runs do
    outages: list[tuple[float, float]] = []
    try:
        while time.time() - began < seconds:
            time.sleep(min(restart, max(1.0, began + seconds - time.time())))
            if time.time() - began >= seconds:
                break
            down = time.time()
            server.terminate()
            server.wait(90)
            _, server = serve(folder, port)
            outages.append((down, time.time()))
        time.sleep(2 * EVERY_S)
        return report(f"http://127.0.0.1:{own}", began, outages, scratch / "prometheus.log")
    finally:
        for process in (ticks, server, prometheus):
            process.terminate()
            process.wait(90)
        log.close()


def report(url: str, began: float, outages: list[tuple[float, float]], log: Path) -> int:
    """Ask Prometheus what it saw, print it, and judge."""
    client = session()

    def asked(query: str) -> list[dict[str, Any]]:
        answer = client.get(f"{url}/api/v1/query", params={"query": query, "time": f"{time.time():.3f}"}, timeout=60)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    window = f"{int(time.time() - began) + 10}s"
    scrapes = failed = unexplained = 0
    for series in asked(f"up[{window}]"):
        for at, value in series["values"]:
            scrapes += 1
            if value == "0":
                failed += 1
                # A scrape that began before the API went down, or while it came up, belongs to the restart.
                unexplained += not any(down - EVERY_S <= at <= up + EVERY_S for down, up in outages)
    # resets() drops the name of a series, so families are asked one by one.
    names = client.get(f"{url}/api/v1/label/__name__/values", timeout=60).json()["data"]
    counted = [name for name in names if name.endswith("_total") and name.startswith(("mp_", "scheduler_"))]
    fallen = [name for name in counted if asked(f"sum(resets({name}[{window}])) > 0")]
    slow = asked(f"quantile_over_time(0.95, scrape_duration_seconds[{window}])")
    warnings = [
        line
        for line in log.read_text().splitlines()
        if "level=WARN" in line or "level=ERROR" in line or "level=warn" in line
    ]
    print(f"{scrapes} scrapes over {time.time() - began:.0f} s, {len(outages)} restarts of the API")
    print(f"failed: {failed}, of them not during a restart: {unexplained}")
    print(f"families of counters: {len(counted)}, fallen: {fallen}")
    print("p95 of a scrape:", {one["metric"]["job"]: f"{1000 * float(one['value'][1]):.0f} ms" for one in slow})
    print(f"warnings of Prometheus: {len(warnings)}", *warnings[:5], sep="\n")
    return int(bool(unexplained or fallen or warnings or not counted or scrapes <= failed))


if __name__ == "__main__":
    sys.exit(main())

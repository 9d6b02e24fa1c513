"""What the sensors cost while nothing happens: `mp up` with a real daemon and a real server, sensors on and off.

    python -m benchmarks.sensors                   # small: a minute of each
    python -m benchmarks.sensors --seconds 300

The schedules are stopped and the source stands still, so that no run is started: a run is not a sensor's cost. Counted is
the CPU time of the daemon and of the code server with all their children. The peer is the same two processes with the
sensors stopped as well, in the same run: what Dagster costs without any of ours.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

from benchmarks._common import machine, table, test_server
from benchmarks.alert_latency import DDL, end, site, start

REACH = 0.03
LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "monitoring_pipelines"}
LIST = """
query($of: RepositorySelector!) {
  sensorsOrError(repositorySelector: $of) { ... on Sensors { results { name sensorState { id status } } } }
  schedulesOrError(repositorySelector: $of) { ... on Schedules { results { name scheduleState { id status } } } }
  runsOrError { ... on Runs { results { status } } }
}"""
STOP_SENSOR = "mutation($id: String!) { stopSensor(id: $id) { __typename } }"
STOP_SCHEDULE = "mutation($id: String!) { stopRunningSchedule(id: $id) { __typename } }"
#: Fields of /proc/<pid>/stat after the name: parent, then user, system and reaped children's time (proc(5)).
PARENT, TIMES = 1, slice(11, 15)


def ask(url: str, query: str, **variables: Any) -> Any:
    """The data of a GraphQL answer; an error ends the benchmark."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        told = json.load(answer)
    if told.get("errors"):
        raise SystemExit(f"Dagster refused: {told['errors'][0]['message']}")
    return told["data"]


def stop(url: str, mutation: str, kind: str, state: str) -> int:
    """Stop all of a kind; how many there were."""
    found = ask(url, LIST, of=LOCATION)[kind]["results"]
    for one in found:
        ask(url, mutation, id=one[state]["id"])
    left = [one["name"] for one in ask(url, LIST, of=LOCATION)[kind]["results"] if one[state]["status"] == "RUNNING"]
    if left:
        raise SystemExit(f"still running: {', '.join(left)}")
    return len(found)


def services(supervisor: int) -> dict[str, int]:
    """Process of the daemon and of the code server, which `mp up` started."""
    found = {}
    for pid, fields in processes().items():
        if fields[PARENT] != str(supervisor):
            continue
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        for name, mark in (("daemon", "dagster._daemon"), ("code server", "code-server")):
            if mark in command:
                found[name] = pid
    if len(found) != 2:
        raise SystemExit(f"of daemon and code server only {found} were found")
    return found


def processes() -> dict[int, list[str]]:
    """Fields of every process after its name."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            found[int(file.parent.name)] = file.read_text().rpartition(")")[2].split()
    return found


def cpu_s(root: int) -> float:
    """CPU seconds of a process, its living descendants and those it has reaped."""
    known = processes()
    family, grown = {root}, True
    while grown:
        more = {pid for pid, fields in known.items() if int(fields[PARENT]) in family} - family
        family, grown = family | more, bool(more)
    ticks = sum(int(part) for pid in family if pid in known for part in known[pid][TIMES])
    return ticks / os.sysconf("SC_CLK_TCK")


def shares(of: dict[str, int], seconds: float) -> dict[str, float]:
    """Share of one core each process takes."""
    before, began = {name: cpu_s(pid) for name, pid in of.items()}, time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return {name: (cpu_s(pid) - before[name]) / took for name, pid in of.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--dsn", help="of a MySQL or MariaDB server; default: one is started")
    args = parser.parse_args()
    with test_server(args.dsn) as database, tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        database.execute(DDL)
        database.execute(
            "INSERT INTO tasks (task_id, endpoint, status, created_at, started_at, completed_at, updated_at) SELECT seq, "
            "CONCAT('e', seq % 20), 'DONE', t, t, t, t FROM (SELECT seq, UTC_TIMESTAMP(3) - INTERVAL seq SECOND AS t FROM seq_1_to_5000) AS s"
        )
        config = site(root, database.dsn, "http://127.0.0.1:9/nobody", [])
        running, url = start(config, root)
        try:
            return compare(running, url, args.seconds)
        finally:
            end(running)


def compare(running: Popen[bytes], url: str, seconds: float) -> int:
    """Measure with sensors, then without, and print both; 0 when the difference is within the reach."""
    time.sleep(150)  # two minute ticks, so that there is something to evaluate
    schedules = stop(url, STOP_SCHEDULE, "schedulesOrError", "scheduleState")
    until = time.monotonic() + 120
    while any(run["status"] in ("QUEUED", "STARTING", "STARTED", "NOT_STARTED") for run in runs(url)):
        if time.monotonic() > until:
            raise SystemExit("runs did not end")
        time.sleep(1)
    of, before = services(running.pid), len(runs(url))
    with_sensors = shares(of, seconds)
    started = len(runs(url)) - before
    sensors = stop(url, STOP_SENSOR, "sensorsOrError", "sensorState")
    time.sleep(10)
    without = shares(of, seconds)
    rows = [
        [name, f"{with_sensors[name]:.2%}", f"{without[name]:.2%}", f"{with_sensors[name] - without[name]:.2%}"]
        for name in of
    ]
    cost = sum(with_sensors.values()) - sum(without.values())
    rows.append(["together", f"{sum(with_sensors.values()):.2%}", f"{sum(without.values()):.2%}", f"{cost:.2%}"])
    load = os.getloadavg()
    print(
        f"{machine()}; load {load[0]:.1f}; {seconds:.0f} s each; {sensors} sensors; {schedules} schedules stopped; {started} runs began\n"
    )
    print(table(("share of one core", "sensors on", "sensors off", "the sensors"), rows))
    return 0 if cost <= REACH else 1


def runs(url: str) -> list[dict[str, Any]]:
    """All runs of the instance."""
    found: list[dict[str, Any]] = ask(url, LIST, of=LOCATION)["runsOrError"]["results"]
    return found


if __name__ == "__main__":
    sys.exit(main())

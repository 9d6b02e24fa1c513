"""A real Dagster: webserver and daemon as processes, spoken to through GraphQL as the UI does.

What belongs here: starting, asking, stopping. What does not: assertions.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monitoring_pipelines.cli.up import prepare_storage

ROOT = Path(__file__).parents[2]
MODULE = "monitoring_pipelines.definitions"
LOCATION = {"repositoryLocationName": "monitoring_pipelines", "repositoryName": "__repository__"}

#: Its children (code servers, runs) are stopped with it.
OWN_GROUP: dict[str, Any] = {"start_new_session": True}

LAUNCH = """
mutation($e: ExecutionParams!) { launchRun(executionParams: $e) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }
"""
BACKFILL = """
mutation($b: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $b) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""
BACKFILL_STATUS = """
query($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status error { message } } } }
"""
RUNS = """
query($f: RunsFilter) { runsOrError(filter: $f) { ... on Runs { results {
  runId status jobName startTime endTime tags { key value } } } } }
"""
PIDS = """
query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
  ... on MessageEvent { message } } } } }
"""
PARTITIONS = """
query($k: AssetKeyInput!) { assetNodeOrError(assetKey: $k) { ... on AssetNode {
  partitionStats { numMaterialized numFailed } } } }
"""

LOCATIONS = """
{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError {
  ... on RepositoryLocation { id } } } } } }
"""
RELOAD = 'mutation { reloadRepositoryLocation(repositoryLocationName: "monitoring_pipelines") { __typename } }'


@dataclass
class LiveDagster:
    """A running code server, webserver and daemon. ``commands``: arguments of Python by name."""

    url: str
    home: Path
    commands: dict[str, list[str]]
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start one of ``commands``; it leads a group of its own."""
        with (self.home / f"{name}.log").open("a") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *self.commands[name]],
                env=self.environment, cwd=self.home, stdout=log, stderr=log, **OWN_GROUP,
            )  # fmt: skip

    def kill(self, name: str) -> None:
        """kill -9 to one process and everything it started."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)

    def stop(self) -> None:
        """End what still runs."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                answer = json.loads(response.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error}: {error.read().decode()[-3000:]}; log: {self.log()}") from error
        if answer.get("errors"):
            raise AssertionError(answer["errors"])
        return answer["data"]

    def launch(self, job: str, **tags: str) -> str:
        """Start a job the way the launchpad does, without any configuration."""
        params = {
            "selector": {**LOCATION, "jobName": job},
            "runConfigData": {},
            "mode": "default",
            "executionMetadata": {"tags": [{"key": k, "value": v} for k, v in tags.items()]},
        }
        answer = self.ask(LAUNCH, e=params)["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]

    def backfill(self, assets: list[str], partitions: list[str]) -> str:
        """Start a backfill the way the asset page does."""
        params = {"assetSelection": [{"path": name.split("/")} for name in assets], "partitionNames": partitions}
        answer = self.ask(BACKFILL, b=params)["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return answer["backfillId"]

    def backfill_status(self, backfill_id: str) -> str:
        answer = self.ask(BACKFILL_STATUS, id=backfill_id)["partitionBackfillOrError"]
        assert not answer["error"], answer
        return answer["status"]

    def runs(self, **wanted: Any) -> list[dict[str, Any]]:
        return self.ask(RUNS, f=wanted)["runsOrError"]["results"]

    def run(self, run_id: str) -> dict[str, Any]:
        return self.runs(runIds=[run_id])[0]

    def pid(self, run_id: str) -> int | None:
        """Process id of a run, from what its executor said."""
        events = self.ask(PIDS, id=run_id)["logsForRun"]["events"]
        for event in events:
            message = event.get("message", "")
            if message.startswith("Executing steps in process (pid:"):
                return int(message.split("pid:")[1].strip(" )."))
        return None

    def materialized(self, asset: str) -> int:
        answer = self.ask(PARTITIONS, k={"path": asset.split("/")})["assetNodeOrError"]
        return answer["partitionStats"]["numMaterialized"]

    def wait(self, what: str, ready: Callable[[], Any], limit_s: float = 400.0) -> Any:
        """Poll until ``ready`` returns something true; the limit only ends a test that hangs."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            if result := ready():
                return result
            time.sleep(0.3)
        raise AssertionError(f"{what} did not happen within {limit_s} s; log: {self.log()}")

    def finished(self, run_id: str) -> str | None:
        status = self.run(run_id)["status"]
        return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None

    def log(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in sorted(self.home.glob("*.log")))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def live_dagster(home: Path, config: Path, now: str | None, added: str = "") -> Iterator[LiveDagster]:
    """Start code server, webserver and daemon on the repository's own dagster.yaml; ``now`` None: real time.

    ``added`` are lines that an operator appends to dagster.yaml.
    """
    home.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text() + added)
    port = free_port()
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "MP_CONFIG": str(config),
        "PYTHONPATH": str(ROOT),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        **({} if now is None else {"MP_NOW": now}),
    }
    code_port = free_port()
    (home / "workspace.yaml").write_text(
        f"load_from:\n  - grpc_server: {{host: 127.0.0.1, port: {code_port}, location_name: monitoring_pipelines}}\n"
    )
    workspace = ["-w", str(home / "workspace.yaml")]
    # One code server for both: with a module in its workspace the daemon starts a new one every minute.
    code = ["-m", "dagster", "api", "grpc", "-h", "127.0.0.1", "-p", str(code_port), "-m", MODULE]
    commands = {
        "code": [*code, "--use-python-environment-entry-point"],
        "webserver": ["-m", "dagster_webserver", "-h", "127.0.0.1", "-p", str(port), *workspace],
        "daemon": ["-m", "dagster._daemon", "run", *workspace],
    }
    prepare_storage(home)
    live = LiveDagster(f"http://127.0.0.1:{port}", home, commands, environment)
    try:
        for name in commands:
            live.start(name)
        live.wait("code location", lambda: _is_loaded(live))
        yield live
    finally:
        live.stop()


def _is_loaded(live: LiveDagster) -> bool:
    try:
        entries = live.ask(LOCATIONS)["workspaceOrError"]["locationEntries"]
    except OSError:
        return False
    # The code server may come up after the webserver, which then has to look again.
    if not any((entry["locationOrLoadError"] or {}).get("id") for entry in entries):
        live.ask(RELOAD)
        return False
    return True

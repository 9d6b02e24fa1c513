"""``mp demo`` and ``mp up`` as a user runs them: real processes, the UI in a real browser, and a clean end.

What belongs here: the commands from outside. What does not: what a run computes (``test_demo_truth``).
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest

from monitoring_pipelines_tests.support.browser import Browser

if TYPE_CHECKING:
    import requests

ROOT = Path(__file__).resolve().parents[2]
MP = [sys.executable, "-c", "from monitoring_pipelines.cli import main; main()"]


def environment(folder: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MP_", "DAGSTER"))}
    return {**clean, "PYTHONPATH": str(ROOT), "HOME": str(folder)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Running:
    process: subprocess.Popen[str]
    url: str
    folder: Path
    page_url: str

    def ask(self, query: str) -> dict:
        request = urllib.request.Request(
            f"{self.url}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]

    def page(self, path: str) -> str:
        """The page's DOM after its scripts ran, in headless Chromium."""
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        assert chromium, "Chromium is needed for this test"
        done = subprocess.run(
            [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--virtual-time-budget=45000", "--window-size=1600,1400", f"--user-data-dir={self.folder / 'browser'}",
             "--dump-dom", f"{self.url}{path}"],
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """``mp demo`` built in a folder of its own, then served by ``mp up``."""
    folder = tmp_path_factory.mktemp("ui")
    built = subprocess.run(
        [*MP, "demo", "--days", "0.15", "--load", "0.5", "--dir", str(folder / "demo"), "--no-serve"],
        cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    assert "waverless" in built.stdout
    port, page_port = free_port(), free_port()
    log = (folder / "up.log").open("w+")
    process = subprocess.Popen(
        [*MP, "--config", str(folder / "demo" / "monitoring.yaml"), "up", "--port", str(port),
         "--page-port", str(page_port)],
        cwd=folder, env=environment(folder), stdout=log, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        while "Dagster UI ready" not in (folder / "up.log").read_text():
            assert process.poll() is None, (folder / "up.log").read_text()
            assert time.monotonic() < deadline, (folder / "up.log").read_text()
            time.sleep(0.5)
        yield Running(process, f"http://127.0.0.1:{port}", folder, f"http://127.0.0.1:{page_port}")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=90)
        log.close()


def test_code_location_loads_with_assets_partitions_and_schedules(running: Running) -> None:
    """S-701: the location of an installed product is found without a workspace file."""
    data = running.ask(
        """{ assetNodes { assetKey { path } isPartitioned }
             repositoriesOrError { ... on RepositoryConnection { nodes { schedules { name } sensors { name } } } } }"""
    )
    partitioned = {"/".join(node["assetKey"]["path"]): node["isPartitioned"] for node in data["assetNodes"]}
    for grain in ("minute", "hourly", "daily"):
        assert partitioned[f"mart/endpoint_{grain}_stats"]
    assert not partitioned["raw/task"]
    nodes = data["repositoriesOrError"]["nodes"][0]
    assert nodes["schedules"]
    assert "dirty_hours_sensor" in {sensor["name"] for sensor in nodes["sensors"]}


def test_asset_page_shows_description_and_column_docs(running: Running) -> None:
    """Column descriptions of the SQL model are what a user reads in the browser."""
    dom = running.page("/assets/mart/endpoint_hourly_stats?view=overview")
    assert "endpoint_hourly_stats" in dom
    assert "avg_worker_utilization" in dom


def test_partitions_view_lists_hours(running: Running) -> None:
    """The partition view of the hourly statistics renders with its dimension."""
    dom = running.page("/assets/mart/endpoint_hourly_stats?view=partitions")
    assert "partition" in dom.lower()
    assert "endpoint_hourly_stats" in dom


#: A visible, enabled button or link whose text begins with the words.
BUTTON = (
    "words => [...document.querySelectorAll('button, a')].find(e => e.innerText.trim().startsWith(words) "
    "&& e.getClientRects().length && !e.disabled)"
)
DIALOG_INPUT = "[...document.querySelectorAll('[class*=ialog] input[type=text]')].find(e => e.placeholder.startsWith('No matching'))"


@dataclass
class Hand:
    """What somebody does with mouse and keyboard in the Dagster UI."""

    browser: Browser

    def wait(self, condition: str) -> None:
        deadline = time.monotonic() + 240
        while not self.browser.ask(f"Boolean({condition})"):
            assert time.monotonic() < deadline, (condition, self.browser.ask("document.body.innerText")[:2000])
            time.sleep(0.5)

    def press(self, words: str, until: str) -> None:
        """Press a button until something is so: a warning that comes meanwhile pushes it away from under the hand."""
        self.wait(f"({BUTTON})({words!r})")
        deadline = time.monotonic() + 240
        while not self.browser.ask(f"Boolean({until})"):
            assert time.monotonic() < deadline, (until, self.browser.ask("document.body.innerText")[:2000])
            place = self.browser.ask(
                f"(() => {{ const r = ({BUTTON})({words!r})?.getBoundingClientRect(); "
                "return r && [r.x + r.width / 2, r.y + r.height / 2] })()"
            )
            for kind in ("mouseMoved", "mousePressed", "mouseReleased") if place else ():
                self.browser.call(
                    "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
                )
            again = time.monotonic() + 15
            while time.monotonic() < again and not self.browser.ask(f"Boolean({until})"):
                time.sleep(0.5)

    def write(self, place: str, text: str) -> None:
        """Replace what stands in a field and press Enter; a page that has just loaded may put its own text back."""
        self.wait(place)
        deadline = time.monotonic() + 60
        while self.browser.ask(f"{place}.value") != text:
            assert time.monotonic() < deadline, self.browser.ask(f"{place}.value")
            self.browser.ask(f"(() => {{ const e = {place}; e.focus(); e.select(); }})()")
            self.browser.call("Input.insertText", text=text)
            time.sleep(0.5)
        for kind in ("keyDown", "keyUp"):
            self.browser.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13)


def test_a_backfill_started_by_hand_in_the_dialog_ends_well(running: Running, tmp_path: Path) -> None:
    """Materialize, a range, Launch: nothing else is asked for, all its hours are written, one run did it."""
    asset = "mart/endpoint_hourly_stats"
    keys = running.ask(
        '{ assetNodeOrError(assetKey: {path: ["mart", "endpoint_hourly_stats"]}) { ... on AssetNode { partitionKeys } } }'
    )["assetNodeOrError"]["partitionKeys"]
    first, last = keys[-4], keys[-2]
    with Browser.started(tmp_path, running.url) as browser:
        hand = Hand(browser)
        browser.size(1440, 1000)
        browser.open(f"/assets/{asset}?view=partitions")
        hand.press("Materialize", until=f"{DIALOG_INPUT} || ({BUTTON})('Confirm')")
        if not browser.ask(f"Boolean({DIALOG_INPUT})"):  # before the first tick Dagster knows no table of ours
            hand.press("Confirm", until=DIALOG_INPUT)
        hand.write(DIALOG_INPUT, f"[{first}...{last}]")
        hand.press(
            "Launch backfill", until="!document.querySelector('[class*=ialog]')?.innerText.includes('Launch runs')"
        )
    wanted = "{ partitionBackfillsOrError { ... on PartitionBackfills { results { id status partitionNames } } } }"
    deadline = time.monotonic() + 600
    while True:
        found = running.ask(wanted)["partitionBackfillsOrError"]["results"]
        if found and found[0]["status"].startswith("COMPLETED"):
            break
        assert time.monotonic() < deadline, found
        time.sleep(2)
    assert (found[0]["status"], found[0]["partitionNames"]) == ("COMPLETED_SUCCESS", keys[-4:-1])


def test_the_page_starts_a_job_through_dagster_and_its_administrator_switches_it(running: Running) -> None:
    """S-425, S-426: one run more in Dagster, with who started it; 404 for an unknown job, 409 for one of a mapped scheduler."""
    import requests

    session = requests.Session()
    session.trust_env = False
    base = f"{running.page_url}/api/v1/scheduler"
    assert session.get(f"{running.page_url}/", timeout=60).status_code == 401
    token = (running.folder / "demo" / "secrets" / "page.token").read_text().strip()
    session.headers["Authorization"] = f"Bearer {token}"
    assert session.get(f"{running.page_url}/", timeout=60).status_code == 200
    listed = session.get(f"{base}/jobs?scope=self", timeout=60).json()["data"]["jobs"]
    assert "maintenance_job" in {job["id"] for job in listed}
    assert session.post(f"{base}/jobs/no_such_job/trigger", timeout=60).status_code == 404
    mapped = session.get(f"{base}/jobs?scope=mapped", timeout=60).json()["data"]["jobs"][0]["id"]
    assert session.post(f"{base}/jobs/{mapped}/trigger", timeout=60).json()["reason"] == "not_triggerable"
    before = {job["id"]: job["next_run_time"] for job in listed}
    answer = session.post(f"{base}/jobs/maintenance_job/trigger", timeout=120)
    assert answer.status_code == 200, answer.text
    run_id = answer.json()["data"]["run_id"]
    found = running.ask(f'{{ runOrError(runId: "{run_id}") {{ ... on Run {{ jobName tags {{ key value }} }} }} }}')[
        "runOrError"
    ]
    assert found["jobName"] == "maintenance_job"
    assert {"key": "actor", "value": "demo"} in found["tags"]
    after = session.get(f"{base}/jobs?scope=self", timeout=60).json()["data"]["jobs"]
    assert {job["id"]: job["next_run_time"] for job in after}["maintenance_job"] == before["maintenance_job"]
    for action in ("disable", "enable"):
        done = session.post(f"{base}/jobs/batch", json={"action": action, "job_ids": ["maintenance_job"]}, timeout=60)
        assert (done.status_code, done.json()["data"]["succeeded"]) == (200, 1), done.text


def check_made_by_dagster(running: Running, session: requests.Session) -> dict[str, Any]:
    """The newest check run that a run of Dagster made: one is started when none was."""
    base = f"{running.page_url}/api/v1"
    started, deadline = False, time.monotonic() + 240
    while True:
        runs = session.get(f"{base}/checks/runs?page_size=500", timeout=60).json()["data"]["items"]
        for run in runs:
            if run["dagster_run_id"] and run["status"] != "running":
                return dict(run)
        if not started:
            answer = session.post(f"{base}/scheduler/jobs/quick_check_job/trigger", timeout=120)
            started = answer.status_code == 200
        assert time.monotonic() < deadline, runs
        time.sleep(2)


def test_links_of_pages_into_dagster_open_what_they_name(running: Running) -> None:
    """Job, runs by tag, partitions and asset checks: in the browser each link ends where it says and not at a list of everything."""
    import requests

    session = requests.Session()
    session.trust_env = False
    token = (running.folder / "demo" / "secrets" / "page.token").read_text().strip()
    session.headers["Authorization"] = f"Bearer {token}"
    run = check_made_by_dagster(running, session)
    kind, made_by = run["type"], run["dagster_run_id"]
    table = "/assets/mart/endpoint_hourly_stats"
    matrix = session.get(f"{running.page_url}/partitions?lang=en", headers={"Accept": "text/html"}, timeout=60).text
    cell = f"{table}?view=partitions&partition="
    prefix = re.escape(f'"><a href="{running.url}{html.escape(cell)}')
    partition = re.findall(rf'title="[^"]*: computed[^"]*{prefix}([^"]+)"', matrix)[-1]
    expected = {
        "/consistency": {"/guess/full_check_job": ("/jobs/full_check_job", "full_check_job")},
        "/scheduler-monitoring/jobs/maintenance_job?source=_self": {
            "/guess/maintenance_job": ("/jobs/maintenance_job", "maintenance_job")
        },
        f"/checks/{run['run_id']}": {
            f"/runs/{made_by}": (f"/runs/{made_by}", f"{kind}_check_job"),
            f"/runs?q%5B0%5D=tag%3Atype%3D{kind}_check": ("/runs", f"type={kind}_check"),
        },
        "/partitions": {
            f"{table}?view=checks": (table, "averages_and_order"),
            f"{table}?view=partitions": (table, "partitions"),
            # The list on the left has every key; above its details stands the one that is open.
            f"{cell}{partition}": (table, f"{partition}\nlatest materialization"),
        },
    }  # fmt: skip
    with Browser.started(running.folder / "links", running.url) as browser:
        browser.size(1440, 1000)
        for page, links in expected.items():
            answer = session.get(f"{running.page_url}{page}", headers={"Accept": "text/html"}, timeout=60)
            assert answer.status_code == 200, page
            for link, (path, shown) in links.items():
                assert f'href="{running.url}{html.escape(link)}"' in answer.text, (page, link)
                browser.open(link)
                found, deadline = ("", ""), time.monotonic() + 60
                while not (found[0].endswith(path) and shown in found[1]):
                    assert time.monotonic() < deadline, (page, link, found)
                    time.sleep(0.5)
                    found = tuple(
                        browser.ask("[decodeURIComponent(location.pathname), document.body.innerText.toLowerCase()]")
                    )


def test_the_launchpad_a_page_links_to_has_our_job_and_its_configuration_filled_in(running: Running) -> None:
    """Nothing is left to be typed: source and hours of the plan stand in the editor, which finds no fault with them."""
    import requests
    import yaml

    session = requests.Session()
    session.trust_env = False
    token = (running.folder / "demo" / "secrets" / "page.token").read_text().strip()
    session.headers["Authorization"] = f"Bearer {token}"
    page = session.get(f"{running.page_url}/repair", headers={"Accept": "text/html"}, timeout=60).text
    job = "plan_compensation_job"
    links = re.findall(rf'href="{re.escape(running.url)}([^"]*/jobs/{job}/playground/setup[^"]*)"', page)
    assert links
    link = html.unescape(links[0])
    filled = yaml.safe_load(parse_qs(urlsplit(link).query)["config"][0])["ops"]["plan"]["config"]
    wanted = [f"{name}: {value}" for name, value in filled.items()]
    assert [line.partition(":")[0] for line in wanted] == ["source_id", "hours"]
    with Browser.started(running.folder / "launchpad", running.url) as browser:
        browser.size(1440, 1000)
        browser.open(link)
        hand = Hand(browser)
        hand.wait("location.pathname.endsWith('/playground')")
        editor = "[...document.querySelectorAll('.CodeMirror')].map(e => e.CodeMirror.getValue()).join()"
        for line in wanted:
            hand.wait(f"({editor}).includes({line!r})")
        assert browser.ask("location.pathname").endswith(f"/jobs/{job}/playground")
        assert job in browser.ask("document.body.innerText")
        hand.wait(f"({BUTTON})('Launch Run')")  # enabled: Dagster has read the configuration and can start with it


def test_every_job_the_page_starts_ends_well(running: Running) -> None:
    """S-425: a job of partitions works on its newest one; one that must be told a plan or a source says so and is refused."""
    import requests

    session = requests.Session()
    session.trust_env = False
    token = (running.folder / "demo" / "secrets" / "page.token").read_text().strip()
    session.headers["Authorization"] = f"Bearer {token}"
    base = f"{running.page_url}/api/v1/scheduler/jobs"
    for job in ("apply_compensation_job", "first_load_job"):
        refused = session.post(f"{base}/{job}/trigger", timeout=60)
        assert (refused.status_code, refused.json()["reason"].partition("_")[0]) == (409, "needs"), refused.text
    question = '{{ runOrError(runId: "{}") {{ ... on Run {{ status }} }} }}'
    for job in ("reconciliation_job", "hourly_stats_job", "daily_stats_job", "quick_check_job"):
        started = session.post(f"{base}/{job}/trigger", timeout=120)
        assert started.status_code == 200, (job, started.text)
        run, deadline = started.json()["data"]["run_id"], time.monotonic() + 600
        while (status := running.ask(question.format(run))["runOrError"]["status"]) not in ("SUCCESS", "FAILURE"):
            assert time.monotonic() < deadline, (job, status)
            time.sleep(2)
        assert status == "SUCCESS", job


def test_the_product_samples_its_own_processes(running: Running) -> None:
    """Each process of `mp up` by name, with figures that can be; the one that samples also counts its objects."""
    from sqlalchemy import select

    from monitoring_pipelines.config import load_settings
    from monitoring_pipelines.state import StateStore, tables

    state = StateStore.of(load_settings(running.folder / "demo" / "monitoring.yaml"))
    table, found = tables.collected, {}
    wanted = {"dagster-daemon", "dagster-webserver", "api", "supervisor", "host"}
    deadline = time.monotonic() + 400
    while not wanted <= set(found):
        assert time.monotonic() < deadline, sorted(found)
        with state.read() as con:
            query = select(table).where(table.c.source_id == "_self", table.c.entity == "process_sample")
            found = {row["key"]: row["row"] for row in con.execute(query.order_by(table.c.at)).mappings()}
        time.sleep(1)
    state.dispose()
    family = {p.pid: p for p in psutil.Process(running.process.pid).children(recursive=True)}
    assert set(found) - wanted, "and the code server"
    assert len(found) - 2 <= len(family), "no run is a process of its own in the statistics"
    for name in found.keys() - {"host"}:
        figures = found[name]
        assert figures["rss_bytes"] > 10_000_000, name
        assert 0 < figures["fds"] <= figures["fds_max"], name
        assert figures["threads"] >= 1, name
    assert [name for name, figures in found.items() if figures.get("objects")], (
        "garbage collector of the sampling process"
    )


def test_second_command_on_the_same_home_is_refused(running: Running) -> None:
    """Exit code 4 and the other's process number."""
    other = subprocess.run(
        [*MP, "--config", str(running.folder / "demo" / "monitoring.yaml"), "up", "--port", str(free_port())],
        env=environment(running.folder), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert other.returncode == 4
    assert f"process {running.process.pid}" in other.stderr


def test_taken_port_ends_the_command_at_once(running: Running) -> None:
    """Exit code 2; the message names port and option."""
    port = running.url.rsplit(":", 1)[1]
    other = subprocess.run(
        [*MP, "demo", "--port", port, "--page-port", str(free_port()), "--dir", str(running.folder / "other")],
        env=environment(running.folder), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert other.returncode == 2
    assert f"port {port}" in other.stderr
    assert "--port" in other.stderr
    assert not (running.folder / "other").exists()


def test_zz_sigint_ends_everything_with_code_0(running: Running) -> None:
    """Ctrl-C: no process of the command, its servers or their helpers is left. Runs last: it ends the fixture."""
    family = psutil.Process(running.process.pid).children(recursive=True)
    assert len(family) >= 2
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(timeout=90) == 0
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not [process.cmdline() for process in alive if process.is_running()]
    told = (running.folder / "up.log").read_text()
    assert told[told.index("Ending; ") :].splitlines()[1:] == ["all processes have ended"]
    logs = running.folder / "demo" / "logs"
    assert "page ready: " in (logs / "monitoring.log").read_text(), "S-502"
    assert "Dagster UI ready: " in (logs / "scheduler.log").read_text()

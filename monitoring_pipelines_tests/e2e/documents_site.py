"""A platform of one day with lost outputs, and a reader who runs the documents' commands on it.

What belongs here: what stands behind each name in capitals. What does not: which commands are run, and expectations.
"""

from __future__ import annotations

import os
import re
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from monitoring_pipelines.alerts import engine
from monitoring_pipelines.cli.app import run
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.compensation.grants import create_journal
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.demo import SMALL, generate, world
from monitoring_pipelines.demo.first_run import first_run
from monitoring_pipelines.demo.layout import prepare_folder, write_configuration
from monitoring_pipelines.demo.result_api import serve as serve_results
from monitoring_pipelines.state import StateStore
from monitoring_pipelines.state.expectations import listed
from monitoring_pipelines_tests.e2e.conftest import Served, lost, start_server
from monitoring_pipelines_tests.support.documented import ROOT
from monitoring_pipelines_tests.support.prometheus_server import alertmanager, prometheus

#: Half past nine in the demo's zone: a day of few hours, so that computing a day again is quick.
NOW = datetime(2026, 3, 10, 1, 30)
TODAY, TOMORROW = "2026-03-10", "2026-03-11"
_HISTORY_DAYS = 0.25
_SCALE = replace(SMALL, endpoints=1, workers=2, tasks_per_minute=1.0, tktool_tasks_per_day=200, scheduler_jobs=2)


@contextmanager
def served_site(root: Path) -> Iterator[Served]:
    """The workflow platform and the collector of the demo, loaded, checked and served; results can be asked for."""
    folder = prepare_folder(root, 7, _HISTORY_DAYS, NOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "_TKTOOL_DAYS", _HISTORY_DAYS)
        generate(_HISTORY_DAYS, 7, NOW, scale=_SCALE, folder=folder.source).world.close()
    write_configuration(folder, NOW, days=_HISTORY_DAYS)
    head, sources = re.sub(r"(?<=start: )[\d-]+", TODAY, folder.config.read_text()).split("sources:\n")
    kept = [
        block
        for block in re.split(r"(?=^  - id: )", sources, flags=re.MULTILINE)
        if re.match(r"  - id: (tktool|collector)", block)
    ]
    folder.config.write_text(f"{head}sources:\n{''.join(kept)}")
    settings, clock = load_settings(folder.config), FixedClock(NOW)
    create_journal(settings, str(settings.source("tktool").repair_dsn()))
    pipe = first_run(settings, clock, lambda _line: None).pipe
    engine.tick(pipe, StateStore.of(settings), NOW)
    results = serve_results(next(one.base_url for one in settings.repair.recoverers if one.base_url))
    url, stop = start_server(settings, clock)
    try:
        yield Served(url, settings, folder.page_token.read_text().strip(), folder.config)
    finally:
        stop()
        if results is not None:
            results.stop()


@contextmanager
def watchers(root: Path) -> Iterator[dict[str, str]]:
    """Addresses of the documents → those of a Prometheus with the shipped rules and of the Alertmanager it reports to."""
    root.mkdir()
    (root / "alerts.yml").write_text((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    routes = (ROOT / "deploy" / "alertmanager" / "alertmanager.yml").read_text()
    (root / "alertmanager.yml").write_text(routes.replace("127.0.0.1:8060", "127.0.0.1:9"))  # nobody's bridge is told
    with alertmanager(root, root / "alertmanager.yml") as receiving:
        (root / "prometheus.yml").write_text(
            "global: {evaluation_interval: 1s}\nrule_files: [alerts.yml]\n"
            f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{receiving}']}}]}}]}}\n"
        )
        with prometheus(root, root / "prometheus.yml") as sending:
            yield {"127.0.0.1:9090": sending, "127.0.0.1:9093": receiving}


@dataclass
class Reader:
    """Runs lines as somebody would who puts his own names in."""

    served: Served
    addresses: dict[str, str]
    pid: int
    known: dict[str, str] = field(default_factory=dict)
    #: Lines that were run, names filled in, and what came of them.
    done: dict[str, tuple[int, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known = {
            "ALERT": lost(self.served)["alert_id"], "DIR": "out", "FOLDER": "boards", "SOURCE": "tktool",
            "shop": "tktool", "DAY": TODAY, "NEXT_DAY": TOMORROW, "ENDPOINT": "wf-upscale", "CHANNEL": "messages",
            "PID": str(self.pid), "DATA": str(self.served.settings.data_path), "URL": f"{self.served.url}/health/live",
        }  # fmt: skip

    def run(self, line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
        """Exit code, and what was said; what is run by now is not run again."""
        own = self.filled(line)
        if own not in self.done:
            self.done[own] = self.run_filled(own, capsys)
        return self.done[own]

    def ask(self, line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
        """The same, run now."""
        return self.run_filled(self.filled(line), capsys)

    def filled(self, line: str) -> str:
        """The line with names and addresses of what is there."""
        own = re.sub(r"\b[A-Z_]{3,}\b", lambda found: self.known.get(found[0], found[0]), self.particular(line))
        for theirs, ours in self.addresses.items():
            own = own.replace(theirs, ours)
        return own

    def run_filled(self, own: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
        """A line without names in capitals."""
        if not re.match(r"(\w+='[^']*' )?mp ", own):
            return self.shell(own)
        words = [self.known.get(word, word) for word in shlex.split(own[own.index("mp ") :])[1:]]
        capsys.readouterr()
        code = run(["--config", str(self.served.config), "--now", f"{NOW.isoformat()}Z", *words])
        out, err = capsys.readouterr()
        self.remember(words, out)
        return code, out + err

    def particular(self, line: str) -> str:
        """Names that mean different things in different commands."""
        if "approve" in line:
            return line.replace("NAME", "anna")
        if "targets retire" in line:
            return line.replace("NAME", "collector-okx").replace("PROCESS/SERIES", self.series())
        if line.startswith("mp load-test"):
            return f"mp load-test --url {self.served.url} --token-env MP_TOKEN_GRAFANA --clients 2 --seconds 0.5"
        if line.startswith("top "):
            return line.replace("top ", "top -b -n 1 ")  # it has no terminal here
        if line.startswith("mp rebuild"):
            return "mp rebuild --from DAY --to NEXT_DAY"  # an example's days are the reader's own
        if line.startswith("mp check-integrity --split-date "):
            return "mp check-integrity --split-date DAY"
        if line.startswith("prlimit "):  # more than the hard limit takes rights that a test may lack
            return line.replace("65536", str(resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        if line.startswith("mount "):
            return line.replace("DATA", "/")  # what holds the folder is a mount point
        if line.startswith("curl "):  # a page that is not there is an error, a busy machine is none
            return re.sub(r"--max-time \d+", "--max-time 90", line.replace("curl ", "curl --fail "))
        return line

    def series(self) -> str:
        """A series of a process that is expected to go on."""
        rows = listed(StateStore.of(self.served.settings), self.served.settings, NOW, "series", None)
        return str(rows[0]["name"])

    def shell(self, line: str) -> tuple[int, str]:
        """A line that is not ours, in the folder of the configuration, with our Python first.

        The code is that of the first stage of a pipe that failed. A stage in front that has nothing to hand on has not
        failed (``grep``), nor has one that may not read the kernel's log, or whose reader had read enough.
        """
        search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", f'{line}\necho "${{PIPESTATUS[*]}}" >&2'], cwd=self.served.config.parent, input="",
            capture_output=True, text=True, check=False, timeout=180,
            env={**os.environ, "PATH": search, "COLUMNS": "200", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        said = done.stdout + done.stderr
        if done.returncode:  # not understood by the shell
            return done.returncode, said
        stages, codes = line.split(" | "), [int(code) for code in done.stderr.splitlines()[-1].split()]
        for stage, code in zip(stages, codes, strict=True):
            nothing = code == 1 and stage is not stages[-1] and stage.startswith(("grep ", "dmesg"))
            if code not in (0, 128 + signal.SIGPIPE) and not nothing:
                return code, said
        return 0, said

    def remember(self, words: list[str], out: str) -> None:
        """Ids that later lines speak of."""
        ids = re.findall(r"\b01[0-9A-HJKMNP-TV-Z]{24}\b", out)
        if words[:2] == ["repair", "plan"] and ids:
            self.known["PLAN"] = ids[0]
            items = self._get(f"/api/v1/repair/plans/{ids[0]}/items?page_size=2")["items"]
            self.known["TASK"], self.known["KEY"] = items[0]["task_key"], items[-1]["task_key"]
        if words[:2] == ["repair", "apply"]:
            self.known["RUN"] = self._get(f"/api/v1/repair/plans/{self.known['PLAN']}")["runs"][-1]["run_id"]
        if words[:2] == ["alerts", "silence"] and ids:
            self.known["SILENCE"] = ids[0]

    def _get(self, path: str) -> Any:
        answer = self.served.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

"""Every command of the documents is run, in the order in which it stands there, on a platform with faults.

What belongs here: that the lines work as they are written. What does not: what they compute.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from monitoring_pipelines.cli.app import run
from monitoring_pipelines_tests.e2e.conftest import NOW, Served, lost
from monitoring_pipelines_tests.support.mysql_server import TestDatabase
from monitoring_pipelines_tests.support.source_tables import WAVERLESS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    "README.md", "README.zh-CN.md", "CONTRIBUTING.md", "docs/operations.md", "docs/runbooks/README.md",
    "docs/runbooks/zh-CN/README.md",
)  # fmt: skip
#: They serve until they are ended: ``test_dagster_ui`` and ``test_load_test`` run them.
SERVING = {"up", "serve", "demo"}
#: What stands for something of the reader's own → what it is here.
OURS = {"shop": "tktool", "endpoint_minute_stats.queue_depth_end": "endpoint_minute_stats.queue_depth_end"}


def lines_of(name: str) -> list[str]:
    """Command lines of a document in its order: lines of shell blocks and inline ones that begin with ``mp``."""
    text = (ROOT / name).read_text("utf-8")
    found: list[str] = []
    for block, inline in re.findall(r"```sh\n(.*?)```|`((?:mp|make) [^`]+)`", text, re.DOTALL):
        for line in (block or inline).splitlines():
            for part in line.split("  #")[0].split(" && "):
                plain = re.sub(r"^\s*(?:\w+='?[^ ']*'?\s+)*(?=mp |make )", "", part).strip()
                if plain.startswith(("mp ", "make ")) and "…" not in plain:
                    found.append(plain)
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_targets_of_make_exist(name: str) -> None:
    for line in lines_of(name):
        if line.startswith("make "):
            done = subprocess.run(
                ["make", "-n", *shlex.split(line)[1:]], cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, (line, done.stderr)


def test_the_three_lines_of_the_readme_lead_from_a_schema_to_a_valid_configuration(
    mariadb_db: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mariadb_db.script(WAVERLESS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MP_CONFIG", raising=False)
    monkeypatch.setenv("PLATFORM_DSN", mariadb_db.dsn)
    wanted = [line for line in lines_of("README.md") if line.startswith(("mp init", "mp validate", "mp up"))]
    assert wanted[:3] == ["mp init --dsn-env PLATFORM_DSN", "mp validate", "mp up"]
    for line in wanted[:2]:
        assert run(shlex.split(line)[1:]) == 0, (line, capsys.readouterr())


class Reader:
    """Runs lines as somebody would who puts his own names in."""

    def __init__(self, served: Served, folder: Path) -> None:
        self.served, self.folder = served, folder
        self.known = {"ALERT": lost(served)["alert_id"], "NAME": "anna", "DIR": str(folder / "out")}

    def words(self, line: str) -> list[str]:
        words = shlex.split(line)[1:]
        if words[:2] == ["targets", "retire"] and "--kind" not in words:
            words[2] = "collector-okx"
        return [self.known.get(word, OURS.get(word, word)) for word in words]

    def run(self, line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
        words = self.words(line)
        if words[0] == "load-test" and "--url" not in words:
            words = ["load-test", "--url", self.served.url, "--token-env", "MP_TOKEN_GRAFANA", "--seconds", "1"]
        capsys.readouterr()
        code = run(["--config", str(self.served.config), "--now", f"{NOW.isoformat()}Z", *words])
        out, err = capsys.readouterr()
        self._remember(words, out)
        return code, out + err

    def _remember(self, words: list[str], out: str) -> None:
        """Ids that later lines speak of."""
        ids = re.findall(r"\b01[0-9A-HJKMNP-TV-Z]{24}\b", out)
        if words[:2] == ["repair", "plan"] and ids:
            self.known["PLAN"] = ids[0]
            for item in self._get(f"plans/{ids[0]}/items?page_size=1")["items"]:
                self.known["TASK"] = self.known["KEY"] = item["task_key"]
        if words[:2] == ["repair", "apply"]:
            self.known["RUN"] = self._get(f"plans/{self.known['PLAN']}")["runs"][-1]["run_id"]
        if words[:2] == ["alerts", "silence"] and ids:
            self.known["SILENCE"] = ids[0]

    def _get(self, path: str) -> Any:
        answer = self.served.get(f"/api/v1/repair/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if not name.startswith("README")])
def test_commands_of_a_document_run_as_they_are_written(
    demo: Served, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0, or 1 where findings or failed items are what there is to say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MP_TOKEN_GRAFANA", demo.token)
    monkeypatch.setenv("INIT_DSN", str(demo.settings.source("tktool").repair_dsn()))
    reader = Reader(demo, tmp_path)
    wrong = []
    for line in lines_of(name):
        if line.startswith("make ") or shlex.split(line)[1] in SERVING:
            continue
        code, said = reader.run(line, capsys)
        if code not in (0, 1) or "internal error" in said:
            wrong.append(f"{line}  [{code}]\n{said[-600:]}")
    assert not wrong, "\n\n".join(wrong)

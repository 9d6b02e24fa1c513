"""Log files of the running product: two files, whole lines, rotation, no secrets, LOG_LEVEL (S-502)."""

from __future__ import annotations

import logging

import pytest

from monitoring_pipelines.cli import logfiles
from monitoring_pipelines.cli.app import run
from monitoring_pipelines.config.secrets import remember


def read(folder, name) -> list[str]:
    return [line.split("Z ", 1)[1] for line in (folder / name).read_text("utf-8").splitlines()]


def test_lines_of_dagster_and_of_the_service_go_into_their_files(tmp_path):
    files = logfiles.LogFiles(tmp_path / "logs")
    for line in ("page      | a | b", "daemon    | \x1b[31mbad\x1b[0m", "code      | c", "all processes have ended"):
        files.write(line)
    files.close()
    assert read(tmp_path / "logs", "monitoring.log") == ["page      | a | b", "all processes have ended"]
    assert read(tmp_path / "logs", "scheduler.log") == ["daemon    | bad", "code      | c"]


def test_files_rotate_and_the_oldest_go(tmp_path, monkeypatch):
    assert (logfiles.MOST_BYTES, logfiles.MOST_FILES) == (20_000_000, 10)
    monkeypatch.setattr(logfiles, "MOST_BYTES", 1000)
    monkeypatch.setattr(logfiles, "MOST_FILES", 3)
    files = logfiles.LogFiles(tmp_path)
    for n in range(400):
        files.write(f"page      | line {n}")
    files.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["monitoring.log", *(f"monitoring.log.{n}" for n in (1, 2, 3))]
    assert read(tmp_path, "monitoring.log")[-1] == "page      | line 399"


def test_no_secret_reaches_a_file(tmp_path):
    remember("tok-0815-secret")
    files = logfiles.LogFiles(tmp_path)
    files.write("page      | posting to http://h/?access_token=tok-0815-secret, mysql://mp:pass-word@db/x")
    files.close()
    text = (tmp_path / "monitoring.log").read_text()
    assert "tok-0815" not in text
    assert "pass-word" not in text


def test_a_folder_that_cannot_be_written_ends_nothing(tmp_path):
    (tmp_path / "monitoring.log").mkdir()
    files = logfiles.LogFiles(tmp_path)
    files.write("page      | x")
    files.close()


@pytest.mark.parametrize("supervised", [True, False])
def test_a_page_of_its_own_writes_the_service_log_a_supervised_one_leaves_it_to_its_supervisor(
    tmp_path, monkeypatch, supervised
):
    monkeypatch.delenv(logfiles.SUPERVISED, raising=False)
    if supervised:
        monkeypatch.setenv(logfiles.SUPERVISED, "1")
    root, before = logging.getLogger(), list(logging.getLogger().handlers)
    try:
        logfiles.add_service_log(tmp_path)
        logging.getLogger("x").warning("here")
    finally:
        root.handlers[:] = before
    assert (tmp_path / "monitoring.log").exists() is not supervised


def test_log_level_comes_from_the_environment_too(tmp_path, monkeypatch, capsys):
    root, before = logging.getLogger(), (list(logging.getLogger().handlers), logging.getLogger().level)
    try:
        monkeypatch.setenv("LOG_LEVEL", "INFO")
        assert run(["ddl", "job_run", "--dialect", "sqlite"]) == 0
        assert root.level == logging.INFO
        assert run(["--log-level", "error", "ddl", "job_run", "--dialect", "sqlite"]) == 0
        assert root.level == logging.ERROR
        monkeypatch.setenv("LOG_LEVEL", "loud")
        assert run(["ddl", "job_run", "--dialect", "sqlite"]) == 2
        assert "LOG_LEVEL is 'loud'" in capsys.readouterr().err
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])

"""``mp demo`` and ``mp up`` around their work: folders, options, single instance, defaults.

What belongs here: what happens before and around the servers. What does not: a running Dagster (``e2e``).
"""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from monitoring_pipelines.cli.demo import demo
from monitoring_pipelines.cli.up import default_instance_file, one_instance, prepare
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.demo import SMALL, World
from monitoring_pipelines.demo.layout import (
    earlier_demo,
    mark_reached,
    mark_ready,
    prepare_folder,
    write_configuration,
)
from monitoring_pipelines.demo.world import sqlite_writers
from monitoring_pipelines.errors import ConfigError, UsageError, WarehouseBusy

NOW = datetime(2026, 3, 10, 4, 30)


def test_folder_with_foreign_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A demo never removes what it did not write."""
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="not a demo directory"):
        prepare_folder(tmp_path, 1, 1.0, NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_earlier_demo_is_replaced_but_foreign_files_in_it_stay(tmp_path: Path) -> None:
    """A second demo starts from nothing; a note somebody put into the folder survives."""
    folder = prepare_folder(tmp_path / "demo", 1, 1.0, NOW)
    (folder.source / "old.db").write_text("old")
    (folder.root / "note.txt").write_text("mine")
    prepare_folder(tmp_path / "demo", 2, 1.0, NOW)
    assert not (folder.source / "old.db").exists()
    assert (folder.root / "note.txt").read_text() == "mine"


def test_configuration_uses_the_presets_and_resolves_every_dsn(tmp_path: Path) -> None:
    """E-006: the DSN lies in a file only its owner may read, not in the configuration."""
    folder = prepare_folder(tmp_path / "demo", 1, 1.0, NOW)
    write_configuration(folder, NOW)
    settings = load_settings(folder.config)
    assert [source.id for source in settings.sources] == ["waverless", "tktool", "tts", "scheduler", "collector"]
    assert settings.source("tktool").read_dsn() == f"sqlite:///{folder.source}/tktool.db"
    assert "sqlite:" not in folder.config.read_text()
    for secret in (folder.root / "secrets").iterdir():
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_configuration_for_a_server_names_the_schema_of_every_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five platforms on one server stay apart; the password is nowhere in the demo directory."""
    dsn = "mysql://demo:top-secret@127.0.0.1:3307/shop"
    monkeypatch.setenv("DEMO_DSN", dsn)
    folder = prepare_folder(tmp_path / "demo", 1, 1.0, NOW)
    write_configuration(folder, NOW, ("DEMO_DSN", dsn))
    settings = load_settings(folder.config)
    assert settings.source("tktool").tables["task"][0].table == "shop_tktool.tasks"
    assert settings.source("waverless").read_dsn() == dsn
    assert not [path for path in folder.root.rglob("*") if path.is_file() and "top-secret" in path.read_text()]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"days": 0.0}, "--days"), ({"load": 1000.0}, "--load"), ({"port": 0}, "not a port number"),
     ({"mysql_dsn_env": "MP_NO_SUCH_VARIABLE", "serve": False}, "MP_NO_SUCH_VARIABLE is not set")],
)  # fmt: skip
def test_senseless_options_are_refused_before_any_work(tmp_path: Path, options: dict, words: str) -> None:
    """Exit code 2, a message that names the option, and no folder."""
    with pytest.raises(UsageError, match=words) as caught:
        demo(dir=tmp_path / "demo", **options)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "demo").exists()


def test_up_needs_a_configuration(tmp_path: Path) -> None:
    """The error says which file is missing."""
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        prepare(tmp_path / "nowhere.yaml", None)


def test_dagster_home_gets_the_shipped_instance_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An absent dagster.yaml is supplied; one that the operator changed is left alone."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    folder = prepare_folder(tmp_path / "demo", 1, 1.0, NOW)
    write_configuration(folder, NOW)
    config, home = prepare(folder.config, None)
    assert config == folder.config
    assert home == folder.root / "data" / "dagster"
    assert (home / "dagster.yaml").read_bytes() == default_instance_file().read_bytes()
    (home / "dagster.yaml").write_text("# mine\n")
    prepare(folder.config, None)
    assert (home / "dagster.yaml").read_text() == "# mine\n"


def test_two_instances_on_one_home_are_refused(tmp_path: Path) -> None:
    """Two daemons would start every run twice; the second command ends with code 4."""
    with one_instance(tmp_path):
        with pytest.raises(WarehouseBusy) as caught, one_instance(tmp_path):
            pass
        assert caught.value.exit_code == 4
    with one_instance(tmp_path):
        pass


@pytest.mark.parametrize("home", ["dagster", "data/dagster"], ids=["of mp demo", "of mp up"])
def test_a_demo_that_is_served_is_not_replaced(tmp_path: Path, home: str) -> None:
    """Its folder stays as it is, whichever command serves it."""
    folder = prepare_folder(tmp_path / "demo", 1, 1.0, NOW)
    write_configuration(folder, NOW)
    (folder.root / home).mkdir(parents=True, exist_ok=True)
    before = folder.config.read_bytes()
    with one_instance(folder.root / home), pytest.raises(WarehouseBusy):
        demo(days=0.05, dir=folder.root, serve=False)
    assert folder.config.read_bytes() == before


def test_finished_demo_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """The rows of a world that was stopped, killed after its last note and continued are those of one that was not."""
    scale = replace(SMALL, platform_only=False)
    until = NOW + timedelta(minutes=30)
    straight = World(0.1, 3, scale, NOW, sqlite_writers(tmp_path / "straight"))
    straight.create()
    straight.generate(NOW)
    straight.advance(until)
    straight.close()
    folder = prepare_folder(tmp_path / "demo", 3, 0.1, NOW)
    options = {"days": 0.1, "seed": 3, "load": 1.0}
    assert earlier_demo(folder.root, options, until) is None  # its first run is not complete
    mark_ready(folder, options)
    stopped = World(0.1, 3, scale, NOW, sqlite_writers(folder.source))
    stopped.create()
    stopped.generate(NOW)
    stopped.advance(NOW + timedelta(minutes=10))
    mark_reached(folder, stopped.now)
    stopped.advance(NOW + timedelta(minutes=12))
    stopped.close()

    found = earlier_demo(folder.root, options, until)
    assert found is not None
    assert (found.now, found.reached) == (NOW, NOW + timedelta(minutes=10))
    again = World(0.1, 3, scale, found.now, sqlite_writers(folder.source, again=True))
    again.replay(found.reached)
    again.advance(until)
    again.close()
    for database in ("waverless", "tktool", "tts", "scheduler", "collector"):
        assert rows_of(folder.source / f"{database}.db") == rows_of(tmp_path / "straight" / f"{database}.db")
    assert earlier_demo(folder.root, {**options, "seed": 4}, until) is None
    assert earlier_demo(folder.root, options, until + timedelta(days=3)) is None


def rows_of(path: Path) -> dict[str, list[tuple]]:
    with contextlib.closing(sqlite3.connect(path)) as con:
        names = [row[0] for row in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables = [name for name in names if not name.startswith("sqlite_")]
        return {name: sorted(con.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr) for name in tables}

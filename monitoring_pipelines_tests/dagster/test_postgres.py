"""Dagster and the state store on a real PostgreSQL server, set up with the very blocks of the operations guide.

What belongs here: that what the guide says works. What does not: the state store by itself (``state``, ``alerts``).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import select

from monitoring_pipelines.cli.app import run
from monitoring_pipelines.cli.up import prepare_storage
from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.state import StateStore
from monitoring_pipelines.state.migrate import HEAD, current
from monitoring_pipelines.state.tables import silence
from monitoring_pipelines_tests.dagster.conftest import NOW, Site
from monitoring_pipelines_tests.dagster.live import ROOT, LiveDagster, live_dagster
from monitoring_pipelines_tests.support.postgres_server import PostgresServer, find_binary

pytestmark = pytest.mark.timeout(900)
GUIDE = (ROOT / "docs" / "operations.md").read_text("utf-8")
SECTION = GUIDE.split("\n## PostgreSQL\n", 1)[1].split("\n## ", 1)[0]


def blocks(kind: str, text: str = SECTION) -> list[str]:
    found = re.findall(rf"^( *)```{kind}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for _, block in found]


@pytest.fixture(scope="module")
def urls(postgres: PostgresServer) -> Iterator[dict[str, str]]:
    """The variables of the guide, for the role and the databases that its statements made."""
    (statements,) = blocks("postgresql")
    with psycopg.connect(postgres.dsn("postgres", driver=""), autocommit=True) as con:
        for statement in statements.strip().split(";\n"):
            con.execute(statement.replace("…", "secret").rstrip(";"))
    (variables,) = blocks("ini")
    ours = variables.replace("…", "secret").replace("db.example:5432", f"127.0.0.1:{postgres.port}")
    yield dict(line.split("=", 1) for line in ours.splitlines())
    with psycopg.connect(postgres.dsn("postgres", driver=""), autocommit=True) as con:
        for made in re.findall(r"CREATE DATABASE (\w+)", statements):
            con.execute(f"DROP DATABASE {made} WITH (FORCE)")
        con.execute(f"DROP ROLE {re.findall(r'CREATE ROLE ([a-z]+)', statements)[0]}")


def set_up(site: Site, urls: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Do what the guide says; the lines for ``dagster.yaml``."""
    for name, value in urls.items():
        monkeypatch.setenv(name, value)
    for_dagster, for_product = blocks("yaml")
    site.config.write_text(site.config.read_text() + for_product)
    return for_dagster


def plain(url: str) -> str:
    """The URL without the name of a driver, as PostgreSQL's own programs read it."""
    return re.sub(r"\+psycopg2?", "", url)


def seen(live: LiveDagster, run_id: str) -> bool:
    return bool(live.runs(runIds=[run_id]))


def test_the_guide_leads_to_runs_and_alerts_in_postgresql(
    site: Site, urls: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tick that the daemon runs is in the database and seen by processes started later; no SQLite file is made."""
    added = set_up(site, urls, monkeypatch)
    home = tmp_path / "home"
    with live_dagster(home, site.config, f"{NOW.isoformat()}Z", added) as live:
        tick = live.launch("minute_tick_job")
        assert live.wait("tick", lambda: live.finished(tick)) == "SUCCESS", live.log()
        live.kill("webserver")
        live.start("webserver")

        def again() -> bool:
            try:
                return seen(live, tick)
            except OSError:
                return False

        live.wait("the run, seen by a new web server", again)
    with psycopg.connect(plain(urls["MP_DAGSTER_URL"])) as con:
        assert con.execute("SELECT status FROM runs WHERE run_id = %s", [tick]).fetchall() == [("SUCCESS",)]
        materialized = con.execute(
            "SELECT count(*) FROM event_logs WHERE run_id = %s AND dagster_event_type = 'ASSET_MATERIALIZATION'", [tick]
        ).fetchone()
        assert materialized is not None
        assert materialized[0] > 0
    store = StateStore(urls["MP_STATE_URL"])
    assert current(store.engine()) == HEAD
    store.dispose()
    assert [*home.rglob("*.db"), *site.root.rglob("state.sqlite3")] == []


def test_a_database_behind_the_same_address_is_prepared_at_every_start(
    urls: dict[str, str], postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restored or emptied database has its tables before several processes look for them at once."""
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    prepare_storage(tmp_path)
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text() + blocks("yaml")[0])
    for _ in range(2):
        with postgres.database() as url:
            monkeypatch.setenv("MP_DAGSTER_URL", url.replace("+psycopg", "+psycopg2"))
            prepare_storage(tmp_path)
            with psycopg.connect(plain(url)) as con:
                assert con.execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_a_server_that_does_not_answer_is_said_before_anything_starts(
    urls: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text() + blocks("yaml")[0])
    port = urlsplit(urls["MP_DAGSTER_URL"]).port
    monkeypatch.setenv("MP_DAGSTER_URL", urls["MP_DAGSTER_URL"].replace(f":{port}/monitoring_dagster", f":{port}/gone"))
    with pytest.raises(ProductError, match="cannot use its home") as caught:
        prepare_storage(tmp_path)
    assert 'database "gone" does not exist' in str(caught.value.cause)


def test_the_state_store_refuses_the_database_of_dagster_and_leaves_it_as_it_was(
    urls: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MP_DAGSTER_URL", urls["MP_DAGSTER_URL"])
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text() + blocks("yaml")[0])
    prepare_storage(tmp_path)
    store = StateStore(urls["MP_DAGSTER_URL"].replace("+psycopg2", "+psycopg"))
    with pytest.raises(ProductError, match="does not know"):
        store.engine()
    with psycopg.connect(plain(urls["MP_DAGSTER_URL"])) as con:
        assert con.execute("SELECT to_regclass('alert')").fetchone() == (None,)


def test_state_moves_from_sqlite_and_its_copies_can_be_restored(
    site: Site, urls: dict[str, str], postgres: PostgresServer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The commands of the guide: moving by export and import, copying by ``sqlite3`` and ``pg_dump``."""
    monkeypatch.chdir(site.root)
    options = ["--config", str(site.config), "--now", f"{NOW.isoformat()}Z"]
    assert run([*options, "alerts", "silence", "type=target.down", "--for", "2h"]) == 0
    silenced = silences(f"sqlite:///{site.settings.data_path}/state.sqlite3")
    assert "target.down" in str(silenced)
    moving = re.findall(r"`mp ((?:export|import) state [^`]+)`", SECTION)
    assert [line.split()[0] for line in moving] == ["export", "import"]
    assert run([*options, *shlex.split(moving[0])]) == 0
    set_up(site, urls, monkeypatch)
    assert run([*options, *shlex.split(moving[1])]) == 0
    capsys.readouterr()

    backup = next(block for block in blocks("sh", GUIDE) if "pg_dump" in block)
    tools = {"PATH": f"{Path(find_binary('postgres')).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-eu", "-c", backup], env={**os.environ, **urls, **tools}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert silences(f"sqlite:///{site.root}/state-copy.sqlite3") == silenced
    assert (site.root / "dagster.dump").stat().st_size > 0
    with postgres.database() as url:
        restored = subprocess.run(
            [find_binary("pg_restore"), "--no-owner", f"--dbname={plain(url)}", "state.dump"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert restored.returncode == 0, restored.stderr
        assert silences(url) == silenced


def silences(url: str) -> list[tuple[str, str]]:
    """Ids and matchers of all silences."""
    store = StateStore(url)
    with store.read() as con:
        found = [(str(row[0]), str(row[1])) for row in con.execute(select(silence.c.silence_id, silence.c.matchers))]
    store.dispose()
    return found

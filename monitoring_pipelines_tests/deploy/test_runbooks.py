"""Every rule and check has a page that can be followed: complete, with commands and queries that exist."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from cyclopts import App

from monitoring_pipelines.cli.app import COMMANDS, app
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.config.known import RULE_IDS
from monitoring_pipelines.state import StateStore
from monitoring_pipelines.warehouse import windows
from monitoring_pipelines.warehouse.connect import Warehouse
from monitoring_pipelines.warehouse.core_tables import ensure_core

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "runbooks"
PAGES = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.md")) if path.stem != "README"}
#: Their counterparts in the other language of the pages.
CHINESE = {path.stem: path.read_text("utf-8") for path in sorted((FOLDER / "zh-CN").glob("*.md"))}
SECTIONS = ["Symptom", "Causes", "Diagnosis", "Fix", "Verification", "Prevention"]
CHINESE_SECTIONS = ["症状", "原因", "诊断", "处置", "验证", "预防"]
#: Alerts that no rule of the configuration raises.
OTHERS = {
    "monitoring_error",
    "auto_recovery_exhausted",
    "watchdog",
    "repair_paused",
    "repair_failed",
    "repair_verify_failed",
    "repair_rollback_incomplete",
}
#: Commands that come with other parts of the product.
LATER = {"repair", "compensate"} - {name for name, *_ in COMMANDS}


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def section(text: str, name: str) -> str:
    return text.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0].strip()


def test_every_rule_and_check_has_its_page_and_every_page_its_rule():
    assert set(PAGES) == {*RULE_IDS, *OTHERS}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_all_six_sections_with_something_in_them(page: str):
    text = PAGES[page]
    assert text.startswith(f"# {page}: ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert all(len(section(text, name)) > 20 for name in SECTIONS)
    assert "```" in section(text, "Diagnosis")


def test_no_two_pages_say_the_same():
    for name in ("Symptom", "Fix", "Prevention"):
        said = [section(text, name) for text in PAGES.values()]
        assert len(set(said)) == len(said), name


def test_links_between_pages_lead_somewhere_and_the_index_has_all():
    index = (FOLDER / "README.md").read_text()
    for name, text in {**PAGES, "README": index}.items():
        for target in re.findall(r"\]\(([\w.]+)\.md\)", text):
            assert target in PAGES, f"{name} → {target}"
    assert set(re.findall(r"\]\(([\w.]+)\.md\)", index)) == set(PAGES)


def test_every_page_and_the_index_exist_in_chinese():
    assert set(CHINESE) == {*PAGES, "README"}


@pytest.mark.parametrize("page", [*PAGES, "README"])
def test_a_page_tells_the_same_in_both_languages(page: str):
    """Same structure, code, names and links; what is said about them is translated."""
    english = PAGES.get(page) or (FOLDER / f"{page}.md").read_text("utf-8")
    chinese = CHINESE[page]
    # the comments inside a block are translated with the rest
    assert code(chinese) == code(english)
    assert sorted(inline(chinese)) == sorted(inline(english))
    assert re.findall(r"\]\(([^)]+)\)", chinese) == re.findall(r"\]\(([^)]+)\)", english)
    shape = r"^(#+|\*) "
    assert re.findall(shape, chinese, re.MULTILINE) == re.findall(shape, english, re.MULTILINE)
    assert english.splitlines()[0].partition(":")[0] == chinese.splitlines()[0].partition(":")[0] or page == "README"


@pytest.mark.parametrize("page", PAGES)
def test_every_section_of_a_chinese_page_is_chinese(page: str):
    text = CHINESE[page]
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == CHINESE_SECTIONS
    parts = [text.splitlines()[0], *(section(text, name) for name in CHINESE_SECTIONS)]
    said = [re.sub(r"```.*?```", "", part, flags=re.DOTALL).strip() for part in parts]
    assert all(re.search(r"[\u4e00-\u9fff]{2}", part) for part in said if part)


def code(text: str) -> list[str]:
    found = re.findall(r"```(\w*\n.*?)```", text, re.DOTALL)
    return [re.sub(r"\s+# .*", "", block) for block in found]


def inline(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def commands() -> list[str]:
    found = []
    for text in [*PAGES.values(), (FOLDER / "README.md").read_text()]:
        inline = re.findall(r"`(mp [^`]+)`", text)
        found += inline + [line.split("#")[0].strip() for block in blocks(text, "sh") for line in block.splitlines()]
    return sorted({line for line in found if line.startswith("mp ")})


def test_every_command_named_exists_with_its_options():
    known = {name for name, *_ in COMMANDS}
    for line in commands():
        words = line.split()[1:]
        assert words[0] in known | LATER, line
        if words[0] in known and len(words) > 1:
            parse(line, words)


def parse(line: str, words: list[str]) -> None:
    """Read the line as the command line would, without running it; global options are cut off."""
    while "--source" in words:
        place = words.index("--source")
        words = words[:place] + words[place + 2 :]
    command, _, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    assert command is not None, line
    assert not isinstance(command, App), line


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    """An empty warehouse with all of its tables."""
    from monitoring_pipelines_tests.rules.conftest import START

    store = Warehouse(tmp_path_factory.mktemp("warehouse") / "w.duckdb", clock=FixedClock(START))
    with store.writer("test") as con:
        ensure_core(con)
        windows.prepare(con)
    with closing(duckdb.connect(str(store.path), read_only=True)) as con:
        con.execute("SET TimeZone = 'UTC'")
        yield con


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if blocks(text, "sql")])
def test_queries_run_on_the_warehouse(page: str, warehouse: duckdb.DuckDBPyConnection):
    for block in blocks(PAGES[page], "sql"):
        for statement in block.strip().rstrip(";").split(";\n"):
            warehouse.execute(statement).fetchall()


@pytest.fixture(scope="module")
def state_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("state") / "state.sqlite3"
    store = StateStore(f"sqlite:///{path}")
    store.engine()
    store.dispose()
    return path


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if blocks(text, "sqlite")])
def test_queries_run_on_the_state_store(page: str, state_file: Path):
    with closing(sqlite3.connect(state_file)) as con:
        for block in blocks(PAGES[page], "sqlite"):
            for statement in block.strip().rstrip(";").split(";\n"):
                con.execute(statement).fetchall()

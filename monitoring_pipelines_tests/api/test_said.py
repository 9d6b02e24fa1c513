"""Nothing that is stored or refused in English reaches a Chinese reader in English (S-801).

What belongs here: the table of sentences against the code that writes them, and against real answers. What does not: pages
in a browser (``e2e``).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import monitoring_pipelines
from monitoring_pipelines.said import said
from monitoring_pipelines_tests.api.conftest import Client, Serve
from monitoring_pipelines_tests.api.world import World

PACKAGE = Path(monitoring_pipelines.__file__).parent
#: Who writes sentences a page may show: files → (called, which of its arguments).
WRITERS: dict[str, dict[str, tuple[int, ...]]] = {
    "api/**/*.py": {"ApiError": (1,), "bad": (0,), "missing": (0,), "conflict": (0,)},
    "source/*.py": {"SourceUnavailable": (0,), "SchemaDrift": (0, 1), "QueryTooSlow": (0,)},
    "warehouse/*.py": {"WarehouseBusy": (0, 1), "WarehouseMissing": (0, 1)},
    "pipeline/*.py": {"WarehouseBusy": (0,)},
    "collect/dagster_health.py": {"Component": (3,)},
    "quality/**/*.py": {"_expect": (1,), "_failed": (3,), "CheckRunning": (0,)},
    "orchestration/*.py": {"_skipped": (4,), "ended": (1,)},
    "compensation/**/*.py": {
        "RepairRefused": (0,), "RunStopped": (1,), "NoOutput": (0,), "Transient": (0,), "AuthError": (0,), "Item": (3,),
    },
    "alerts/*.py": {"Observation": (6,)},
    "alerts/channels/*.py": {},
    "config/features.py": {},
}  # fmt: skip
#: Keyword arguments and variables whose text is such a sentence, wherever in those files they stand.
NAMED = ("message", "reason", "error", "abort_reason", "needs", "hint")
#: What names and numbers stand for.
GAP = "7"
#: Parts that are names, words of a protocol or of a server, and the same in every language.
SAME = re.compile(r"HTTP 7|7|(\w+: )7(; 7)?")

BUSY = """extract: the warehouse /d/w.duckdb is in use by minute tick (process 7); waited 10.0 s
What to do: wait for it to finish; a process that died does not block"""
BUSY_ZH = """extract：数据仓库 /d/w.duckdb 正被 minute tick (process 7) 占用，已等待 10.0 秒
处理办法：等它结束；已退出的进程不会阻塞"""


def texts(node: ast.expr | None) -> Iterator[str]:
    """Texts an expression may be, with ``GAP`` for what is only known when it runs."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(part.value if isinstance(part, ast.Constant) else GAP for part in node.values)  # type: ignore[misc]
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for part in node.values:
            yield from texts(part)


def written(pattern: str, calls: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, str]]:
    """(where, sentence) of everything the writers of these files say."""
    for path in sorted(PACKAGE.glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found: list[ast.expr | None] = []
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                places = calls.get(name, ())
                found += [node.args[place] for place in places if place < len(node.args)]
                if name not in ("getLogger", "Field", "Feature", "DagsterRun"):
                    found += [one.value for one in node.keywords if one.arg in NAMED]
            elif (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in NAMED) or (
                isinstance(node, ast.Return) and path.name == "throttle.py"
            ):
                found.append(node.value)
            for text in (text for one in found for text in texts(one)):
                if re.search("[a-z]", text) and not SAME.fullmatch(text):
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", text


@pytest.mark.parametrize("pattern", WRITERS)
def test_every_sentence_the_code_stores_or_answers_has_a_chinese_form(pattern: str) -> None:
    found = list(written(pattern, WRITERS[pattern]))
    left = [(where, text) for where, text in found if not re.search("[\u4e00-\u9fff]", text + said(text, "zh-CN"))]
    assert not left, "\n".join(f"{where}: {text}" for where, text in left)


def test_writers_are_found() -> None:
    """The test above looks at something: a renamed function would leave it without a sentence."""
    found = {text for pattern, calls in WRITERS.items() for _, text in written(pattern, calls)}
    assert {
        "unknown alert",
        "the product was not running",
        "not mapped: 7",
        "the job is switched off",
        "stale_plan",
    } <= found


def test_every_reason_word_of_a_refusal_says_what_it_means_in_both_languages() -> None:
    pattern = "compensation/**/*.py"
    words = {text for _, text in written(pattern, {"RepairRefused": (0,)}) if re.fullmatch("[a-z_]+", text)}
    assert {"stale_plan", "two_person", "insert_mapping"} <= words
    for word in words:
        for language in ("zh-CN", "en"):
            text = said(f"apply: {word}", language)
            assert text != f"apply: {word}"
            assert word in text  # the word is in the documents and in the log


@pytest.mark.parametrize(
    ("stored", "chinese"),
    [
        (BUSY, BUSY_ZH),
        (
            "error: the source cannot be reached: 2003: Can't connect to MySQL server on 'db'",
            "错误：无法连接数据源：2003: Can't connect to MySQL server on 'db'",
        ),
        ("plan P: 2 missing, 1 duplicate", "计划 P：缺失 2 行，重复 1 行"),
        ("source: no source 'wavrless'; did you mean waverless?", "source：没有数据源 'wavrless'；是否指 waverless？"),
        ("a note that somebody wrote; as he wrote it", "a note that somebody wrote; as he wrote it"),
    ],
)
def test_sentences_with_names_lines_and_parts(stored: str, chinese: str) -> None:
    assert said(stored, "zh-CN") == chinese
    assert said(stored, "en") == stored


def test_an_error_is_in_the_language_a_client_names_and_as_it_is_for_a_program(serve: Serve) -> None:
    client = serve()
    path = "/api/v1/alerts/none"
    plain = client.get(path)
    chinese = client.request("GET", path, headers={"Accept-Language": "zh-CN"})
    assert (plain.status_code, plain.json()["message"]) == (404, "unknown alert")
    assert (chinese.status_code, chinese.json()["message"]) == (404, "没有此告警")
    refused = client.request("GET", "/api/v1/tasks?page=0", headers={"Accept-Language": "zh-CN,zh;q=0.9"})
    assert refused.json()["message"] == "page：应为 至少 1"
    elsewhere = client.request("GET", path, headers={"Host": "elsewhere", "Accept-Language": "zh"})
    assert elsewhere.json()["message"] == "此主机名不在服务范围内"


def test_a_table_that_changed_is_drift_on_every_surface(serve: Serve) -> None:
    """E-702: by the kind of the error, not by a word in its text."""
    first = serve()
    world = World(first.settings, first.clock)
    world.source()
    world.write((
        "INSERT INTO meta.extract_mark (source_id, src_table, entity, strategy, rows_total) VALUES ('shop', 'tasks', 'task', 'append', 1)",
        {},
    ))  # fmt: skip
    world.publish()
    assert drift_told_by(first) == (False, ["0"])
    world.write((
        "UPDATE meta.source_state SET last_error = 'shop: table tasks (task) has disappeared', last_error_code = 'schema_drift'", {},
    ))  # fmt: skip
    world.publish()
    # A server of its own: one that runs answers scrapes from the version before while it reads the new one.
    assert drift_told_by(serve()) == (True, ["1"])


def test_a_source_s_text_of_any_shape_is_no_error():
    for text in ("x: " * 333, "x: " * 5000, "a; b, " * 160):
        assert said(text, "zh-CN") == text


def drift_told_by(client: Client) -> tuple[bool, list[str]]:
    """What the list of sources and a scrape say of the source."""
    told = re.findall(r'^mp_schema_drift\{source="shop"\} (\d)', client.get("/metrics").text, re.MULTILINE)
    return client.get("/api/v1/sources").json()["data"][0]["drift"], told

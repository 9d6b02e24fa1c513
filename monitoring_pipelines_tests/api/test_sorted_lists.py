"""Lists of stored state in each of their orders: API, page and file agree, and every row is there once (S-103, S-804).

What belongs here: order, paging and what links keep. What does not: what a row says.
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from sqlalchemy import delete, insert

from monitoring_pipelines.state import StateStore
from monitoring_pipelines.state import tables as t

from .conftest import NOW, SOURCE, Client, data, serving
from .world import World

ROWS = 57
WORDS = ("delta", "alpha", "charlie", "bravo")
Row = dict[str, Any]


def word(n: int) -> str:
    return WORDS[n * n % 7 % 4]


def notifications() -> list[Row]:
    states, kinds = ("sent", "abandoned", "pending"), ("firing", "resolved")
    return [
        {"notification_id": f"N{n:03}", "source_id": "shop", "alert_ids": [f"A{m}" for m in range(n % 3)],
         "group_key": f"warning/lost/{n}", "severity": "high", "channel": word(n),
         "channel_type": "webhook", "kind": kinds[n % 2], "state": states[n % 3], "attempts": n % 5, "due_at": NOW,
         "created_at": NOW - timedelta(minutes=n // 4)}
        for n in range(ROWS)
    ]  # fmt: skip


def check_runs() -> list[Row]:
    return [
        {"run_id": f"C{n:03}", "type": ("quick", "full", "deep")[n % 3], "trigger": "schedule", "scheduled_at": NOW - timedelta(hours=n // 2),
         "status": ("healthy", "issues_detected", "missed")[n * n % 5 % 3], "total_alerts": n % 7,
         "window_hours": None if n % 6 == 5 else (24, 1)[n % 2], "count": 1}
        for n in range(ROWS)
    ]  # fmt: skip


def plans() -> list[Row]:
    return [
        {"plan_id": "P1" if n == 0 else f"Q{n:03}", "source_id": ("shop", "depot")[n % 3 == 0], "created_at": NOW + timedelta(minutes=n // 3),
         "created_by": word(n), "mode": "only_if_empty", "state": ("ready", "applied", "aborted")[n * n % 5 % 3]}
        for n in range(ROWS)
    ]  # fmt: skip


def items() -> list[Row]:
    return [
        {"plan_id": "P1", "seq": n, "task_key": f"t{n * 31 % ROWS:02}", "class": ("eligible", "remote_failed")[n % 3 == 0], "rows": [],
         "remote_status": None if n % 5 == 4 else word(n), "run_state": ("pending", "committed", "failed")[n % 3], "tries": 0}
        for n in range(ROWS)
    ]  # fmt: skip


def journal() -> list[Row]:
    return [
        {"journal_id": f"J{n:03}", "run_id": "R1", "source_id": "shop", "op": ("insert", "delete")[n % 2], "target_table": word(n),
         "pk": {"id": n}, "task_key": f"t{n * 31 % ROWS:02}", "natural_key": f"n{n}", "actor": "li",
         "at": NOW - timedelta(minutes=n % 9), "state": ("intent", "committed", "void")[n % 3]}
        for n in range(ROWS)
    ]  # fmt: skip


def silences() -> list[Row]:
    """All of them in force or to come."""
    return [
        {"silence_id": f"S{n:03}", "matchers": [{"name": "type", "op": "=", "value": f"x{n}"}], "creator": word(n),
         "created_at": NOW - timedelta(minutes=n // 4), "starts_at": NOW + timedelta(minutes=n % 9 - 4),
         "ends_at": NOW + timedelta(hours=1 + n % 5)}
        for n in range(ROWS)
    ]  # fmt: skip


def findings() -> list[Row]:
    """What a run found, in the order in which it did; severities so that their words are in the order of their gravity too."""
    return [
        {"run_id": "C001", "seq": n, "source_id": ("shop", "depot")[n % 3 == 0], "check_id": word(n), "alert_type": word(n + 1),
         "severity": ("low", "medium")[n % 4 == 1], "message": f"finding {n}", "created_at": NOW + timedelta(seconds=n % 9)}
        for n in range(ROWS)
    ]  # fmt: skip


def job_runs() -> list[Row]:
    """Of some the end, of others the due time is not known."""
    return [
        {"run_key": f"K{n:03}", "scheduled_at": None if n % 4 == 3 else NOW - timedelta(hours=n + 1),
         "started_at": NOW - timedelta(minutes=10 * (n // 2) + 5), "duration_ms": None if n % 6 == 5 else float(n * 31 % ROWS),
         "ended_at": None if n % 6 == 5 else NOW - timedelta(minutes=10 * (n // 2) + 5) + timedelta(milliseconds=n * 31 % ROWS),
         "outcome": "running" if n % 6 == 5 else ("success", "failure")[n % 2], "trigger": ("schedule", "manual")[n % 5 == 0]}
        for n in range(ROWS)
    ]  # fmt: skip


def store_job_runs(world: World) -> None:
    world.source("sched")
    world.job("sum", source="sched")
    for n, row in enumerate(job_runs()):
        world.job_run("sum", row["outcome"], 0, source="sched", ago=NOW - row["started_at"])
        # The scheduler of every third one does not say how long it ran; that follows from start and end.
        stored = row | {"duration_ms": None if n % 3 == 0 else row["duration_ms"], "was": f"sum{n}"}
        names = ", ".join(f"{name} = ${name}" for name in row)
        world.write((f"UPDATE raw.job_run SET {names} WHERE run_key = $was", stored))


def lost_tasks() -> list[Row]:
    return [
        {"task_key": f"t{n * 31 % ROWS:02}", "source_id": ("shop", "depot")[n % 3 == 0], "endpoint": word(n),
         "effective_end": NOW - timedelta(minutes=20 + 15 * (n // 3)), "remote_id": None if n % 5 == 4 else word(n + 1)}
        for n in range(ROWS)
    ]  # fmt: skip


def store_lost_tasks(world: World) -> None:
    for n, row in enumerate(lost_tasks()):
        ago, there = NOW - row["effective_end"] + timedelta(seconds=10), {"outputs": 0, "source": row["source_id"]}
        world.task(row["task_key"], ago=ago, endpoint=row["endpoint"], **there)  # type: ignore[arg-type]
        world.task(f"good{n}", ago=ago, source=row["source_id"])
        names = {"key": row["task_key"], "remote": row["remote_id"]}
        world.write(("UPDATE raw.task SET remote_id = $remote WHERE task_key = $key", names))


@dataclass(frozen=True)
class Listed:
    """A list: where it is, its rows, their key, and what it can be ordered by."""

    api: str
    page: str
    rows: Callable[[], list[Row]]
    key: str
    sorts: tuple[str, ...]
    #: The usual order: by these, the first being the most important one.
    usual: tuple[str, ...]
    #: A filter of the API, and what it keeps.
    only: Row = field(default_factory=dict)
    #: How a row's key stands on the page; None: it does not, and rows are compared by what their sort shows.
    shown: str | None = None

    def ordered(self, sort: str | None, **only: Any) -> list[Any]:
        """Keys of the rows as they have to come: NULL last, equal ones in the usual order."""
        column_of = {"source": "source_id"}
        rows = [
            row for row in self.rows() if all(row[column_of.get(name, name)] == value for name, value in only.items())
        ]
        for name in reversed(self.usual):
            rows.sort(key=lambda row, name=name: row[name.removeprefix("-")], reverse=name.startswith("-"))  # type: ignore[misc]
        if sort is not None:
            column = sort.removeprefix("-")
            known = [row for row in rows if row[column] is not None]
            known.sort(key=lambda row: row[column], reverse=sort.startswith("-"))
            rows = known + [row for row in rows if row[column] is None]
        return [row[self.key] for row in rows]


LISTS = {
    "notifications": Listed(
        "/api/v1/notifications", "/alerts/notifications", notifications, "notification_id",
        ("created_at", "channel", "kind", "state", "attempts"), ("-created_at", "-notification_id"), {"state": "sent"},
    ),
    "check runs": Listed(
        "/api/v1/checks/runs", "/checks", check_runs, "run_id",
        ("scheduled_at", "type", "status", "window_hours", "total_alerts"), ("-scheduled_at", "-run_id"), {"type": "quick"},
        r'href="/checks/(C\d+)"',
    ),
    "silences": Listed(
        "/api/v1/silences", "/alerts/silences", silences, "silence_id", ("created_at", "starts_at", "ends_at", "creator"),
        ("-created_at", "-silence_id"), shown=r"/api/v1/silences/(S\d+)",
    ),
    "findings of a check run": Listed(
        "/api/v1/checks/runs/C001/findings", "/checks/C001", findings, "message",
        ("severity", "source_id", "check_id", "created_at", "alert_type"), ("-severity", "seq"),
    ),
    "plans": Listed(
        "/api/v1/repair/plans", "/repair", plans, "plan_id", ("source_id", "created_by", "state", "created_at"), ("-plan_id",),
        {"source": "shop"}, r'href="/repair/plans/(\w+)"',
    ),
    "items of a plan": Listed(
        "/api/v1/repair/plans/P1/items", "/repair/plans/P1", items, "seq", ("task_key", "class", "run_state", "remote_status"),
        ("seq",), {"class": "eligible"},
    ),
    "journal": Listed(
        "/api/v1/repair/runs/R1/journal", "/repair/runs/R1", journal, "journal_id",
        ("op", "target_table", "task_key", "state", "at"), ("journal_id",),
    ),
    "runs of a job": Listed(
        "/api/v1/scheduler/jobs/sum/runs", "/scheduler-monitoring/jobs/sum", job_runs, "run_key",
        ("scheduled_at", "started_at", "ended_at", "duration_ms", "outcome", "trigger"), ("-started_at", "-run_key"),
    ),
    "tasks without output": Listed(
        "/api/v1/completeness/missing", "/consistency", lost_tasks, "task_key",
        ("task_key", "source_id", "endpoint", "effective_end", "remote_id"), ("-effective_end", "source_id", "task_key"),
        {"source": "shop"}, r'<td class="key"><a href="/tasks/(\w+)\?',
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch, serving(tmp_path_factory.mktemp("sorted"), patch) as start:
        client = start({"sources": [SOURCE, SOURCE | {"id": "depot"}, SOURCE | {"id": "sched", "preset": "scheduler"}]})
        client.headers["Cookie"] = "mp_lang=en"
        world = World(client.settings, client.clock)
        for name in ("shop", "depot"):
            world.source(name)
        store_job_runs(world)
        store_lost_tasks(world)
        world.publish()
        with StateStore.of(client.settings).begin() as con:
            con.execute(insert(t.notification), notifications())
            con.execute(insert(t.check_run), check_runs())
            con.execute(insert(t.silence), silences())
            con.execute(insert(t.finding), findings())
            con.execute(
                insert(t.finding), [row | {"run_id": "C002", "message": "of another run"} for row in findings()]
            )
            con.execute(insert(t.repair_plan), plans())
            con.execute(insert(t.repair_item), items())
            con.execute(insert(t.repair_item), [row | {"plan_id": "Q001", "task_key": "other"} for row in items()])
            con.execute(insert(t.repair_run), {
                "run_id": "R1", "plan_id": "P1", "source_id": "shop", "kind": "apply", "dry_run": False, "actor": "li",
                "started_at": NOW, "state": "finished", "counters": {},
            })  # fmt: skip
            con.execute(insert(t.repair_journal), journal())
        yield client


@pytest.mark.parametrize("name", LISTS)
def test_each_order_has_every_row_once_over_all_pages(client: Client, name: str) -> None:
    """Both directions of each column, and the usual order; NULL is last both ways."""
    one = LISTS[name]
    for sort in (None, *one.sorts, *(f"-{column}" for column in one.sorts)):
        more = {} if sort is None else {"sort": sort}
        pages = [data(client, one.api, page=n, page_size=20, **more) for n in (1, 2, 3, 4)]
        assert [row[one.key] for page in pages for row in page["items"]] == one.ordered(sort), sort
        assert {page["total"] for page in pages} == {ROWS}, sort


@pytest.mark.parametrize("name", LISTS)
def test_a_page_its_file_and_its_links_have_the_chosen_order_and_filter(client: Client, name: str) -> None:
    """Heads turn the order round, the pager and the filter keep it, API and file give the same rows in the same order."""
    one = LISTS[name]
    for sort in (one.sorts[-1], f"-{one.sorts[0]}"):
        column, wanted = sort.removeprefix("-"), one.ordered(sort, **one.only)
        page = client.get(one.page, sort=sort, page_size=10, **one.only).text
        heads = re.findall(r"<th [^>]*?aria-sort=\"(\w+)\"[^>]*><a href=\"([^\"]+)\"", page)
        assert [direction for direction, _ in heads] == ["descending" if sort.startswith("-") else "ascending"]
        turned = dict(parse_qsl(urlsplit(html.unescape(heads[0][1])).query))
        assert turned.items() >= (one.only | {"sort": column if sort.startswith("-") else f"-{column}"}).items()
        assert set(re.findall(r"[?;]sort=-?(\w+)", page)) == set(one.sorts), "a head for each of them"

        following = dict(
            parse_qsl(urlsplit(html.unescape(re.findall(r'href="([^"]*[?&;]page=2[^"]*)"', page)[-1])).query)
        )
        assert following.items() >= (one.only | {"sort": sort}).items()
        links = [html.unescape(link) for link in re.findall(r'href="(/(?:api/v1|download)/[^"]+)"', page)]
        api = next(link for link in links if urlsplit(link).path == one.api)
        assert [row[one.key] for row in client.get(f"{api}&page_size=500").json()["data"]["items"]] == wanted
        file = next(link for link in links if ".csv?" in link)
        answer = client.get(file)
        assert answer.status_code == 200, answer.text
        lines = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
        assert [line[one.key] for line in lines] == [str(key) for key in wanted]
        if one.shown is not None:
            assert re.findall(one.shown, page) == [str(key) for key in wanted[:10]]


@pytest.mark.parametrize("name", LISTS)
def test_an_unknown_column_is_refused_everywhere(client: Client, name: str) -> None:
    """By API, page and file, naming the parameter."""
    one = LISTS[name]
    page = client.get(one.page, sort=one.sorts[0], **one.only).text
    file = html.unescape(re.search(r'href="(/download/[^"]+\.csv\?[^"]+)"', page).group(1))  # type: ignore[union-attr]
    for path in (one.api, one.page, re.sub(r"sort=[^&]*", "", file)):
        for bad in ("nothing", "-", f"{one.sorts[0]}; drop table alert", f"--{one.sorts[0]}"):
            refused = client.get(path, sort=bad)
            assert (refused.status_code, "sort" in refused.text) == (400, True), (path, bad)


def test_the_alerts_page_shows_the_newest_messages_and_where_all_of_them_are(client: Client) -> None:
    """S-819: twenty of them, in both languages."""
    for language, words in (("en", "These are the newest 20."), ("zh-CN", "仅显示最新 20 条")):
        page = client.get("/alerts", lang=language).text
        assert words in page
        assert page.count('href="/alerts/notifications"') == 2
    whole = client.get("/alerts/notifications", lang="zh-CN", page=2, page_size=40).text
    assert "第 2 / 2 页" in whole
    assert whole.count("<tr>") == 1 + ROWS - 40


def test_plans_of_one_state_are_shown_on_the_page_and_in_the_file(client: Client) -> None:
    """S-804, S-814: as by the API; a state no plan has says so, one there is not is refused."""
    wanted = client.get("/api/v1/repair/plans", state="ready", page_size=200).json()["data"]
    page = client.get("/repair", state="ready", page_size=200, lang="en").text
    assert re.findall(r'href="/repair/plans/(\w+)"', page) == [row["plan_id"] for row in wanted["items"]]
    assert 0 < wanted["total"] < ROWS
    assert '<option value="ready" selected>' in page
    address = html.unescape(re.search(r'href="(/download/plans\.csv[^"]*)"', page).group(1))  # type: ignore[union-attr]
    assert len(client.get(address).text.splitlines()) == 1 + wanted["total"]
    assert "No repair plan matches" in client.get("/repair", state="rejected", lang="en").text
    assert client.get("/repair", state="nothing").status_code == 400


def test_every_message_says_what_it_was_about_and_leads_there(client: Client) -> None:
    """S-819: its group with the gravity, the first of its alerts, and how many more it told."""
    page = client.get("/alerts/notifications", lang="en", page_size=200).text
    rows = [row for row in page.split("<tr>") if "/lost/" in row.replace("<wbr>", "")]
    assert len(rows) == ROWS
    for row in rows:
        plain = row.replace("<wbr>", "")
        n = int(re.search(r"warning/lost/(\d+)", plain).group(1))  # type: ignore[union-attr]
        assert "High" in row
        assert ('href="/alerts/A0"' in row, "and 1 more alert" in row) == (n % 3 > 0, n % 3 > 1)


def test_only_the_list_of_lost_tasks_can_be_ordered_on_its_page(client: Client) -> None:
    """S-813: a window may have millions of tasks with outputs; their heads are plain, and the tabs leave the order behind."""
    for show in ("with_output", "settling", "duplicates"):
        assert "sort=" not in client.get("/consistency", show=show).text
        for path in ("/consistency", "/download/missing.csv"):
            refused = client.get(path, show=show, sort="endpoint")
            assert (refused.status_code, "sort: only tasks without output" in refused.text) == (400, True)
    page = client.get("/consistency", sort="endpoint").text
    assert not re.search(r"show=(with_output|settling|duplicates)[^\"]*sort=", page)


def test_silences_that_are_over_are_on_their_page_and_not_among_those_in_force(client: Client) -> None:
    """S-242, S-804: page, file and API agree, and what is over cannot be ended once more."""
    over = {"silence_id": "GONE", "matchers": [{"name": "type", "op": "=", "value": "x"}], "creator": "li",
            "created_at": NOW - timedelta(days=1), "starts_at": NOW - timedelta(days=1), "ends_at": NOW}  # fmt: skip
    with StateStore.of(client.settings).begin() as con:
        con.execute(insert(t.silence), over)
    try:
        for show, active, n in (("active", "true", ROWS), ("over", "false", 1), ("all", None, ROWS + 1)):
            page = client.get("/alerts/silences", show=show, page_size=200, lang="en").text
            assert page.count("<tr>") == 1 + n
            assert len(re.findall(r'data-action="DELETE /api/v1/silences/', page)) == min(n, ROWS) * (show != "over")
            links = [html.unescape(link) for link in re.findall(r'href="(/(?:api/v1|download)/silences[^"]*)"', page)]
            assert len(client.get(next(link for link in links if "csv" in link)).text.splitlines()) == 1 + n
            asked = next(link for link in links if link.startswith("/api"))
            assert client.get(asked).json()["data"]["total"] == n
            assert dict(parse_qsl(urlsplit(asked).query)).get("active") == active
        alerts = client.get("/alerts", lang="en").text
        assert "These are the newest 20." in alerts
        assert alerts.count('href="/alerts/silences"') == 2
        assert client.get("/alerts/silences", show="nothing").status_code == 400
    finally:
        with StateStore.of(client.settings).begin() as con:
            con.execute(delete(t.silence).where(t.silence.c.silence_id == "GONE"))


def test_findings_of_one_source_or_severity(client: Client) -> None:
    """S-233: as stored, with a true total; of an unknown run there are none to list."""
    path = "/api/v1/checks/runs/C001/findings"
    for query, wanted in (
        ({"source": "depot"}, [row for row in findings() if row["source_id"] == "depot"]),
        ({"severity": "medium", "source": "shop"},
         [row for row in findings() if (row["severity"], row["source_id"]) == ("medium", "shop")]),
        ({"severity": "critical"}, []),
    ):  # fmt: skip
        found = data(client, path, page_size=500, sort="created_at", **query)
        assert {row["message"] for row in found["items"]} == {row["message"] for row in wanted}
        assert found["total"] == len(wanted)
    assert client.get("/api/v1/checks/runs/none/findings").status_code == 404
    assert client.get("/download/findings.csv", run="none").status_code == 404
    for query in ({"source": "shp"}, {"severity": "grave"}, {"severity": ""}):
        assert client.get(path, **query).status_code == 400

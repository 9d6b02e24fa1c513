"""Files that a page offers hold its rows, in its order (S-804)."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

from monitoring_pipelines.state import StateStore
from monitoring_pipelines.state import tables as t

from .conftest import Client, serving
from .stored import fill
from .world import World

SOURCES = [
    *({"id": name, "preset": "waverless", "read_dsn_env": "SHOP_DSN"} for name in ("shop", "depot")),
    {"id": "sched", "preset": "scheduler", "read_dsn_env": "SHOP_DSN"},
]


MARK = """INSERT INTO meta.extract_mark (source_id, src_table, entity, strategy, rows_total)
VALUES ($s, 'table of ' || $s, 'task', 'append', 41)"""
ANOMALY = """INSERT INTO raw.anomaly (source_id, kind, entity, key, "at", first_seen_at, count)
VALUES ($s, 'bad_value', 'task', 'k', $t, $t, 7)"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch, serving(tmp_path_factory.mktemp("files"), patch) as start:
        client = start({"sources": SOURCES})
        client.headers["Cookie"] = "mp_lang=en"
        world, now = World(client.settings, client.clock), client.clock.now()
        for name in ("shop", "sched"):
            world.source(name)
        for n, name in enumerate("bdac"):
            world.task(name, "failed", ago=timedelta(hours=1 + n), endpoint=f"e-{name}")
            for hour in range(n + 1):
                world.hour(f"e-{name}", now - timedelta(hours=2 + hour))
                world.minute(f"e-{name}", now - timedelta(minutes=1 + hour))
            world._statistics(
                "mart.endpoint_daily_stats", "stat_date", f"e-{name}", now.replace(hour=0) - timedelta(days=1), "shop"
            )
            world.job(f"j-{name}", source="sched")
            for run in range(n):
                world.job_run(f"j-{name}", "failure", 10, ago=timedelta(hours=1 + run), source="sched")
        for name in ("shop", "sched"):
            world.write((MARK, {"s": name}), (ANOMALY, {"s": name, "t": now}))
        world.publish()
        fill(client.settings, client.clock)
        with StateStore.of(client.settings).begin() as con:
            plan = dict(con.execute(t.repair_plan.select()).mappings().one())
            con.execute(t.repair_plan.insert().values(plan | {"plan_id": "P2", "source_id": "depot"}))
        yield client


@pytest.mark.parametrize(
    ("path", "column", "row", "sorts"),
    [
        ("/tasks?show=failed", "task_key", r'<td class="key"><a href="/tasks/([^?"]+)', ("created_at", "-created_at")),
        ("/endpoints?q=e-", "endpoint", r'<td class="key"><a href="/endpoints/([^?"]+)',
         ("endpoint", "-endpoint", "-tasks_submitted", "tasks_submitted")),
        ("/scheduler-monitoring?scope=mapped&q=j-", "job_id", r'data-pick="\w+/([^"]+)"',
         ("id", "-id", "-failure_count", "failure_count")),
    ],
    ids=["tasks", "endpoints", "jobs"],
)  # fmt: skip
def test_a_file_has_the_order_of_the_page_it_is_linked_from(
    client: Client, path: str, column: str, row: str, sorts: tuple[str, ...]
) -> None:
    orders = []
    for sort in sorts:
        page = client.request("GET", path, params={"sort": sort}).text
        link = html.unescape(re.search(r'href="(/download/[^"]+\.csv\?[^"]+)"', page).group(1))  # type: ignore[union-attr]
        answer = client.get(link)
        assert answer.status_code == 200, answer.text
        found = [line[column] for line in csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig")))]
        assert found == re.findall(row, page), sort
        assert len(found) == 4
        orders.append(tuple(found))
    assert len(set(orders)) == len(sorts), "each sort orders differently"
    refused = client.request("GET", re.sub(r"sort=[^&]*", "sort=nothing", link))
    assert (refused.status_code, "sort" in refused.text) == (400, True)


@pytest.mark.parametrize(("source", "plans"), [("", {"P1", "P2"}), ("shop", {"P1"}), ("depot", {"P2"})])
def test_plans_can_be_chosen_by_source_in_a_form(client: Client, source: str, plans: set[str]) -> None:
    """The form sends what the list and its file take, and shows what is chosen."""
    page = client.get("/repair", source=source).text
    (form,) = re.findall(r'<form class="filters" method="get" data-auto>(.*?)</form>', page, re.DOTALL)
    assert '<select name="source">' in form
    assert re.findall(r"<option selected>(\w+)<", form) == ([source] if source else [])
    assert set(re.findall(r"<option(?: selected)?>(\w+)<", form)) == {"shop", "depot", "sched"}
    assert set(re.findall(r'href="/repair/plans/(\w+)"', page)) == plans
    file = html.unescape(re.search(r'href="(/download/plans\.csv[^"]*)"', page).group(1))  # type: ignore[union-attr]
    lines = csv.DictReader(io.StringIO(client.request("GET", file).content.decode("utf-8-sig")))
    assert {line["plan_id"] for line in lines} == plans


def lines_of(client: Client, page: str, name: str) -> list[dict[str, str]]:
    """Rows of the CSV file of a list, by the link on its page."""
    link = html.unescape(re.search(rf'href="(/download/{name}\.csv[^"]*)"', page).group(1))  # type: ignore[union-attr]
    answer = client.get(link)
    assert answer.status_code == 200, answer.text
    assert client.get(link.replace(".csv", ".parquet")).content.startswith(b"PAR1")
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))


@pytest.mark.parametrize(("shown", "number"), [("24h", 24), ("48h", 48), ("30d", 30)])
def test_the_matrix_of_partitions_is_a_file_of_its_cells(client: Client, shown: str, number: int) -> None:
    """As many as the API gives for what the page shows, newest first, with what the checks say."""
    page = client.get("/partitions", source="shop", shown=shown).text
    lines = lines_of(client, page, "partitions")
    api = html.unescape(re.search(r'href="(/api/v1/partitions[^"]+)"', page).group(1))  # type: ignore[union-attr]
    items = client.get(api).json()["data"]["items"]
    wanted = [
        (row["table"], one["partition"], one["state"], str(one["rows"]), one["checks"]["state"])
        for row in items
        for one in reversed(row["cells"])
    ]
    names = ("table", "partition", "state", "rows", "checks")
    assert [tuple(line[name] for name in names) for line in lines] == wanted
    assert len(lines) == number * len(items) > 0
    assert {line["source_id"] for line in lines} == {"shop"}
    assert client.get("/download/partitions.csv", shown="1y").status_code == 400


def test_lists_of_the_page_about_the_product_itself_are_files(client: Client) -> None:
    """Components, extracted tables of one source, anomalies: what the page shows."""
    page = client.get("/self").text
    components = lines_of(client, page, "components")
    assert {"source:shop", "state_store", "published", "extract"} <= {line["component"] for line in components}
    assert {line["component"]: line["status"] for line in components}["state_store"] == "healthy"
    assert [line["component"] for line in components] == sorted(line["component"] for line in components)
    assert [
        (line["source_id"], line["src_table"], line["rows_total"]) for line in lines_of(client, page, "extraction")
    ] == [("shop", "table of shop", "41")]
    assert page.count('href="/download/extraction.csv?source=') == 2, "beside the tables of each source"
    assert {(line["source_id"], line["kind"], line["count"]) for line in lines_of(client, page, "anomalies")} == {
        ("shop", "bad_value", "7"), ("sched", "bad_value", "7"),
    }  # fmt: skip
    assert client.get("/download/extraction.csv", source="nobody").status_code == 400

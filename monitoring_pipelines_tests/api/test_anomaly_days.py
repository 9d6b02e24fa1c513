"""Anomalies by kind, table and day: what the number on the page about ourselves is the sum of (S-820, E-007).

What belongs here: page, API and file of that list. What does not: which anomalies there are (``source``, ``warehouse``).
"""

from __future__ import annotations

import csv
import html
import io
import re
from datetime import timedelta

from monitoring_pipelines_tests.api.conftest import SOURCE, Serve, data, with_world

PATH = "/api/v1/anomalies"


def test_the_number_of_a_kind_leads_to_days_that_add_up_to_it_and_name_the_newest(serve: Serve) -> None:
    client, world = with_world(serve, [SOURCE, SOURCE | {"id": "depot"}])
    now = client.clock.now()
    add = "INSERT INTO raw.anomaly VALUES ($s, $k, $e, $key, $at, $d, $seen, $n)"
    for number in range(7):
        at = now - timedelta(days=number // 6)
        seen = now - timedelta(minutes=number)
        world.write((add, {"s": "shop", "k": "zero_date", "e": "task", "key": f"t/{number}", "at": at, "d": "0000-00-00",
                           "seen": seen, "n": 1 + number}))  # fmt: skip
    for source, kind, at in (("shop", "bad_value", None), ("depot", "zero_date", now)):
        world.write(
            (add, {"s": source, "k": kind, "e": "worker", "key": "<b>", "at": at, "d": None, "seen": now, "n": 2})
        )
    world.publish()

    numbers = re.findall(r'<a href="(/self/anomalies[^"]*)">([\d,]+)</a>', client.get("/self", lang="en").text)
    assert sorted(int(n) for _, n in numbers) == [2, 2, 28]
    for link, n in numbers:
        page = client.get(html.unescape(link), lang="en").text
        assert f"Anomalies by day ({n} in all)" in page
        assert sum(int(one) for one in re.findall(r'<td class="n">(\d+)</td>', page)) == int(n)
        api = html.unescape(re.findall(r'href="(/api/v1/anomalies[^"]*)"', page)[0])
        found = data(client, api)
        assert (found["count"], sum(row["count"] for row in found["items"])) == (int(n), int(n))
        file = html.unescape(re.findall(r'href="(/download/anomaly_days.csv[^"]*)"', page)[0])
        rows = list(csv.DictReader(io.StringIO(client.get(file).content.decode("utf-8-sig"))))
        assert sum(int(row["count"]) for row in rows) == int(n)

    newest, older = data(client, PATH, source="shop", kind="zero_date")["items"]
    assert [one["key"] for one in newest["examples"]] == [f"t/{number}" for number in range(5)]
    assert (newest["count"], older["count"], older["examples"]) == (21, 7, [{"key": "t/6", "detail": "0000-00-00"}])
    page = client.get("/self/anomalies", source="shop", kind="zero_date", lang="en").text
    assert '<a href="/tasks/t%2F0?source=shop">t/0</a>' in page
    (undated,) = data(client, PATH, kind="bad_value")["items"]
    assert (undated["day"], undated["examples"]) == (None, [{"key": "<b>", "detail": None}])
    page = client.get("/self/anomalies", kind="bad_value", lang="en").text
    assert "without a time" in page
    assert "&lt;b&gt;" in page


def test_days_of_anomalies_come_in_pages_newest_first(serve: Serve) -> None:
    client, world = with_world(serve, [SOURCE])
    now = client.clock.now()
    for number in range(5):
        world.write((
            "INSERT INTO raw.anomaly VALUES ('shop', 'zero_date', 'task', $key, $at, NULL, $at, 1)",
            {"key": str(number), "at": now - timedelta(days=number)},
        ))  # fmt: skip
    world.publish()
    pages = [data(client, PATH, page=str(n), page_size="2") for n in (1, 2, 3, 4)]
    days = [row["day"] for page in pages for row in page["items"]]
    assert days == sorted(days, reverse=True)
    assert len(days) == 5
    assert {(page["total"], page["count"]) for page in pages} == {(5, 5)}


def test_nothing_published_and_words_that_are_none_are_answered(serve: Serve) -> None:
    client, world = with_world(serve, [SOURCE])
    world.publish()
    assert data(client, PATH)["count"] == 0
    assert "No anomalies" in client.get("/self/anomalies", kind="no such", lang="en").text
    assert client.request("GET", PATH, params={"source": "nowhere"}).status_code == 400
    assert client.request("GET", PATH, params={"day": "2026-01-01"}).status_code == 400

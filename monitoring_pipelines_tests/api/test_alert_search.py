"""Text search in alerts: page, API and file find the same, in any case and in either language of the page (S-804)."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from monitoring_pipelines.state import StateStore
from monitoring_pipelines.state import tables as t

from .conftest import NOW, SOURCE, Client, data, serving


def alert(name: str, n: int, **more: Any) -> dict[str, Any]:
    return {
        "alert_id": name, "fingerprint": name, "open_fingerprint": name, "type": "tasks.timeouts", "alertname": "Timeouts",
        "source_id": "shop", "labels": {}, "severity": "high", "severity_label": "high", "state": "firing", "message": "plain",
        "active_at": NOW - timedelta(minutes=n), "last_seen_at": NOW, "occurrences": 1, "is_drill": False,
    } | more  # fmt: skip


ALERTS = [
    alert("A1", 1, message="12 Tasks of Wan-Video have no output (8.5%)"),
    alert("A2", 2, type="resource.memory", alertname="MemoryHigh"),
    alert("A3", 3, source_id="depot"),
    alert("A4", 4, labels={"endpoint": "wan_video", "地区": "上海"}),
    alert("A5", 5, message=None, alertname="缺失输出"),
    alert("A6", 6, message="wan-video again", state="resolved", open_fingerprint=None, resolved_at=NOW),
    alert("A7", 7, labels={"path": 'D:\\data "old"'}),
]
#: Text → alerts that have it, newest first; of all, resolved or not.
FOUND = {
    "WAN-video": ["A1", "A6"], "wan_VIDEO": ["A4"], "wan": ["A1", "A4", "A6"], "8.5%": ["A1"], "%": ["A1"], "_": ["A4"],
    "Resource.": ["A2"], "memoryhigh": ["A2"], "DEPOT": ["A3"], "a5": ["A5"], "上海": ["A4"], "缺失": ["A5"],
    "nothing like it": [], "/": [], "\\": ["A7"], "'; DROP": [], "d:\\Data": ["A7"], '"old"': ["A7"], 'endpoint"': [],
}  # fmt: skip


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch, serving(tmp_path_factory.mktemp("search"), patch) as start:
        client = start({"sources": [SOURCE, SOURCE | {"id": "depot"}]})
        with StateStore.of(client.settings).begin() as con:
            con.execute(insert(t.alert), ALERTS)
        yield client


@pytest.mark.parametrize("text", FOUND)
def test_a_text_finds_what_has_it_in_message_name_type_source_id_or_labels(client: Client, text: str) -> None:
    """Signs that mean something in SQL are letters like others; page, API and file agree in both languages."""
    wanted = FOUND[text]
    assert [row["alert_id"] for row in data(client, "/api/v1/alerts", q=text)["items"]] == wanted
    assert data(client, "/api/v1/alerts", q=text, page_size=1)["total"] == len(wanted)
    for language in ("en", "zh-CN"):
        page = client.get("/alerts", q=text, show="all", sort="-since", lang=language).text
        assert re.findall(r'href="/alerts/(A\d)"', page) == wanted
        links = [
            html.unescape(link) for link in re.findall(r'href="(/(?:api/v1/alerts|download/alerts\.csv)\?[^"]+)"', page)
        ]
        file, api = (client.get(link) for link in sorted(links, reverse=True))
        assert [row["alert_id"] for row in api.json()["data"]["items"]] == wanted
        lines = csv.DictReader(io.StringIO(file.content.decode("utf-8-sig")))
        assert [line["alert_id"] for line in lines] == wanted
        assert f'name="q" value="{html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")}"' in page, (
            "the form shows what is searched"
        )


def test_a_search_goes_with_the_other_filters_and_ends_with_what_was_committed(client: Client) -> None:
    """What is remembered of an order is of one text, and of one state of the store."""
    assert [row["alert_id"] for row in data(client, "/api/v1/alerts", q="wan", open="true")["items"]] == ["A1", "A4"]
    assert data(client, "/api/v1/alerts", q="wan", source="depot")["total"] == 0
    assert data(client, "/api/v1/alerts", q="")["total"] == len(ALERTS)
    page = client.get("/alerts", q="wan", sort="-severity", lang="en").text
    assert "sort=severity" in page
    assert "q=wan&amp;sort=severity" in page, "a head keeps the text"
    assert '<input type="hidden" name="sort" value="-severity">' in page, "a new text keeps the order"
    assert "No alert matches" in client.get("/alerts", q="nothing like it", lang="en").text
    assert "没有符合条件的告警" in client.get("/alerts", q="nothing like it", lang="zh-CN").text
    for path in ("/api/v1/alerts", "/alerts", "/download/alerts.csv"):
        assert client.get(path, q="x" * 201).status_code == 400
    with StateStore.of(client.settings).begin() as con:
        con.execute(insert(t.alert), [alert("A9", 0, message="wan is new")])
    assert [row["alert_id"] for row in data(client, "/api/v1/alerts", q="wan")["items"]] == ["A9", "A1", "A4", "A6"]
    with StateStore.of(client.settings).begin() as con:
        con.execute(t.alert.delete().where(t.alert.c.alert_id == "A9"))

"""Links of a page to itself lead to the object it is about, whatever signs its id has (S-804)."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from urllib.parse import quote

from .conftest import SOURCE, Serve
from .world import World

IDS = ("a%41b", "a%2Fb", "a/b", "a?b", "a#b", "a b", "a+b", "a;b=c&d", "ü", '"><i>x')


def test_heads_pages_and_files_of_a_job_are_of_that_job(serve: Serve) -> None:
    client = serve({"sources": [SOURCE, {"id": "sched", "preset": "scheduler", "read_dsn_env": "SHOP_DSN"}]})
    rows = World(client.settings, client.clock)
    rows.source("sched")
    for name in IDS:
        rows.job(name, source="sched")
        for n in range(3):
            rows.job_run(name, "success", 10 + n, ago=timedelta(minutes=n + 1), source="sched")
    rows.publish()
    for name in IDS:
        page = client.get(f"/scheduler-monitoring/jobs/{quote(name, safe='')}", source="sched", page_size=2).text
        links = [html.unescape(link).partition("#")[0] for link in re.findall(r'href="([^"]*)"', page)]
        own = {link for link in links if re.search(r"[?&](sort|page)=|/runs|job_runs", link)}
        assert {link.partition("?")[0].rpartition("/")[2] for link in own} >= {
            "runs",
            "job_runs.csv",
            "job_runs.parquet",
        }
        assert sum("sort=" in link for link in own) == 6
        assert any("page=2" in link for link in own)
        for link in own:
            answer = client.get(link)
            assert answer.status_code == 200, link
            if link.startswith("/scheduler-monitoring/"):
                assert quote(name, safe="") in html.unescape(answer.text), link


def test_every_list_is_there_for_the_product_itself_as_source(serve: Serve) -> None:
    """``_self`` is a source of jobs, processes and alerts; it has no tasks, which is no fault of the server."""
    client = serve()
    rows = World(client.settings, client.clock)
    rows.source()
    rows.task("t1")
    rows.publish()
    for path in ("/", "/endpoints", "/tasks", "/tasks?show=all", "/consistency", "/checks", "/alerts", "/alerts/notifications",
                 "/repair", "/resources", "/ingest", "/self/anomalies", "/partitions"):  # fmt: skip
        answer = client.get(path, source="_self")
        assert answer.status_code == 200, (path, answer.status_code)
        assert "t1" not in answer.text.split("<main")[1]

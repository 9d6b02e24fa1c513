"""Every link of every page leads somewhere, in both languages (S-804).

What belongs here: following links and files. What does not: what the pages look like (``test_pages``).
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from dataclasses import replace
from datetime import datetime
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
import yaml

from monitoring_pipelines.cli.app import run
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.definitions import build_defs
from monitoring_pipelines.quality.model import CheckRun, RunStatus
from monitoring_pipelines.state import StateStore, checks
from monitoring_pipelines_tests.e2e.conftest import DAGSTER, NOW, Served, start_server

#: Pages of one kind are alike: so many of each are opened.
MOST_ALIKE = 3
HOME = ("/", "/repair", "/login", "/tasks?show=all", "/scheduler-monitoring?scope=all&tab=heatmap", "/alerts?show=all")


class Links(HTMLParser):
    """Addresses that a page names."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        for name in ("href", "src", "hx-get"):
            if values.get(name):
                self.found.append(unescape(str(values[name])))


def kind_of(path: str) -> str:
    """Pages whose addresses differ in ids and values only are of one kind."""
    parts = urlsplit(path)
    known = {"tasks", "endpoints", "jobs", "alerts", "plans", "runs", "runbooks", "checks", "processes", "report"}
    words = parts.path.strip("/").split("/")
    shape = [
        "*" if number and words[number - 1] in known and word != "notifications" else word
        for number, word in enumerate(words)
    ]
    query = parse_qs(parts.query)
    fixed = [f"{name}={query[name][0]}" if name in ("tab", "show", "range", "type") else name for name in sorted(query)]
    return "/".join(shape) + "?" + "&".join(fixed)


def crawl(served: Served, language: str, pages: dict[str, str] | None = None) -> tuple[dict[str, int], set[str]]:
    """Status of every address that was opened, and the addresses of the Dagster UI; ``pages`` gets what each page holds."""
    waiting, seen, kinds = list(HOME), set(HOME), {}
    answers: dict[str, int] = {}
    outside: set[str] = set()
    while waiting:
        path = waiting.pop(0)
        answer = served.get(path, language)
        answers[path] = answer.status_code
        if "text/html" not in answer.headers.get("content-type", ""):
            continue
        if pages is not None:
            pages[path] = answer.text
        page = Links()
        page.feed(answer.text)
        for link in page.found:
            target = urljoin(served.url + path, link).split("#")[0]
            if target.startswith(DAGSTER):
                outside.add(target)
            if not target.startswith(served.url):
                continue
            inside = target.removeprefix(served.url)
            kind = kind_of(inside)
            if inside in seen or kinds.get(kind, 0) >= MOST_ALIKE:
                continue
            kinds[kind] = kinds.get(kind, 0) + 1
            seen.add(inside)
            waiting.append(inside)
    return answers, outside


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_every_link_of_every_page_answers(repaired: Served, language: str) -> None:
    answers, outside = crawl(repaired, language)
    broken = {path: status for path, status in answers.items() if status != 200}
    assert not broken
    kinds = {kind_of(path).split("?")[0] for path in answers}
    wanted = {"checks/*", "alerts/*", "tasks/*", "endpoints/*", "repair/plans/*", "repair/runs/*", "runbooks/*",
              "scheduler-monitoring/jobs/*", "download/jobs.csv", "download/plan_items.csv", "download/journal.csv",
              "download/samples.csv"}  # fmt: skip
    assert wanted <= kinds, wanted - kinds
    assert outside


def test_no_text_of_a_page_is_left_in_the_other_language(repaired: Served) -> None:
    """An English page has Chinese letters only where data has them: names of jobs, and messages marked as such."""
    for path in ("/", "/endpoints", "/tasks?show=all", "/consistency", "/checks", "/repair", "/resources", "/ingest",
                 "/self", "/partitions", "/alerts/notifications", "/alerts/silences", "/nothing-here"):  # fmt: skip
        text = repaired.get(path, "en").text
        body = re.sub(r'<(\w+)[^>]*lang="zh-CN"[^>]*>.*?</\1>', "", text[text.index("<main") :])
        assert not re.findall(r"[\u4e00-\u9fff]{2,}", body), path


class Cards(HTMLParser):
    """Label and value of every card, whether it leads somewhere, and the places a link on the page can lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[list[Any]] = []
        self.places: set[str] = set()
        self.inside: set[str] = set()
        self._part = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        kind = values.get("class", "").split(" ")[0]
        self.places |= {values["id"]} if values.get("id") else set()
        if tag == "div" and kind in ("label", "value"):
            self._part = kind
            if kind == "label":
                self.found.append(["", "", False])
        elif tag == "a":
            if self._part == "value" and self.found:
                self.found[-1][2] = True
            if values.get("href", "").startswith("#"):
                self.inside.add(values["href"][1:])

    def handle_endtag(self, tag: str) -> None:
        self._part = "" if tag == "div" else self._part

    def handle_data(self, data: str) -> None:
        if self._part and self.found:
            self.found[-1][self._part == "value"] += data


#: Cards that are no figure: what somebody configured, did, or how something is.
STATES = {"Scheduler", "SLA limit", "Schedule", "By", "Status", "Store size", "Published version", "Completion (24 h)"}


def test_every_figure_of_a_card_leads_to_its_rows(repaired: Served) -> None:
    """One without a link is unknown, or a state; a link inside the page has its place there."""
    pages: dict[str, str] = {}
    crawl(repaired, "en", pages)
    left, seen = set(), set()
    for path, text in pages.items():
        page = Cards()
        page.feed(text)
        for label, value, leads in page.found:
            seen.add(label)
            if not leads and value.strip() != "–" and label not in STATES:
                left.add((kind_of(path), label, value))
        left |= {(kind_of(path), "no place", name) for name in page.inside - page.places}
    assert {"Settling", "Avg outputs", "Duplicates", "Candidates", "P50 / P95 / P99", "Open FDs"} <= seen
    assert not left, "\n".join(map(str, sorted(left)))


def total_of(page: str) -> int:
    """How many rows a list says it has, in English; 0 when it says that it has none."""
    found = re.findall(r"([\d,]+) in all", page)
    return int(found[-1].replace(",", "")) if found else 0


def test_each_number_of_the_heat_map_leads_to_exactly_the_runs_it_counts(repaired: Served) -> None:
    """M-505, S-804: of a category and of each job named in it, in the same 24 hours."""
    page = repaired.get("/scheduler-monitoring?scope=all&tab=heatmap").text
    heat = page[page.index('<div class="grid heat">') :]
    linked = re.findall(r'<a href="([^"]*outcome=[^"]*)">(?:[^\n]*? )??([\d,]+)</a>', heat)
    cells = repaired.get("/api/v1/scheduler/metrics?scope=all").json()["data"]["heatmap"]
    wanted = [cell["failures"] for cell in cells]
    assert sorted(wanted + [job["failures"] for cell in cells for job in cell["jobs"][:5]]) == sorted(
        int(n.replace(",", "")) for _, n in linked
    )
    assert any(wanted)
    for link, n in linked:
        assert total_of(repaired.get(unescape(link)).text) == int(n.replace(",", "")), link


def test_successes_and_failures_of_each_job_lead_to_the_runs_they_count(repaired: Served) -> None:
    """M-502, S-804: also those of the job that sends messages, which is listed with the channels."""
    page = repaired.get("/scheduler-monitoring?scope=all&page_size=500").text
    jobs = repaired.get("/api/v1/scheduler/metrics?scope=all").json()["data"]["metrics"]
    linked = re.findall(r'<a href="([^"]*&amp;outcome=[^"]*#runs)">([\d,]+)</a>', page)
    assert len(linked) == 2 * len(jobs) + 2
    chosen = [one for one in linked if "outcome=failure" in one[0] and one[1] != "0"]
    for link, n in [*chosen, *linked[:8], *linked[-4:]]:
        assert total_of(repaired.get(unescape(link)).text) == int(n.replace(",", "")), link
    assert chosen


def test_submissions_of_each_bucket_of_an_endpoint_lead_to_the_tasks_submitted_in_it(repaired: Served) -> None:
    """S-811: of minutes, of hours, of the day and hour that have not ended."""
    seen = 0
    for source in ("waverless", "tktool"):
        rows = repaired.get(f"/api/v1/endpoints?source={source}&sort=-tasks_submitted").json()["data"]["items"]
        for range_ in ("1h", "24h", "30d"):
            page = repaired.get(f"/endpoints/{rows[0]['endpoint']}?source={source}&range={range_}&tab=rows").text
            for link, n in re.findall(r'<td class="n"><a href="(/tasks[^"]*)">([\d,]+)</a>', page)[:12]:
                seen += n != "0"
                assert total_of(repaired.get(unescape(link)).text) == int(n.replace(",", "")), (range_, link)
    assert seen > 20


def test_each_number_of_anomalies_leads_to_the_days_it_is_the_sum_of(repaired: Served) -> None:
    """S-820: each day names its newest ones."""
    page = repaired.get("/self").text
    linked = re.findall(r'<a href="(/self/anomalies[^"]*)">([\d,]+)</a>', page)
    assert len(linked) == len(repaired.get("/api/v1/self").json()["data"]["anomalies"]) > 0
    for link, n in linked:
        listed = repaired.get(f"{unescape(link)}&page_size=500").text
        assert f"({n} in all)" in listed, link
        counts = re.findall(r'<td class="n">([\d,]+)</td>', listed)
        assert sum(int(one.replace(",", "")) for one in counts) == int(n.replace(",", "")), link
        assert listed.count("<div>") >= len(counts), link


def test_the_next_page_of_a_list_below_others_is_shown_where_the_list_stands(repaired: Served) -> None:
    """A pager of a lower list leads to the list's own place, which the page has; else every page turned is a scroll down."""
    runs = repaired.get("/api/v1/checks/runs?sort=-total_alerts").json()["data"]["items"]
    endpoint = repaired.get("/api/v1/endpoints?source=waverless&sort=-tasks_submitted").json()["data"]["items"][0][
        "endpoint"
    ]
    below = (
        "/consistency?source=tktool", f"/checks/{runs[0]['run_id']}", "/scheduler-monitoring?scope=all", "/tasks?show=all",
        "/scheduler-monitoring/jobs/minute_tick_job?source=_self", *repaired.repair_paths[:2],
        f"/endpoints/{endpoint}?source=waverless&range=6h&tab=tasks",
    )  # fmt: skip
    turned = 0
    for path in below:
        text = repaired.get(f"{path}{'&' if '?' in path else '?'}page_size=1&page=2").text
        places = set(re.findall(r'\bid="([^"]+)"', text))
        for link in re.findall(r'<a href="([^"]*)">(?:Previous|Next)</a>', text):
            turned += 1
            assert urlsplit(link).fragment in places, (path, link)
    assert turned > len(below)


class Texts(HTMLParser):
    """What a reader reads or hears of a page: texts and labels, without commands, code and stored details."""

    #: Elements that quote: commands, rows of a table of a document, what is kept as JSON.
    QUOTES = ("script", "style", "code", "pre")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside += tag in self.QUOTES
        self.found += [value for name, value in attrs if value and name in ("title", "aria-label", "placeholder", "alt",
                       "data-confirm", "data-done")]  # fmt: skip

    def handle_endtag(self, tag: str) -> None:
        self._inside -= tag in self.QUOTES

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.found.append(data)


def quoted(served: Served) -> set[str]:
    """What pages quote: names, owners, categories and errors of jobs as their source has them, notes of people."""
    jobs = served.get("/api/v1/scheduler/metrics?scope=mapped").json()["data"]["metrics"]
    data = {str(job[name]) for job in jobs for name in ("job_name", "owner", "category") if job[name]}
    for job in jobs:
        runs = served.get(f"/api/v1/scheduler/jobs/{job['job_id']}/runs?page_size=500&source={job['source_id']}").json()
        data |= {run["error_message"] for run in runs["data"]["items"] if run["error_message"]}
    silences = served.get("/api/v1/silences?page_size=500").json()["data"]["items"]
    return data | {silence["comment"] for silence in silences if silence["comment"]}


def test_a_chinese_reader_meets_no_english_sentence(repaired: Served) -> None:
    """Two English words in a row are a sentence, unless a source or a command says them (S-801)."""
    now = f"{NOW.isoformat()}Z"
    assert run(["check-integrity", "--config", str(repaired.config), "--now", now]) == 1  # a report among the checks
    pages: dict[str, str] = {}
    crawl(repaired, "zh-CN", pages)
    data = sorted(quoted(repaired), key=len, reverse=True)
    left = set()
    for path, text in pages.items():
        page = Texts()
        page.feed(text[text.index("<main") :])
        for one in page.found:
            for said_by_a_source in data:
                one = one.replace(said_by_a_source, "")
            if re.search(r"\b[A-Za-z]{2,}[,;:]? [A-Za-z]{2,}\b", one):
                left.add((kind_of(path), one.strip()[:200]))
    assert len(pages) > 60
    assert not left, "\n".join(map(str, sorted(left)))


def test_a_launchpad_link_opens_a_job_with_a_valid_configuration(repaired: Served) -> None:
    from dagster import validate_run_config

    _, outside = crawl(repaired, "en")
    defs = build_defs(settings=repaired.settings)
    launched = 0
    for link in outside:
        found = re.match(r"/locations/monitoring_pipelines/jobs/(\w+)/playground/setup", urlsplit(link).path)
        if found:
            config = yaml.safe_load(parse_qs(urlsplit(link).query)["config"][0])
            validate_run_config(defs.resolve_job_def(found[1]), config)
            launched += 1
    assert launched


def test_files_hold_every_row_and_no_formula(repaired: Served) -> None:
    rows = list(csv.DictReader(io.StringIO(repaired.get("/download/jobs.csv?scope=all").content.decode("utf-8-sig"))))
    listed = repaired.get("/api/v1/scheduler/metrics?scope=all").json()["data"]
    assert len(rows) == listed["total"]
    assert not [cell for row in rows for cell in row.values() if cell and cell[0] in "=+@"]


def test_a_page_that_is_not_there_says_so_in_the_readers_language(demo: Served) -> None:
    answer = demo.get("/tasks/none", "zh-CN")
    assert answer.status_code == 404
    assert "没有找到" in answer.text
    assert demo.get("/api/v1/tasks/none").headers["content-type"].startswith("application/json")


def test_only_a_check_that_ran_to_its_end_says_that_nothing_was_found(tmp_path: Path) -> None:
    """C-022, S-802: one that runs still, or did not run, knows nothing."""
    (tmp_path / "monitoring.yaml").write_text("version: 1\n")
    settings = load_settings(tmp_path / "monitoring.yaml")
    state = StateStore.of(settings)
    shown: dict[str, set[str]] = {}
    url, stop = start_server(settings, FixedClock(NOW))
    texts = {"Nothing was found", "Still running", "No result"}
    try:
        ends: tuple[RunStatus, ...] = ("missed", "skipped", "error", "healthy")
        for status in ends:
            begun = CheckRun(status, "full", "manual", "running", NOW, NOW, window_from=NOW, window_to=NOW)
            checks.start(state, begun)
            for now in (begun, replace(begun, status=status, ended_at=NOW)):
                if now.ended_at:
                    checks.finish(state, now)
                page = Served(url, settings).get(f"/checks/{status}").text
                shown[now.status] = {text for text in texts if text in page}
    finally:
        stop()
        state.dispose()
    assert shown == {
        "running": {"Still running"}, "missed": {"No result"}, "skipped": {"No result"}, "error": {"No result"},
        "healthy": {"Nothing was found"},
    }  # fmt: skip


def test_a_broken_state_store_is_said_on_the_page_and_statistics_stay(demo: Served, tmp_path: Path) -> None:
    """Alerts cannot be shown; the page says which part is broken and that published figures are not (S-802)."""
    text = demo.settings.file.read_text()
    broken = demo.settings.file.with_name("broken.yaml")
    (tmp_path / "url").write_text(f"sqlite:///{tmp_path}/nowhere/state.db")
    broken.write_text(text + f"state:\n  url_file: {tmp_path}/url\n")
    (tmp_path / "nowhere").write_text("a file where a folder should be")
    url, stop = start_server(load_settings(broken), FixedClock(NOW))
    try:
        served = replace(demo, url=url)
        answer = served.get("/alerts", "en")
        assert answer.status_code == 503
        assert "state store" in answer.text
        assert "Traceback" not in answer.text
        first = served.get("/", "en")
        assert first.status_code == 200
        assert "Alerts unknown" in first.text
        assert served.get("/endpoints", "en").status_code == 200
    finally:
        stop()


def test_percentages_have_a_fixed_axis_and_charts_end_with_what_is_closed(demo: Served) -> None:
    """S-803: 0 to 100, lines of their own for submitted and completed, no value after the last closed minute."""
    source = next(row for row in demo.get("/api/v1/sources").json()["data"] if row["id"] == "waverless")
    closed = datetime.fromisoformat(source["closed_through"]).timestamp()
    rows = demo.get("/api/v1/endpoints?source=waverless").json()["data"]["items"]
    # The busiest one: a chart without a single value is not drawn.
    endpoint = max(rows, key=lambda row: (row["totals_24h"] or {}).get("tasks_submitted") or 0)["endpoint"]
    page = demo.get(f"/endpoints/{endpoint}?source=waverless&range=6h", "en").text
    specs = [json.loads(html.unescape(one)) for one in re.findall(r'data-chart="([^"]+)"', page)]
    shares = [spec for spec in specs if spec.get("unit") == "%"]
    assert len(shares) >= 3
    assert all(spec["max"] == 100 for spec in shares)
    requests = next(spec for spec in specs if "Submitted" in [line["label"] for line in spec["series"]])
    assert not requests.get("bars")
    assert all(spec["x"][-1] < closed for spec in specs if not spec.get("ticks"))

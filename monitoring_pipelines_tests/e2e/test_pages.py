"""Every page in a real browser: accessible in both themes and languages, wide and narrow, and quiet (S-801, S-802).

What belongs here: what a reader's browser says about the pages. What does not: figures, which the API's tests know.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring_pipelines.api.access import COOKIE
from monitoring_pipelines.state import StateStore
from monitoring_pipelines.state.alerts import list_alerts
from monitoring_pipelines.state.checks import page as check_runs
from monitoring_pipelines_tests.e2e.conftest import Served
from monitoring_pipelines_tests.support.browser import Browser

LISTS = (
    "/", "/endpoints", "/tasks?show=all", "/consistency", "/checks", "/alerts", "/alerts/notifications", "/alerts/silences",
    "/repair", "/scheduler-monitoring?scope=all", "/scheduler-monitoring?tab=heatmap&scope=all",
    "/scheduler-monitoring/runs?scope=all&outcome=failure,timeout", "/resources", "/ingest",
    "/self", "/self/anomalies", "/partitions", "/runbooks", "/login", "/nothing-here",
)  # fmt: skip
LANGUAGES, THEMES, WIDTHS = ("zh-CN", "en"), ("light", "dark"), (1400, 390)


def paths_of(served: Served) -> list[str]:
    """Every page, with one object of each kind."""
    state = StateStore.of(served.settings)
    alerts, _ = list_alerts(state)
    runs, _ = check_runs(state)
    task = served.get("/api/v1/tasks?source=tktool&page_size=1").json()["data"]["items"][0]["task_key"]
    endpoints = served.get("/api/v1/endpoints?source=waverless").json()["data"]["items"]
    endpoint = f"/endpoints/{endpoints[0]['endpoint']}?source=waverless&range=6h"
    job = served.get("/api/v1/scheduler/metrics").json()["data"]["metrics"][0]
    by_type = {row["type"]: row["alert_id"] for row in alerts}
    matchers = [{"name": "type", "value": "nothing.of.this.name"}, {"name": "source", "op": "!=", "value": "tktool"}]
    served.post("/api/v1/silences", {"matchers": matchers, "ends_at": "2999-01-01", "comment": "planned work"})
    return [
        *LISTS, "/runbooks/missing_outputs", *(f"/alerts/{id_}" for id_ in list(by_type.values())[:4]), "/alerts?show=all",
        *(f"{endpoint}&tab={tab}" for tab in ("charts", "workers", "tasks", "timeline", "rows")),
        f"/tasks/{task}?source=tktool", f"/checks/{runs[-1].run_id}",
        f"/scheduler-monitoring/jobs/{job['job_id']}?source={job['source_id']}",
        *served.repair_paths, "/tasks?show=all&from=2026-03-10&to=2026-03-11",
        *(f"{path}?outcome=deleted" for path in served.repair_paths[-1:]), "/consistency?source=tktool&date=2026-03-10",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, demo: Served) -> Iterator[Browser]:
    """One browser for all tests here, signed in at the demo."""
    with Browser.started(tmp_path_factory.mktemp("browser"), demo.url) as found:
        found.call("Network.setCookie", name=COOKIE, value=demo.token, url=demo.url)
        yield found


def looked_at(browser: Browser, axe: str, path: str, languages: tuple[str, ...] = LANGUAGES) -> list[str]:
    """Everything wrong with one page in every language, theme and width; it is loaded once per language."""
    wrong: list[str] = []
    for language in languages:
        browser.language(language)
        browser.open(path)
        for theme in THEMES:
            browser.ask(f"document.documentElement.dataset.theme = {theme!r}; 0")
            for width in WIDTHS:
                browser.size(width)
                name = f"{path} {language} {theme} {width}"
                wrong += [f"{name}: {text}" for text in browser.violations(axe)]
                beyond = browser.ask("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                if beyond > 0:
                    wrong.append(f"{name}: the page scrolls sideways by {beyond} px")
        missing = [text for text in browser.problems if "404 (Not Found)" in text]
        wrong += [f"{path} {language}: {text}" for text in browser.problems if text not in missing]
        browser.problems.clear()
    return wrong


def test_every_page_is_accessible_fits_a_phone_and_stays_quiet(repaired: Served, browser: Browser, axe: str) -> None:
    """WCAG 2.2 AA in all eight combinations; no foreign request, no policy violation, no console error."""
    wrong = [text for path in paths_of(repaired) for text in looked_at(browser, axe, path)]
    assert not wrong, "\n".join(wrong)


def test_every_page_is_so_too_when_there_is_nothing_to_show(empty: Served, axe: str, tmp_path: Path) -> None:
    with Browser.started(tmp_path, empty.url) as browser:
        wrong = [text for path in LISTS for text in looked_at(browser, axe, path, ("zh-CN",))]
        browser.language("en")
        browser.open("/")
        assert "No source configured" in browser.ask("document.querySelector('main').textContent")
    assert not wrong, "\n".join(wrong)


def test_charts_write_iso_dates_and_24_hours_in_both_languages(demo: Served, browser: Browser) -> None:
    """What uPlot would write on its axes and below a chart, taken from the canvas calls of the page."""
    endpoint = demo.get("/api/v1/endpoints?source=waverless").json()["data"]["items"][0]["endpoint"]
    for language in LANGUAGES:
        browser.language(language)
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=(
            "window.drawn = []; const write = CanvasRenderingContext2D.prototype.fillText;"
            "CanvasRenderingContext2D.prototype.fillText = function (text, ...more) { window.drawn.push(text); return write.call(this, text, ...more); }"
        ))  # fmt: skip
        browser.open(f"/endpoints/{endpoint}?source=waverless&range=6h")
        drawn = json.loads(browser.ask("new Promise(r => setTimeout(() => r(JSON.stringify(window.drawn)), 500))"))
        legend = browser.ask("document.querySelector('.u-legend .u-value').textContent")
        assert [text for text in drawn if len(text) == 5 and text[2] == ":"], drawn[:20]
        assert not [text for text in drawn if text.lower().endswith(("am", "pm")) or "/" in text]
        assert legend.startswith("2026-03-10 "), legend
        browser.problems.clear()

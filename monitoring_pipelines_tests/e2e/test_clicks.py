"""From the first page to a repaired platform by clicks alone, in a real browser (S-814, the newcomer's way).

What belongs here: the way and its number of clicks. What does not: what repair writes (``compensation``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from monitoring_pipelines_tests.e2e.conftest import Served, lost, new_demo
from monitoring_pipelines_tests.support.browser import Browser

WAIT_S = 180


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A demo of its own: the first page has room for five alerts, and what other tests did may bring graver ones."""
    with new_demo(tmp_path_factory.mktemp("clicks") / "demo") as served:
        yield served


@dataclass
class Reader:
    """Clicks what can be seen, counts it, and waits for what comes of it."""

    browser: Browser
    clicks: list[str] = field(default_factory=list)

    @classmethod
    def at_home(cls, browser: Browser, served: Served) -> Reader:
        browser.language("en")
        browser.size(1440)
        browser.open(f"/login#token={served.token}")
        found = cls(browser)
        found.until("location.pathname === '/'")
        return found

    def until(self, condition: str | Callable[[], str]) -> None:
        deadline = time.monotonic() + WAIT_S
        asked = condition if callable(condition) else lambda: condition
        while not self.browser.ask(f"document.readyState === 'complete' && Boolean({asked()})"):
            assert time.monotonic() < deadline, (asked(), self.clicks, self.browser.ask("document.title"))
            time.sleep(0.1)

    def click(self, words: str | Callable[[], str]) -> None:
        """Click the first link or button that shows ``words``, as they are by then, and is not disabled."""
        asked = words if callable(words) else lambda: words
        self.until(lambda: f"(found => found && (found.click(), true))(({FIND})({asked()!r}))")
        self.clicks.append(asked())

    def confirm(self) -> None:
        """Say yes in the dialog; this is the second half of the click before it."""
        self.click("Confirm")
        self.clicks.pop()

    def type_in(self, text: str) -> None:
        self.browser.ask(
            "(() => { const box = document.querySelector('dialog [name=typed]'); box.value = "
            f"{text!r}; box.dispatchEvent(new Event('input')); }})()"
        )

    def shows(self, text: str) -> None:
        self.until(f"document.querySelector('main').textContent.includes({text!r})")


FIND = (
    "words => [...document.querySelectorAll('dialog[open] button, main a, main button, nav a')].find(e => "
    "!e.disabled && e.ariaDisabled !== 'true' && e.textContent.trim().includes(words) && e.getClientRects().length)"
)


def test_an_alert_leads_to_rows_plan_and_result_in_four_clicks(demo: Served, tmp_path: Path) -> None:
    """From the first page, by what can be seen alone; each step that changes something asks once."""
    alert = lost(demo)
    with Browser.started(tmp_path, demo.url) as browser:
        reader = Reader.at_home(browser, demo)

        def message() -> str:
            found = lost(demo)["details"]
            return f"{found['missing_count']} of {found['total_success_tasks']} succeeded tasks"

        reader.click(message)  # a check may run meanwhile
        reader.shows("What carries it")
        on_the_way = len(reader.clicks)
        reader.click("Rows")
        reader.shows("Missing list")
        reader.click("Make a repair plan")
        reader.confirm()
        reader.until("location.pathname.startsWith('/repair/plans/')")
        reader.shows("The classes add up to the candidates")
        reader.click("Approve")
        reader.confirm()
        reader.shows("Approved by demo")
        reader.click("Apply")
        reader.type_in("tktool")
        reader.confirm()
        reader.until("location.pathname.startsWith('/repair/runs/')")
        reader.shows("The counters add up")
        assert reader.clicks[on_the_way:] == ["Rows", "Make a repair plan", "Approve", "Apply"]
        assert on_the_way == 1, "the first page shows the alert"
        reader.shows("Check again")
        plan = browser.ask(
            "[...document.querySelectorAll('main a')].find(a => a.pathname.startsWith('/repair/plans/')).pathname"
        )
        reader.click("Preview of the rollback")
        reader.confirm()
        reader.shows("This is a preview; no row was removed")
        reader.shows("Row by row")
        reader.click("Roll back")
        reader.type_in("tktool")
        reader.confirm()
        reader.shows("rows were removed")
        assert not browser.problems
    assert demo.get(f"/api/v1{plan}").json()["data"]["alert_id"] == alert["alert_id"]


@pytest.mark.parametrize("action", ["Trigger", "Enable", "Disable"])
def test_several_jobs_are_switched_at_once_and_each_says_what_became_of_it(
    demo: Served, tmp_path: Path, action: str
) -> None:
    with Browser.started(tmp_path, demo.url) as browser:
        reader = Reader.at_home(browser, demo)
        browser.open("/scheduler-monitoring?scope=self")
        assert browser.ask("document.querySelector('[data-picked]').hidden")
        browser.ask(
            "document.querySelectorAll('[data-pick]')[0].click(); document.querySelectorAll('[data-pick]')[1].click()"
        )
        reader.until("document.querySelector('[data-picked-count]').textContent === '2'")
        browser.ask(
            f"[...document.querySelectorAll('[data-picked] button')].find(b => b.textContent === {action!r}).click()"
        )
        reader.confirm()
        reader.until("/[✓✗]/.test(document.getElementById('said').textContent)")
        said = browser.ask("document.getElementById('said').textContent").splitlines()
    assert [line[0] for line in said] == (["✗", "✗"] if action == "Trigger" else ["✓", "✓"])
    if action == "Trigger":
        assert all("Dagster" in line for line in said)


def test_jobs_of_several_sources_are_asked_for_source_by_source(demo: Served, tmp_path: Path) -> None:
    """S-104: what is picked on one page may be in sources that do not know of each other."""
    with Browser.started(tmp_path, demo.url) as browser:
        reader = Reader.at_home(browser, demo)
        browser.open("/scheduler-monitoring?scope=all&page_size=500")
        own, other = (
            browser.ask(f"document.querySelector('[data-pick]{which}').dataset.pick")
            for which in ('[data-pick^="_self/"]', ':not([data-pick^="_self/"])')
        )
        for pick in (own, other):
            browser.ask(f"document.querySelector('[data-pick=' + CSS.escape({pick!r}) + ']').click()")
        reader.until("document.querySelector('[data-picked-count]').textContent === '2'")
        browser.ask(
            "[...document.querySelectorAll('[data-picked] button')].find(b => b.textContent === 'Enable').click()"
        )
        reader.confirm()
        reader.until("/[✓✗]/.test(document.getElementById('said').textContent)")
        said = sorted(browser.ask("document.getElementById('said').textContent").splitlines())
        assert not browser.problems
    (source, _, job), (elsewhere, _, theirs) = own.partition("/"), other.partition("/")
    assert said[0] == f"✓ {job} ({source})"
    assert said[1].startswith(f"✗ {theirs} ({elsewhere}): ")
    assert "switched there" in said[1]

"""A page refreshes itself while it is looked at, and keeps its last good values when it cannot (S-801, S-802)."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.config import load_settings
from monitoring_pipelines_tests.e2e.conftest import NOW, start_server
from monitoring_pipelines_tests.support.browser import Browser

COUNT = "performance.getEntriesByType('resource').filter(e => e.initiatorType === 'xmlhttprequest').length"
HIDE = "Object.defineProperty(document, 'hidden', {configurable: true, get: () => %s}); document.dispatchEvent(new Event('visibilitychange')); 0"
BROKEN = "!document.getElementById('refresh-problem').hidden"
WAIT_S = 120


@contextmanager
def opened(folder: Path) -> Iterator[tuple[Browser, str, Callable[[], None]]]:
    """A page that refreshes itself every second, the address of its server, and what ends that."""
    file = folder / "monitoring.yaml"
    file.write_text("version: 1\napi: {refresh_s: {tasks: 1, default: 1, charts: 1}}\n")
    url, stop = start_server(load_settings(file), FixedClock(NOW))
    try:
        with Browser.started(folder / "browser", url) as browser:
            browser.language("en")
            browser.open("/")
            yield browser, url, stop
    finally:
        stop()


def until(browser: Browser, condition: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not browser.ask(f"Boolean({condition})"):
        assert time.monotonic() < deadline, condition
        time.sleep(0.2)


def test_a_page_refreshes_while_it_is_seen_rests_while_hidden_and_stays_when_the_server_is_gone(tmp_path: Path) -> None:
    with opened(tmp_path) as (browser, _, stop):
        until(browser, f"{COUNT} >= 2")
        browser.ask(HIDE % "true")
        time.sleep(1)  # what was under way ends
        resting = browser.ask(COUNT)
        time.sleep(4)
        assert browser.ask(COUNT) == resting
        browser.ask(HIDE % "false")
        until(browser, f"{COUNT} > {resting}")
        stop()
        until(browser, BROKEN)
        assert browser.ask("document.getElementById('live').classList.contains('stale')")
        assert "No source configured" in browser.ask("document.getElementById('live').textContent")


def test_a_server_that_takes_requests_and_never_answers_is_said_on_the_page_too(tmp_path: Path) -> None:
    """Nothing fails by itself then: figures would stay as if they were new (S-802)."""
    with opened(tmp_path) as (browser, url, stop):
        until(browser, f"{COUNT} >= 1")
        assert not browser.ask(BROKEN)
        stop()
        with socket.create_server(("127.0.0.1", int(url.rsplit(":", 1)[1]))):
            browser.ask("document.getElementById('refresh-problem').hidden = true; 0")  # said while nobody listened
            until(browser, BROKEN)


def test_a_refresh_takes_neither_the_focus_nor_what_is_typed(tmp_path: Path) -> None:
    """Every few seconds who works with the keyboard would be back at the top of the page, and a search half typed gone."""
    with opened(tmp_path) as (browser, _, _stop):
        browser.open("/scheduler-monitoring?scope=self")
        browser.ask(
            "(q => { q.focus(); q.value = 'nightly'; q.setSelectionRange(3, 3); window.old = q; })"
            "(document.querySelector('#live input[name=q]')); 0"
        )
        until(browser, "!window.old.isConnected")
        typed = browser.ask("(q => [q.name, q.value, q.selectionStart])(document.activeElement)")
        assert typed == ["q", "nightly", 3]
        browser.open("/self")
        browser.ask("(a => { a.focus(); window.old = a; })(document.querySelector('#live a[href$=\".parquet\"]')); 0")
        until(browser, "!window.old.isConnected")
        assert browser.ask("document.activeElement.getAttribute('href')") == "/download/components.parquet"


def test_a_reader_pauses_the_refresh_until_the_button_is_pressed_again(tmp_path: Path) -> None:
    """S-801, WCAG 2.2.2: on the next page of the tab, too; a refresh by hand still works."""
    with opened(tmp_path) as (browser, _, _stop):
        pressed = "document.querySelector('[data-pause]').getAttribute('aria-pressed')"
        until(browser, f"{COUNT} >= 1")
        assert browser.ask(pressed) == "false"
        browser.ask("document.querySelector('[data-pause]').click(); 0")
        browser.open("/self")
        assert browser.ask(pressed) == "true"
        time.sleep(4)
        assert browser.ask(COUNT) == 0
        browser.ask("document.querySelector('[data-refresh-now]').click(); 0")
        until(browser, f"{COUNT} == 1")
        browser.ask("document.querySelector('[data-pause]').click(); 0")
        until(browser, f"{COUNT} >= 2")

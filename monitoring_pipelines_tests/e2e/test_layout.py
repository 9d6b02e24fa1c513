"""Every page at the widths people have, and with a keyboard alone (S-801): nothing cut, nothing over another, nothing out of reach.

What belongs here: geometry and focus, as the browser has them. What does not: what axe finds (``test_pages``), and figures.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from monitoring_pipelines.api.access import COOKIE
from monitoring_pipelines_tests.e2e.conftest import Served
from monitoring_pipelines_tests.e2e.test_pages import LANGUAGES, THEMES, paths_of
from monitoring_pipelines_tests.support.browser import Browser

WIDTHS = (375, 390, 1280, 1920, 3840)
#: What is wrong with the layout as it is. Text is compared where it can be seen: inside the boxes that scroll.
LAYOUT = """(() => {
  const wrong = [], d = document.documentElement, seen = [];
  if (d.scrollWidth > d.clientWidth) { wrong.push("scrolls sideways by " + (d.scrollWidth - d.clientWidth) + " px"); }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), range = document.createRange();
  const boxes = new Map();
  const box = (e) => {  // what is visible of the element: its box and those around it that hide what is beyond them
    if (!e || e === d) { return { left: -1e9, right: 1e9, top: -1e9, bottom: 1e9, hides: null }; }
    if (!boxes.has(e)) {
      const outer = box(e.parentElement), style = getComputedStyle(e);
      let found = outer;
      if (style.overflowX !== "visible" || style.overflowY !== "visible") {
        const r = e.getBoundingClientRect(), hides = style.overflowX === "hidden" || style.overflowX === "clip" ? e : outer.hides;
        found = { left: Math.max(outer.left, r.left), right: Math.min(outer.right, r.right), top: Math.max(outer.top, r.top),
                  bottom: Math.min(outer.bottom, r.bottom), hides };
      }
      boxes.set(e, found);
    }
    return boxes.get(e);
  };
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement, text = node.data.trim();
    if (!text || parent.closest("script, style, option, svg, dialog:not([open]), .quiet, .skip, [hidden]")) { continue; }
    if (!parent.checkVisibility({ opacityProperty: true, visibilityProperty: true })) { continue; }
    range.selectNodeContents(node);
    for (const r of range.getClientRects()) {
      const clip = box(parent);
      if (clip.hides && (r.right > clip.right + 2 || r.bottom > clip.bottom + 4)) { wrong.push("cut: " + text.slice(0, 40)); }
      const one = { left: Math.max(r.left, clip.left), right: Math.min(r.right, clip.right), top: Math.max(r.top, clip.top),
                    bottom: Math.min(r.bottom, clip.bottom), node, text };
      if (one.right - one.left > 2 && one.bottom - one.top > 2) { seen.push(one); }
    }
  }
  seen.sort((a, b) => a.top - b.top);
  seen.forEach((a, n) => {
    for (let m = n + 1; m < seen.length && seen[m].top < a.bottom - 4; m++) {
      const b = seen[m];
      if (a.node === b.node) { continue; }
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left), down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 3 && down > 4) { wrong.push("over each other: " + a.text.slice(0, 30) + " | " + b.text.slice(0, 30)); }
    }
  });
  return [...new Set(wrong)].slice(0, 5);
})()"""
#: Remembers every element that got the focus, and whether one can see in both themes that it has it: an outline that stands out
#: from what it is drawn on by 3 to 1 (WCAG 2.2, 1.4.11).
WATCH = """(() => {
  window.reached = new Set(); window.unseen = [];
  const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const rgba = (colour) => {
    if (!known.has(colour)) {
      pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
      known.set(colour, pen.getImageData(0, 0, 1, 1).data);
    }
    return known.get(colour);
  };
  const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, share, n) => {
    const part = c[n] / 255;
    return sum + share * (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  }, 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] > 250) { return colour; }
    }
    return rgba("white");
  };
  const ring = (e) => {
    const style = getComputedStyle(e);
    if (style.outlineStyle === "none" || !(parseFloat(style.outlineWidth) > 0)) { return 0; }
    const two = [light(rgba(style.outlineColor)), light(behind(parseFloat(style.outlineOffset) < 0 ? e : e.parentElement))];
    return (Math.max(...two) + 0.05) / (Math.min(...two) + 0.05);
  };
  document.addEventListener("focusin", (event) => {
    const e = event.target, root = document.documentElement, before = root.dataset.theme;
    window.reached.add(e);
    for (const theme of ["light", "dark"]) {
      root.dataset.theme = theme;
      const found = ring(e);
      if (found < 3) { window.unseen.push(theme + " " + found.toFixed(1) + ": " + e.outerHTML.slice(0, 120)); }
    }
    if (before === undefined) { delete root.dataset.theme; } else { root.dataset.theme = before; }
  });
  window.wanted = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")].filter(
    (e) => !e.disabled && e.type !== "hidden" && e.checkVisibility() && !e.closest("dialog:not([open])"));
  return window.wanted.length;
})()"""
_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowDown": 40}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, demo: Served) -> Iterator[Browser]:
    """One browser for all tests here, signed in at the demo."""
    with Browser.started(tmp_path_factory.mktemp("browser"), demo.url) as found:
        found.call("Network.setCookie", name=COOKIE, value=demo.token, url=demo.url)
        yield found


def press(browser: Browser, key: str, times: int = 1) -> None:
    text = {"Enter": "\r", " ": " "}.get(key)
    for _ in range(times):
        common = {"key": key, "code": {" ": "Space"}.get(key, key), "windowsVirtualKeyCode": _KEYS[key]}
        browser.call(
            "Input.dispatchKeyEvent",
            type="keyDown" if text else "rawKeyDown",
            **common,
            **({"text": text} if text else {}),
        )
        browser.call("Input.dispatchKeyEvent", type="keyUp", **common)


def until(browser: Browser, expression: str) -> bool:
    """Whether the expression becomes true within a few seconds; a page that is being left answers nothing."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if browser.ask(f"Boolean({expression})"):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_cut_or_over_another_at_any_width(repaired: Served, browser: Browser, language: str) -> None:
    """In both themes: at every width one of them with the first language, and the other with the second."""
    browser.language(language)
    wrong = []
    for path in paths_of(repaired):
        browser.open(path)
        assert (
            path == "/nothing-here"
            or browser.ask("performance.getEntriesByType('navigation')[0].responseStatus") == 200
        ), path
        for number, width in enumerate(WIDTHS):
            theme = THEMES[(number + LANGUAGES.index(language)) % len(THEMES)]
            browser.size(width)
            browser.ask(
                f"document.documentElement.dataset.theme = {theme!r}; "
                "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
            )
            wrong += [f"{path} {language} {theme} {width}: {text}" for text in browser.ask(LAYOUT)]
    assert not wrong, "\n".join(wrong)


def test_tab_reaches_everything_and_one_sees_where_it_is(repaired: Served, browser: Browser) -> None:
    """In both themes; the pages take turns with the languages."""
    browser.size(1280)
    wrong = []
    for number, path in enumerate(paths_of(repaired)):
        browser.language(LANGUAGES[number % len(LANGUAGES)])
        browser.open(path)
        browser.ask(
            "document.querySelector('.matrix') && document.querySelectorAll('.matrix tbody tr:nth-child(n+4)').forEach(r => r.remove()); 0"
        )
        wanted = browser.ask(WATCH)
        press(browser, "Tab", wanted + 12)
        missed = browser.ask(
            "window.wanted.filter(e => e.isConnected && !window.reached.has(e)).map(e => e.outerHTML.slice(0, 120))"
        )
        wrong += [f"{path}: out of reach: {text}" for text in missed[:3]]
        wrong += [f"{path}: no sign of focus: {text}" for text in browser.ask("window.unseen")[:3]]
    assert not wrong, "\n".join(wrong)


def test_the_first_tab_offers_to_skip_the_navigation(demo: Served, browser: Browser) -> None:
    browser.size(1280)
    browser.open("/endpoints")
    press(browser, "Tab")
    place = browser.ask("(r => [r.left, r.top, r.width, r.height])(document.activeElement.getBoundingClientRect())")
    assert browser.ask("document.activeElement.matches('a[href^=\"#\"]')")
    assert place[0] >= 0
    assert place[1] >= 0
    assert place[2] > 20
    press(browser, "Enter")
    press(browser, "Tab")
    assert browser.ask("Boolean(document.activeElement.closest('main'))")


def test_a_dialog_keeps_the_focus_closes_with_escape_and_gives_it_back(demo: Served, browser: Browser) -> None:
    browser.size(1280)
    browser.open("/consistency")
    assert browser.ask("Boolean(document.querySelector('button[data-action]'))"), browser.ask("document.title")
    browser.ask("document.querySelector('button[data-action]:not([aria-disabled=true])').focus(); 0")
    press(browser, "Enter")
    assert browser.ask("document.querySelector('dialog').open")
    for _ in range(8):
        press(browser, "Tab")
        assert browser.ask(
            "document.activeElement === document.body || Boolean(document.activeElement.closest('dialog'))"
        )
    press(browser, "Escape")
    assert not browser.ask("document.querySelector('dialog').open")
    assert browser.ask("document.activeElement.matches('button[data-action]')")


def test_a_button_that_is_not_for_now_can_be_reached_and_says_why(demo: Served, browser: Browser) -> None:
    """S-814: with the keyboard or a finger there is no title to see; pressing it changes nothing."""
    browser.size(1280)
    browser.language("en")
    browser.open("/scheduler-monitoring?scope=mapped")
    browser.ask("document.querySelector('button[aria-disabled=true]').focus(); 0")
    why = browser.ask("document.activeElement.title")
    press(browser, "Enter")
    assert until(browser, f"document.getElementById('said').textContent === {why!r}")
    assert len(why) > 10
    assert not browser.ask("document.querySelector('dialog').open")
    assert browser.ask("document.activeElement.matches('button[aria-disabled=true]')")


def test_tabs_filters_and_boxes_obey_the_keyboard(demo: Served, browser: Browser) -> None:
    browser.size(1280)
    browser.open("/scheduler-monitoring?scope=all")
    browser.ask("document.querySelector('input[data-pick]').focus(); 0")
    press(browser, " ")
    assert browser.ask(
        "document.querySelector('input[data-pick]').checked && !document.querySelector('[data-picked]').hidden"
    )
    browser.ask("document.querySelector('.tabs a:not([aria-current])').focus(); 0")
    press(browser, "Enter")
    assert until(browser, "location.search.includes('tab=heatmap')")
    browser.open("/endpoints")
    browser.ask("document.querySelector('select[name=source]').focus(); 0")
    press(browser, "ArrowDown")
    assert until(browser, "/source=[a-z]/.test(location.search)")

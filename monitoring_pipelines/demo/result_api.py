"""The result service of the simulated workflow platform: it still knows what the platform lost.

What belongs here: its answers, and where it listens. What does not: the server (``compensation.fake_api``).
"""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from monitoring_pipelines.compensation.fake_api import API_KEY, FakeResultApi

#: Secrets of the demo that hold the service's key.
KEY_FILE = "result_api.key"
_KINDS = (("png", 55), ("jpg", 25), ("mp4", 12), ("json", 8))


def free_url() -> str:
    """A base URL on the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def answer_for(remote_id: str) -> Any:
    """What the service says of a task; always the same for the same id.

    Of a hundred tasks it has one to four files for about 92; four ended without a file, two failed after all, one is
    still running, one is unknown.
    """
    draw = int.from_bytes(hashlib.sha256(remote_id.encode()).digest()[:6], "big")
    share = draw % 100
    if share < 4:
        return []
    if share < 6:
        return {"code": 805, "msg": "APIKEY_TASK_STATUS_ERROR", "data": {"failedReason": {"node": "VAEDecode"}}}
    if share < 8:
        return {"code": 804 if share == 6 else 807, "msg": "", "data": None}
    files = []
    for position in range((1, 1, 1, 2, 4)[draw // 100 % 5]):
        kind = _kind((draw >> 8 * (position + 1)) % 100)
        name = f"{remote_id}_{position:05d}.{kind}"
        files.append({
            "fileUrl": f"https://files.example.net/results/{name}?sign={draw & 0xFFFFFFFF:08x}", "fileType": kind,
            "nodeId": str(9 + position), "taskCostTime": str(20 + draw % 80), "consumeCoins": None,
        })  # fmt: skip
    return files


def _kind(draw: int) -> str:
    for kind, share in _KINDS:
        if draw < share:
            return kind
        draw -= share
    return _KINDS[0][0]


def serve(url: str) -> FakeResultApi | None:
    """Start the service at ``url``; None when something else listens there already."""
    try:
        api = FakeResultApi(urlsplit(url).port or 0)
    except OSError:
        return None
    api.default = answer_for
    return api.start()


def write_key(secrets: Path) -> None:
    """The key that the service accepts, as the configuration names it."""
    path = secrets / KEY_FILE
    path.write_text(API_KEY + "\n", encoding="utf-8")
    path.chmod(0o600)

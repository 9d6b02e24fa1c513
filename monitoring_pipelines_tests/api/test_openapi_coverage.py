"""The tester's own command finds no fault: every boundary of every parameter, wrong methods, wrong media types.

What belongs here: its coverage phase, as a stranger runs it. What does not: requests made up at random and the rights of
roles (``test_openapi``).
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from .conftest import Serve
from .stored import fill
from .world import World

#: They start a process of their own, each of which takes seconds.
LEFT_OUT = r"(checks/runs|data-consistency/check|repair/plans|apply|resume|verify|rollback)$"


def test_the_command_of_the_tester_finds_no_fault_at_the_boundaries(serve: Serve, tmp_path: Path) -> None:
    """That ``from`` is before ``to``, and how long a range may be, cannot be said in OpenAPI; it is 400 (S-104, S-211)."""
    client = serve()
    rows = World(client.settings, client.clock)
    rows.source()
    rows.task("t1")
    rows.publish()
    fill(client.settings, client.clock)
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")), "run", f"{client.url}/openapi.json", "--phases=coverage",
            "--exclude-checks=positive_data_acceptance", "--exclude-path-regex", LEFT_OUT, "--seed=1", "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    assert re.search(r"(\d{3,}) generated, \1 passed", done.stdout), "it asked hundreds of requests"

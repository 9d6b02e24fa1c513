"""Supervised processes: restarts, shutdown of whole process groups, ports, exit codes.

What belongs here: the supervisor over small real processes. What does not: Dagster itself (``e2e``).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from monitoring_pipelines.cli.supervise import NICE, Service, ServiceError, Supervisor, check_port
from monitoring_pipelines.cli.up import dagster_services, page_service
from monitoring_pipelines.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


def service(name: str, code: str) -> Service:
    return Service(name, [sys.executable, "-c", textwrap.dedent(code)], dict(os.environ))


def wait_for(condition, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_crashed_child_is_started_again_and_output_is_prefixed() -> None:
    """A crash is said, waited for and repaired; the exit code of an asked-for end is 0."""
    lines: list[str] = []
    supervisor = Supervisor([service("worker", "import sys; print('hello'); sys.exit(3)")], lines.append)
    stopper = threading.Thread(
        target=lambda: (wait_for(lambda: lines.count("worker    | hello") >= 2), supervisor.stop())
    )
    stopper.start()
    assert supervisor.run() == 0
    stopper.join()
    assert lines.count("worker    | hello") >= 2
    assert "worker    | ended with code 3; starting it again in 1 s" in lines


def test_what_gives_way_does_so_with_everything_it_starts() -> None:
    """Runs are started by the code server: they have its priority, pages and their supervisor keep theirs."""
    code = "import os, subprocess, time; print(os.nice(0)); print(subprocess.check_output(['nice']).decode()); time.sleep(600)"
    lines: list[str] = []
    giving = service("code", "import time; time.sleep(0.5)\n" + code)
    giving.gives_way = True
    supervisor = Supervisor([giving, service("page", code)], lines.append)
    stopper = threading.Thread(target=lambda: (wait_for(lambda: len(lines) >= 4), supervisor.stop()))
    stopper.start()
    supervisor.run()
    stopper.join()
    own = os.nice(0)
    assert sorted(lines) == [f"code      | {own + NICE}"] * 2 + [f"page      | {own}"] * 2


def test_the_code_server_gives_way_and_nothing_else(tmp_path: Path) -> None:
    """Runs are its children; a page that waits for a backfill is what this is against."""
    services = dagster_services(tmp_path / "monitoring.yaml", tmp_path, "127.0.0.1", 3000)
    services.append(
        page_service(tmp_path / "monitoring.yaml", tmp_path, ("127.0.0.1", 8787), "http://127.0.0.1", "info")
    )
    assert [one.name for one in services if one.gives_way] == ["code"]


def test_child_that_never_stays_up_ends_the_command_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """No endless restarting in silence: after six crashes in a row the command fails and names the cause."""
    monkeypatch.setattr("monitoring_pipelines.cli.supervise._BACKOFF_S", (0.01,))
    broken = service("broken", "raise SystemExit('no such table: runs')")
    steady = service("steady", "import time; time.sleep(600)")
    with pytest.raises(ServiceError) as caught:
        Supervisor([steady, broken], lambda line: None).run()
    assert caught.value.exit_code == 1
    assert "broken does not stay up" in caught.value.message
    assert caught.value.cause == "no such table: runs"
    assert steady.process is not None
    assert steady.process.poll() is not None


def test_sigterm_ends_children_and_their_children(tmp_path: Path) -> None:
    """A helper process of a child, even one that ignores signals, does not survive the command."""
    (tmp_path / "stubborn.py").write_text(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(600)\n"
    )
    (tmp_path / "parent.py").write_text(
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, {str(tmp_path / 'stubborn.py')!r}])\n"
        "print('pid', child.pid, flush=True)\nchild.wait()\n"
    )
    script = tmp_path / "supervised.py"
    script.write_text(
        "import os, sys\n"
        "from monitoring_pipelines.cli.supervise import Service, Supervisor\n"
        f"service = Service('a', [sys.executable, {str(tmp_path / 'parent.py')!r}], dict(os.environ))\n"
        "sys.exit(Supervisor([service], lambda line: print(line, flush=True)).run())\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert process.stdout is not None
    first, second = sorted(process.stdout.readline().split("| ")[1].strip() for _ in range(2))
    helper = int(first.removeprefix("pid "))
    assert second == "up"
    children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert helper in children
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    process.stdout.close()
    assert wait_for(lambda: not any(psutil.pid_exists(pid) for pid in children))


def test_a_service_others_need_ends_after_them() -> None:
    """A daemon that outlives its code server would report it as unreachable at every regular end."""
    code = """
        import signal, sys, time
        def end(*_):
            print("ended", flush=True)
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        print("up", flush=True)
        while True:
            time.sleep(0.05)
    """
    lines: list[str] = []
    needed, dependent = service("needed", code), service("dependent", code)
    needed.ready = lambda: any(line.startswith("needed") for line in lines)
    supervisor = Supervisor([needed, dependent], lines.append)
    threading.Thread(
        target=lambda: (wait_for(lambda: sum("up" in line for line in lines) == 2), supervisor.stop()), daemon=True
    ).start()
    assert supervisor.run() == 0
    assert [line.split()[0] for line in lines if "ended" in line] == ["dependent", "needed"]


def test_taken_port_is_named_with_the_way_out() -> None:
    """The message says which port, for what, and how to choose another."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError) as caught:
            check_port("127.0.0.1", port, "the Dagster UI")
    assert f"port {port} on 127.0.0.1, needed for the Dagster UI, is not free" in caught.value.message
    assert f"--port {port + 1}" in (caught.value.hint or "")
    assert caught.value.exit_code == 2


def test_free_port_is_accepted_and_stays_free() -> None:
    """Checking does not occupy the port."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
    check_port("127.0.0.1", port, "the Dagster UI")
    check_port("127.0.0.1", port, "the Dagster UI")

"""Running several server processes as one: start, prefix their output, restart what crashes, end all together.

What belongs here: processes, signals and ports. What does not: which processes (``up``, ``demo``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType

from monitoring_pipelines.errors import ProductError, UsageError

Say = Callable[[str], None]

_BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
#: A child that ran this long is healthy again: its next crash waits the shortest pause.
_STEADY_S = 120.0
#: A child that crashes this often without ever getting steady will not come up at all.
_HOPELESS = 6
_STOP_GRACE_S = 20.0
#: Steps of niceness: whoever gives way has a quarter of a processor that both want.
NICE = 5


class ServiceError(ProductError):
    """A supervised process does not stay up."""

    exit_code = 1
    code = "service_failed"


@dataclass
class Service:
    """One process to keep running.

    Attributes:
        ready: Services listed after this one are started once it is true; None: at once.
        gives_way: Whether its processes get the processor after those of others, ``NICE`` steps lower.
    """

    name: str
    command: list[str]
    env: Mapping[str, str]
    process: subprocess.Popen[str] | None = None
    started: float = 0.0
    crashes: int = 0
    due: float = 0.0
    last_line: str = ""
    ready: Callable[[], bool] | None = None
    gives_way: bool = False
    readers: list[threading.Thread] = field(default_factory=list)


def check_port(host: str, port: int, what: str, option: str = "--port") -> None:
    """Make sure that ``port`` can be opened.

    Raises:
        UsageError: It is taken, not allowed for this user, or the host name is not one of this machine.
    """
    if not 1 <= port <= 65_535:
        raise UsageError(f"{port} is not a port number", hint=f"choose one from 1024 to 65535 with {option}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except PermissionError:
            raise UsageError(
                f"port {port} for {what} is reserved for the administrator", hint=f"choose one above 1023 with {option}"
            ) from None
        except OSError as error:
            raise UsageError(
                f"port {port} on {host}, needed for {what}, is not free", cause=error.strerror,
                hint=f"end the program that uses it, or choose another port with {option}, e.g. {option} {port + 1}",
            ) from None  # fmt: skip


def give_way(pid: int) -> None:
    """Let a process that was just started, and whatever it starts, have the processor after others."""
    with contextlib.suppress(ProcessLookupError):  # it has ended already, which is noticed elsewhere
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid) + NICE)


class Supervisor:
    """Keeps services running until it is told to stop.

    Args:
        services: Started in this order, ended in the reverse one.
        say: Receives every line of output, already prefixed with the service's name.
        on_stop: Called once at the beginning of the shutdown, e.g. to end threads.
    """

    def __init__(self, services: list[Service], say: Say, on_stop: Callable[[], None] | None = None) -> None:
        self._services = services
        self._say = say
        self._on_stop = on_stop
        self._wake = threading.Event()
        self._signals = 0

    def stop(self) -> None:
        """Ask ``run`` to end; safe from any thread."""
        self._wake.set()

    def run(self, ready: Callable[[], bool] | None = None, announce: Callable[[], None] | None = None) -> int:
        """Start everything and block until SIGINT, SIGTERM or ``stop``.

        Args:
            ready: Polled once a second until it is true; then ``announce`` is called once.
            announce: See ``ready``.

        Returns:
            0 after an asked-for end.

        Raises:
            ServiceError: A service keeps crashing; the others have been ended.
        """
        with self._signals_handled():
            try:
                waiting = list(self._services)
                polled = 0.0
                while not self._wake.is_set():
                    waiting = self._start_next(waiting)
                    self._wake.wait(0.2)
                    for service in self._services[: len(self._services) - len(waiting)]:
                        self._look_after(service)
                    if not waiting and ready is not None and time.monotonic() - polled >= 1.0:
                        polled = time.monotonic()
                        if ready():
                            ready = None
                            if announce is not None:
                                announce()
            finally:
                self._end_all()
        return 0

    @contextlib.contextmanager
    def _signals_handled(self) -> Iterator[None]:
        def handle(_number: int, _frame: FrameType | None) -> None:
            self._signals += 1
            self._wake.set()

        previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, action in previous.items():
                signal.signal(number, action)

    def _start_next(self, waiting: list[Service]) -> list[Service]:
        """Start services up to the first that is not ready; those that have to wait for it are returned."""
        earlier = self._services[: len(self._services) - len(waiting)]
        while waiting and all(s.ready is None or s.ready() for s in earlier):
            self._start(waiting[0])
            earlier, waiting = [*earlier, waiting[0]], waiting[1:]
        return waiting

    def _start(self, service: Service) -> None:
        # An own process group: one signal ends the service with its helpers, and Ctrl-C reaches only us.
        service.process = subprocess.Popen(  # noqa: S603 - fixed commands of this product
            service.command, env=dict(service.env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace", bufsize=1, start_new_session=True,
        )  # fmt: skip
        if service.gives_way:
            give_way(service.process.pid)
        service.started, service.due = time.monotonic(), 0.0
        reader = threading.Thread(target=self._read, args=(service, service.process), daemon=True)
        service.readers.append(reader)
        reader.start()

    def _read(self, service: Service, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            text = line.rstrip()
            if text:
                service.last_line = text
                self._say(f"{service.name:<9} | {text}")
        process.stdout.close()

    def _look_after(self, service: Service) -> None:
        process = service.process
        if process is None:
            if time.monotonic() >= service.due:
                self._start(service)
            return
        code = process.poll()
        if code is None:
            return
        self._end_group(process, signal.SIGTERM)  # helpers of the crashed process
        service.process = None
        steady = time.monotonic() - service.started >= _STEADY_S
        service.crashes = 1 if steady else service.crashes + 1
        if service.crashes >= _HOPELESS:
            raise ServiceError(
                f"{service.name} does not stay up: it ended {service.crashes} times in a row, last with code {code}",
                cause=service.last_line or None, hint=f"start it by hand to see more: {' '.join(service.command)}",
            )  # fmt: skip
        pause = _BACKOFF_S[min(service.crashes, len(_BACKOFF_S)) - 1]
        service.due = time.monotonic() + pause
        self._say(f"{service.name:<9} | ended with code {code}; starting it again in {pause:g} s")

    def _end_all(self) -> None:
        if self._on_stop is not None:
            self._on_stop()
        running = [s.process for s in reversed(self._services) if s.process is not None]
        deadline = time.monotonic() + _STOP_GRACE_S
        seen = self._signals
        # What others need ends last: a daemon whose code server is gone would report that as a failure.
        for needed in (False, True):
            ending = [s.process for s in self._services if s.process is not None and (s.ready is not None) == needed]
            for process in ending:
                # The leader alone first: it ends its helpers in its own order. The group follows.
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
            while any(p.poll() is None for p in ending) and time.monotonic() < deadline and self._signals <= seen:
                time.sleep(0.1)
        for process in running:
            self._end_group(process, signal.SIGTERM)
        time.sleep(0.2)
        for process in running:
            self._end_group(process, signal.SIGKILL)
            process.wait()
        for service in self._services:
            for reader in service.readers:
                reader.join(timeout=1.0)

    @staticmethod
    def _end_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
        """Signal whatever is left of the process group that ``process`` leads."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)

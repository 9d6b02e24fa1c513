"""A proxy between a client and a real MySQL server that acts at the n-th statement: cut the line, kill, do something else.

What belongs here: splitting the client's bytes into statements and the moments before and after each. What does not:
any change of what is sent.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

_QUERY = 3
#: Called with (number of the statement, its text, "before" or "after"); True cuts the connection there.
Hook = Callable[[int, str, str], "bool | None"]


class MysqlProxy:
    """Listens on the loopback; ``statements`` holds what went through. Use as a context manager."""

    def __init__(self, host: str, port: int, hook: Hook | None = None) -> None:
        self._target = (host, port)
        self.hook = hook
        self.statements: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> MysqlProxy:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def reset(self, hook: Hook | None) -> None:
        """Count from the beginning with another hook."""
        with self._lock:
            self.hook, self.statements = hook, []

    def _spawn(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        self._listener.settimeout(0.1)
        while not self._stopped.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            client.settimeout(None)
            self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(self._target)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._relay(client, server)
        except OSError:
            pass
        finally:
            for end in (client, server):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        pending = b""
        while not self._stopped.is_set():
            ready, _, _ = select.select([client, server], [], [], 0.1)
            if server in ready:
                data = server.recv(65536)
                if not data:
                    return
                client.sendall(data)
            if client in ready:
                data = client.recv(65536)
                if not data:
                    return
                pending += data
                while len(pending) >= 4 and len(pending) >= 4 + int.from_bytes(pending[:3], "little"):
                    size = 4 + int.from_bytes(pending[:3], "little")
                    packet, pending = pending[:size], pending[size:]
                    if not self._packet(packet, client, server):
                        return

    def _packet(self, packet: bytes, client: socket.socket, server: socket.socket) -> bool:
        """Forward one packet; False when the connection is to be cut."""
        if packet[3] != 0 or len(packet) < 5 or packet[4] != _QUERY:
            server.sendall(packet)
            return True
        text = packet[5:].decode("utf-8", "replace")
        with self._lock:
            self.statements.append(text)
            number, hook = len(self.statements), self.hook
        if hook is None:
            server.sendall(packet)
            return True
        if hook(number, text, "before"):
            return False
        server.sendall(packet)
        answer = server.recv(65536)  # the server has executed the statement
        if not answer or hook(number, text, "after"):
            return False
        client.sendall(answer)
        return True

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
_MORE_RESULTS = 8
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
        answer = whole_answer(server)  # the server has executed the statement, all of them if it is several
        if not answer or hook(number, text, "after"):
            return False
        client.sendall(answer)
        return True


def whole_answer(server: socket.socket) -> bytes:
    """All packets up to the end of the last result; empty when the server hung up."""
    answer, at, ends_of_rows = b"", 0, 0
    while True:
        while len(answer) - at < 4 or len(answer) - at < 4 + int.from_bytes(answer[at : at + 3], "little"):
            data = server.recv(65536)
            if not data:
                return b""
            answer += data
        size = int.from_bytes(answer[at : at + 3], "little")
        body, at = answer[at + 4 : at + 4 + size], at + 4 + size
        if body[0] == 0xFF:
            return answer
        if ends_of_rows == 0:
            if body[0] != 0:  # a number of columns: their descriptions, EOF, rows, EOF
                ends_of_rows = 2
                continue
            status = body[_skip_number(body, _skip_number(body, 1)) :][:2]
        elif body[0] == 0xFE and size < 9:
            ends_of_rows -= 1
            if ends_of_rows:
                continue
            status = body[3:5]
        else:
            continue
        if not int.from_bytes(status, "little") & _MORE_RESULTS:
            return answer


def _skip_number(body: bytes, at: int) -> int:
    """Where the length-encoded number at ``at`` ends."""
    return at + {0xFC: 3, 0xFD: 4, 0xFE: 9}.get(body[at], 1)

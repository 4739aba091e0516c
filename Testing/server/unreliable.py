"""A link to a server that counts bytes, and breaks once, in a call that a test names."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class UnreliableLink:
    """A TCP relay on loopback. `break_first`: part of a request's first line; the first one that holds it is cut,
    `when` it is underway ("request") or after the server has done its work ("answer")."""

    def __init__(self, address: str, break_first: str | None = None, when: str = "request") -> None:
        self._target = (urlsplit(address).hostname, urlsplit(address).port)
        self._break_first = break_first.encode() if break_first else None
        self._when = when
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent = 0
        self.broken = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        server = socket.create_connection(self._target)
        cut_answer = threading.Event()

        def back() -> None:
            try:
                while data := server.recv(65536):
                    if cut_answer.is_set():
                        break
                    client.sendall(data)
            except OSError:
                pass
            finally:
                _close(client, server)

        threading.Thread(target=back, daemon=True).start()
        try:
            while data := client.recv(65536):
                self.sent += len(data)
                if self._is_to_break(data):
                    if self._when == "request":
                        server.sendall(data[: len(data) // 2])
                        break
                    cut_answer.set()
                server.sendall(data)
        except OSError:
            pass
        finally:
            if not cut_answer.is_set():
                _close(client, server)

    def _is_to_break(self, data: bytes) -> bool:
        with self._lock:
            first_line = data.split(b"\r\n", 1)[0]
            if self._break_first and self._break_first in first_line and not self.broken:
                self.broken += 1
                return True
            return False


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()

"""What else may answer at an address: HTTP servers of others, hostile ones, and what is no HTTP server at all."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def answering(
    status: int,
    kind: str,
    body: bytes | Iterable[bytes],
    headers: Mapping[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """Another HTTP server, which always gives this answer, in pieces and without a length unless it is bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            length = {"Content-Length": str(len(body))} if isinstance(body, bytes) else {"Connection": "close"}
            for name, value in {"Content-Type": kind, **length, **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            for piece in [body] if isinstance(body, bytes) else body:
                self.wfile.write(piece)

        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_POST(self):
            self.do_PUT()

        def log_message(self, *_):
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_):
            pass

    http = Quiet(("127.0.0.1", 0), Handler)
    if context is not None:
        http.socket = context.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}"
    finally:
        http.shutdown()
        http.server_close()


@contextmanager
def raw(greeting: bytes) -> Iterator[str]:
    """Something that is no HTTP server at all."""
    listener = socket.create_server(("127.0.0.1", 0))

    def greet() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.sendall(greeting)
                client.recv(1000)

    threading.Thread(target=greet, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()

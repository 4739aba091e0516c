"""Admission: authentication, limits on size, time and number of requests, and the access log.

The ASGI middleware stands before FastAPI and buffers every request body, so the application never waits for a client.
The log holds methods, routes without ids, statuses, times and users, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from CTSAM3DLib.loopback import is_loopback
from CTSAM3DLib.remote.protocol import MAX_UPLOAD, PROTOCOL, PROTOCOL_HEADER
from CTSAM3DServer.keys import KeyFileError, Keys
from CTSAM3DServer.metrics import Metrics

logger = logging.getLogger(__name__)

MAX_JSON = 2**18
"""Bytes of a JSON body: more than the longest list of clicks."""
MAX_REQUESTS = 32
"""Concurrent requests of one user."""
BODY_PAUSE_S = 20.0
"""Seconds. Longest pause within a body."""
BODY_S = 120.0
"""Seconds. Longest time for a whole body."""
DRAIN_S = 5.0
MAX_DRAINED = 2**26
"""Seconds and bytes for which the rest of a refused request is still read."""

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
"""Headers by which a reverse proxy names the client that it forwards for."""
_ASK = {"WWW-Authenticate": "Bearer"}
_OPEN_TO_ALL = ("/healthz",)
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
_ROUTES = {
    re.compile(pattern): name
    for pattern, name in (
        (r"/healthz", "/healthz"),
        (r"/metrics", "/metrics"),
        (r"/openapi\.json", "/openapi.json"),
        (r"/v1/models", "/v1/models"),
        (r"/v1/volumes/[^/]*", "/v1/volumes/{id}"),
        (r"/v1/volumes/[^/]*/segment", "/v1/volumes/{id}/segment"),
        (r"/v1/volumes/[^/]*/tiles", "/v1/volumes/{id}/tiles"),
    )
}


class Refused(Exception):  # noqa: N818 - an answer, not a failure
    """A request that is not admitted: the status, the sentence and the headers of its response."""

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers or {}


class Admission:
    """ASGI middleware that admits or refuses requests.

    Without `keys` it admits everyone, but only requests addressed to this computer by a loopback name.
    """

    def __init__(self, app: ASGIApp, keys: Keys | None, metrics: Metrics) -> None:
        self._app = app
        self._keys = keys
        self._metrics = metrics
        self._requests: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit one request or refuse it; count and log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        request = _Request(scope, receive, send)
        try:
            await self._admit(request)
        finally:
            seconds = time.perf_counter() - start
            self._metrics.request(request.method, request.route, request.status, seconds, request.received)
            owner = request.owner or "-"
            logger.info("%s %s %d %.0f ms %s", request.method, request.route, request.status, 1000 * seconds, owner)

    async def _admit(self, request: _Request) -> None:
        try:
            if request.route in _OPEN_TO_ALL:
                await self._pass(request, max_bytes=0)
                return
            request.owner = self._owner(request.headers)
            with self._counted(request.owner):
                await self._pass(request, MAX_UPLOAD if request.route.endswith("/tiles") else MAX_JSON)
        except Refused as refusal:
            await request.refuse(refusal)
        except Exception as error:  # a defect, logged without its message, which can hold clicks
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.error("%s in %s\n%s", type(error).__name__, request.route, frames)
            if not request.status:
                await request.refuse(Refused(500, "The server met a defect of its own; its log says where."))

    async def _pass(self, request: _Request, max_bytes: int) -> None:
        body = await request.body(max_bytes)
        request.scope.setdefault("state", {})["owner"] = request.owner
        await self._app(request.scope, _replay(body, request.receive), request.send)

    def _owner(self, headers: Headers) -> str:
        """The user whose key the request carries; empty on a server without keys. Raises Refused."""
        if self._keys is None:
            # Against DNS rebinding by web pages in a browser here, and against clients that come through a proxy.
            name = re.sub(r":\d*$", "", headers.get("host", "")).strip("[]")
            if not is_loopback(name) or any(head in headers for head in _FORWARDED):
                raise Refused(403, "A server without keys answers on its own computer only; connect to 127.0.0.1.")
            return ""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Refused(401, "The server asks for a key; give one that its administrator has made for you.", _ASK)
        try:
            owner = self._keys.owner_of(key)
        except KeyFileError as error:
            logger.error("%s", error)
            raise Refused(503, "The server cannot read its file of keys; tell its administrator.") from error
        if owner is None:
            raise Refused(401, "The server does not know this key, or not any more; ask for a new one.", _ASK)
        return owner

    @contextmanager
    def _counted(self, owner: str) -> Iterator[None]:
        if self._requests[owner] >= MAX_REQUESTS:
            raise Refused(429, "There are too many requests of this user at a time; try again.", {"Retry-After": "1"})
        self._requests[owner] += 1
        try:
            yield
        finally:
            self._requests[owner] -= 1
            if not self._requests[owner]:
                del self._requests[owner]


class _Request:
    """One request: its route, user and counters, its body within limits, and its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self._send = send
        self.headers = Headers(scope=scope)
        self.method = scope["method"] if scope["method"] in _METHODS else "other"
        self.route = next((name for path, name in _ROUTES.items() if path.fullmatch(scope["path"])), "other")
        self.owner: str | None = None
        self.status = 0
        """0 until the response has begun."""
        self.received = 0
        self._whole = False

    async def send(self, message: Message) -> None:
        """Send a part of the response; its headers name the protocol's version."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            version = (PROTOCOL_HEADER.lower().encode(), str(PROTOCOL).encode())
            message["headers"] = [*message.get("headers", ()), version]
        await self._send(message)

    async def body(self, max_bytes: int) -> bytes:
        """The whole body, of at most `max_bytes` bytes. Raises Refused where it is too long or too slow."""
        too_long = Refused(413, f"The body of the request is longer than {max_bytes} bytes; send less at a time.")
        if int(self.headers.get("content-length", 0)) > max_bytes:  # uvicorn lets nothing but digits in
            raise too_long
        parts = bytearray()
        try:
            async for part in self._parts(BODY_S):
                parts += part
                if len(parts) > max_bytes:
                    raise too_long
        except asyncio.TimeoutError as error:
            raise Refused(408, "The body of the request came too slowly; try again.") from error
        return bytes(parts)

    async def refuse(self, refusal: Refused) -> None:
        """Send the refusal."""
        # Read the rest first: a client that is still sending would miss the response if the connection closed now.
        with suppress(asyncio.TimeoutError, Refused):
            unread = MAX_DRAINED
            async for part in self._parts(DRAIN_S):
                unread -= len(part)
                if unread < 0:
                    break
        headers = {"Connection": "close", **refusal.headers}
        answer = JSONResponse({"detail": refusal.sentence}, refusal.status, headers)
        await answer(self.scope, self.receive, self.send)

    async def _parts(self, timeout_s: float) -> AsyncIterator[bytes]:
        """The parts of the body not read yet. Raises asyncio.TimeoutError, and Refused once the client is gone."""
        end = time.monotonic() + timeout_s
        while not self._whole:
            pause = min(BODY_PAUSE_S, end - time.monotonic())
            message = await asyncio.wait_for(self.receive(), max(pause, 0))
            if message["type"] == "http.disconnect":
                self._whole = True
                raise Refused(400, "The connection ended before the request did.")
            self._whole = not message.get("more_body", False)
            self.received += len(message.get("body", b""))
            yield message.get("body", b"")


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the buffered body in one message, and then the messages after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay

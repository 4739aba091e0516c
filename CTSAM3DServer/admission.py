"""The door of the server: nothing passes that has no key, is too large or comes too slowly.

It stands before FastAPI and holds every body back until it is whole, so that what is behind it never waits for a
client. It also writes the log, which names methods, routes without ids, statuses, times and users, and nothing else.
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

from CTSAM3DLib.remote.loopback import is_loopback
from CTSAM3DLib.remote.protocol import MAX_UPLOAD, PROTOCOL, PROTOCOL_HEADER
from CTSAM3DServer.keys import KeyFileError, Keys
from CTSAM3DServer.metrics import Metrics

logger = logging.getLogger(__name__)

MAX_JSON = 2**18
"""Bytes of a body that is not tiles: more than the longest list of clicks."""
MAX_REQUESTS = 32
"""Requests of one user at a time."""
BODY_PAUSE_S = 20.0
"""The longest silence within a body."""
BODY_S = 120.0
"""The longest time for a whole body."""
DRAIN_S = 5.0
MAX_DRAINED = 2**26
"""How long the rest of a refused request is listened to, and how many bytes of it are."""

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
"""Heads by which a reverse proxy tells for whom it asks."""
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
    """A request that does not pass, and what its client is told."""

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers or {}


class Guard:
    """ASGI middleware. Without `keys` whoever reaches the server may come in, but only by a name of this computer."""

    def __init__(self, app: ASGIApp, keys: Keys | None, metrics: Metrics) -> None:
        self._app = app
        self._keys = keys
        self._metrics = metrics
        self._requests: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or refuse it; count and log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        request = _Request(scope, receive, send)
        try:
            await self._admit(request)
        finally:
            seconds = time.perf_counter() - begun
            self._metrics.request(request.method, request.route, request.status, seconds, request.received)
            owner = request.owner or "-"
            logger.info("%s %s %d %.0f ms %s", request.method, request.route, request.status, 1000 * seconds, owner)

    async def _admit(self, request: _Request) -> None:
        try:
            if request.route in _OPEN_TO_ALL:
                await self._pass(request, most=0)
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

    async def _pass(self, request: _Request, most: int) -> None:
        body = await request.body(most)
        request.scope.setdefault("state", {})["owner"] = request.owner
        await self._app(request.scope, _replay(body, request.receive), request.send)

    def _owner(self, headers: Headers) -> str:
        """Whose request this is; without keys it is nobody's."""
        if self._keys is None:
            # A web page that a browser shows here must not reach us under its own name, nor others through a proxy.
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
    """One request: what is known of it, its body within limits, and the way to answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self._send = send
        self.headers = Headers(scope=scope)
        self.method = scope["method"] if scope["method"] in _METHODS else "other"
        self.route = next((name for path, name in _ROUTES.items() if path.fullmatch(scope["path"])), "other")
        self.owner: str | None = None
        self.status = 0
        """0 until an answer has begun."""
        self.received = 0
        self._whole = False

    async def send(self, message: Message) -> None:
        """Send a part of the answer, whose head tells our protocol."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            version = (PROTOCOL_HEADER.lower().encode(), str(PROTOCOL).encode())
            message["headers"] = [*message.get("headers", ()), version]
        await self._send(message)

    async def body(self, most: int) -> bytes:
        """The whole body. Raises Refused where it is too long or too slow."""
        too_long = Refused(413, f"The body of the request is longer than {most} bytes; send less at a time.")
        if int(self.headers.get("content-length", 0)) > most:  # uvicorn lets nothing but digits in
            raise too_long
        parts = bytearray()
        try:
            async for part in self._parts(BODY_S):
                parts += part
                if len(parts) > most:
                    raise too_long
        except asyncio.TimeoutError as error:
            raise Refused(408, "The body of the request came too slowly; try again.") from error
        return bytes(parts)

    async def refuse(self, refusal: Refused) -> None:
        """Answer that this request does not pass."""
        # A client that is still sending would miss the answer if we hung up now.
        with suppress(asyncio.TimeoutError, Refused):
            unread = MAX_DRAINED
            async for part in self._parts(DRAIN_S):
                unread -= len(part)
                if unread < 0:
                    break
        headers = {"Connection": "close", **refusal.headers}
        answer = JSONResponse({"detail": refusal.sentence}, refusal.status, headers)
        await answer(self.scope, self.receive, self.send)

    async def _parts(self, longest: float) -> AsyncIterator[bytes]:
        """What is left of the body. Raises asyncio.TimeoutError, and Refused once the client is gone."""
        end = time.monotonic() + longest
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
    """A `receive` that gives the whole body at once, and then whatever comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay

"""Requests and WebSockets of a browser, passed on to the process of their workspace."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aiohttp
from aiohttp import web

from CTSAM3DServer.web.handover import DOOR_HEADER

_OF_ONE_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "host", "cookie", "content-encoding"}
MAX_MESSAGE = 64 * 2**20
"""Bytes of a WebSocket message; pictures and state are far smaller."""


async def pass_request(
    client: aiohttp.ClientSession, request: web.Request, address: str, secret: str
) -> web.StreamResponse:
    """Pass a request on and its answer back, both as streams."""
    async with client.request(
        request.method,
        address,
        headers=_kept(request.headers) | {DOOR_HEADER: secret},
        data=request.content if request.can_read_body else None,
        allow_redirects=False,
    ) as answer:
        response = web.StreamResponse(status=answer.status, headers=_kept(answer.headers))
        await response.prepare(request)
        async for piece in answer.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response


async def pass_websocket(
    client: aiohttp.ClientSession, request: web.Request, address: str, secret: str
) -> web.WebSocketResponse:
    """Pass the messages of a WebSocket in both directions until one side ends."""
    browser = web.WebSocketResponse(max_msg_size=MAX_MESSAGE)
    await browser.prepare(request)
    try:
        async with client.ws_connect(
            address.replace("http", "ws", 1), headers={DOOR_HEADER: secret}, max_msg_size=MAX_MESSAGE
        ) as workspace:
            passing = [
                asyncio.create_task(_pass_messages(browser, workspace)),
                asyncio.create_task(_pass_messages(workspace, browser)),
            ]
            done, pending = await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            for task in done:
                task.result()  # raises what ended it, a failed connection among them
    except aiohttp.ClientError:
        pass  # the workspace is gone, and the page finds out by the end of its connection
    finally:
        await browser.close()
    return browser


_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pass_messages(source: _Socket, target: _Socket) -> None:
    with suppress(ConnectionError):  # the other side has gone, which ends it as well
        async for message in source:
            if message.type is aiohttp.WSMsgType.TEXT:
                await target.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await target.send_bytes(message.data)


def _kept(headers: object) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _OF_ONE_HOP}  # type: ignore[attr-defined]

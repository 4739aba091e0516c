"""The door: one address for the browser, behind which every page has a process of its own.

`/` opens a new workspace and goes to its address, `/w/ID/`; everything below that is passed on to its process. Only
who knows the key of this run gets in: the address that `ctsam3d web` prints carries it, and a cookie keeps it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from html import escape

import aiohttp
from aiohttp import web

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DServer.web.gateway.processes import WorkspaceProcess, Workspaces
from CTSAM3DServer.web.gateway.proxy import pass_request, pass_websocket

COOKIE = "ctsam3d-web"
MAX_BODY = 2**44
"""Uploads are bounded by the workspace, which streams them to disk."""


class Front:
    """The door's application and what is behind it."""

    def __init__(self, workspaces: Workspaces, key: str) -> None:
        self._workspaces = workspaces
        self._key = key
        self._client = aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None))

    def app(self) -> web.Application:
        """For aiohttp."""
        app = web.Application(middlewares=[self._check], client_max_size=MAX_BODY)
        app.add_routes(
            [
                web.get("/alive", _alive),
                web.get("/", self._open),
                web.get("/w/{id}", self._to_folder),
                web.route("*", "/w/{id}/{path:.*}", self._pass_on),
            ]
        )
        return app

    async def close(self) -> None:
        """Let the connections to the workspaces go."""
        await self._client.close()

    @web.middleware
    async def _check(self, request: web.Request, handler: Callable) -> web.StreamResponse:
        """Let in who knows the key, and turn what went wrong into a page that says it."""
        given = request.query.get("key")
        if given is not None and secrets.compare_digest(given.encode(), self._key.encode()):
            response = web.HTTPFound(request.path)
            response.set_cookie(COOKIE, self._key, httponly=True, samesite="Strict", secure=request.secure)
            return response
        if not secrets.compare_digest(request.cookies.get(COOKIE, "").encode(), self._key.encode()):
            return _said(
                request, 403, "Open the address that ctsam3d web has printed; it carries the key to this page."
            )
        try:
            return await handler(request)
        except CTSAM3DError as error:
            return _said(request, 503, str(error))
        except aiohttp.ClientError:
            return _said(request, 502, "The page's process has just ended; load the page again.")

    async def _open(self, _request: web.Request) -> web.StreamResponse:
        workspace = await self._workspaces.open()
        self._workspaces.prepare()
        raise web.HTTPFound(f"/w/{workspace.id}/")

    async def _to_folder(self, request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"{request.path}/")

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        workspace = self._workspaces.get(request.match_info["id"])
        if workspace is None:
            return _said(
                request,
                404,
                "This page is no longer there, since ctsam3d web was started anew; open its address again.",
            )
        address = f"{await workspace.address()}/{request.match_info['path'] or 'index.html'}"
        if request.match_info["path"] == "paraview/":  # where trame's client asks for the address of its WebSocket
            return web.json_response({"sessionURL": f"ws://USE_HOST{request.path.removesuffix('paraview/')}ws"})
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._pass_page(workspace, request, address)
        return await pass_request(self._client, request, address, workspace.secret)

    async def _pass_page(self, workspace: WorkspaceProcess, request: web.Request, address: str) -> web.StreamResponse:
        workspace.open_pages += 1
        try:
            return await pass_websocket(self._client, request, address, workspace.secret)
        finally:
            workspace.open_pages -= 1


async def _alive(_request: web.Request) -> web.Response:
    return web.Response(text="alive")


def _said(request: web.Request, status: int, text: str) -> web.Response:
    """One sentence: a page for people, plain text for the page's own requests."""
    if "text/html" not in request.headers.get("Accept", ""):
        return web.Response(status=status, text=text)
    style = "background:#14191f;color:#eee;font:1.1rem sans-serif;text-align:center;padding-top:30vh"
    page = f'<!doctype html><title>CT-SAM3D</title><body style="{style}"><p>{escape(text)}</p><p><a href="/" style='
    return web.Response(status=status, text=f'{page}"color:#8cf">A new page</a></p></body>', content_type="text/html")

"""The process of one workspace. Its parent, the front, writes a line of JSON to its input and keeps that open."""

from __future__ import annotations

import asyncio
import os

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from trame.app import get_server

from CTSAM3DLib.remote.child_process import end_with_parent, first_line, tell_parent
from CTSAM3DServer.web.handover import DOOR_HEADER, Start
from CTSAM3DServer.web.page.file_menu import Files
from CTSAM3DServer.web.page.page import build_page
from CTSAM3DServer.web.scene.scene import Scene
from CTSAM3DServer.web.scene.views import decorate_slices, decorate_surfaces, tell_pointer
from CTSAM3DServer.web.workspace.backends import Backends, Front
from CTSAM3DServer.web.workspace.workspace import Workspace


def main() -> None:
    """Serve one workspace on loopback and a free port, until the front is gone."""
    start = Start.model_validate_json(first_line())
    end_with_parent(lambda: os._exit(0))
    server = get_server("ctsam3d", client_type="vue3")
    scene = Scene(server, decorate_slices, decorate_surfaces)
    backends = Backends(Front(start.front, start.secret, start.models), start.servers)
    workspace = Workspace(server.state, scene, backends, start.folder)
    build_page(server, workspace)
    tell_pointer(scene, server.state)

    @server.controller.set("on_server_bind")
    def bind(wslink: object) -> None:
        wslink.app.middlewares.append(_only_from(start.secret))  # type: ignore[attr-defined]
        wslink.app.add_routes(Files(workspace).routes())  # type: ignore[attr-defined]

    @server.controller.add("on_server_ready")
    def ready(**_: object) -> None:
        tell_parent(port=server.port)
        asyncio.get_running_loop().create_task(workspace.begin(start.ct))

    server.start(host="127.0.0.1", port=0, open_browser=False, show_connection_info=False, timeout=0)


def _only_from(secret: str) -> Middleware:
    """Let the front in, and nobody else on this computer."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.headers.get(DOOR_HEADER) != secret:
            return web.Response(status=403, text="This is not the door.")
        return await handler(request)

    return check


if __name__ == "__main__":
    main()

"""Files into and out of a workspace, over HTTP: uploads of any size are streamed to disk, results read from there."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

from aiohttp import BodyPartReader, web

from CTSAM3DLib.atomic import describe_os_error
from CTSAM3DLib.errors import CTSAM3DError, OutputError, VolumeError
from CTSAM3DLib.imaging.archive import safe_path
from CTSAM3DServer.web.scene.upload import find_ct, name_of
from CTSAM3DServer.web.workspace.results import write_result
from CTSAM3DServer.web.workspace.workspace import Workspace

MAX_BYTES = 16 * 2**30
"""Of one upload."""
_PIECE = 2**20


class Files:
    """The requests of a workspace that are about files."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._numbers = itertools.count(1)

    def routes(self) -> list[web.RouteDef]:
        """For an aiohttp application."""
        return [
            web.get("/alive", self._alive),
            web.post("/files", self._take),
            web.get("/download/{kind}", self._give),
        ]

    async def _alive(self, _request: web.Request) -> web.Response:
        return web.Response(text="alive")

    async def _take(self, request: web.Request) -> web.Response:
        """Store the files of a form, each under its own name and folders, and open the CT that they are."""
        with _said_to_the_user() as refused:
            folder = self._new_folder()
            try:
                files = await _stored(request, folder)
                ct = await asyncio.to_thread(find_ct, files)
                await self._workspace.open_ct(ct, name_of(files if ct == folder else [ct]))
            finally:
                await asyncio.to_thread(self._workspace.tidy_uploads)
        return refused[0] if refused else web.Response(text="taken")

    async def _give(self, request: web.Request) -> web.StreamResponse:
        """A file of what was made, written just now."""
        with _said_to_the_user() as refused:
            if self._workspace.segments is None:
                raise OutputError("There is nothing to save yet; open a CT first.")
            folder = self._workspace.folder / "results"
            path = write_result(self._workspace.segments, request.match_info["kind"], folder)
            return web.FileResponse(path, headers={"X-File-Name": quote(path.name)})
        return refused[0]

    def _new_folder(self) -> Path:
        """For an upload; one that is there holds the CT from before this process was started again."""
        folders = (self._workspace.uploads / str(number) for number in self._numbers)
        return next(folder for folder in folders if not folder.exists())


async def _stored(request: web.Request, folder: Path) -> list[Path]:
    """Store the files of a form in a folder, under their own names and folders."""
    stored, size = [], 0
    if not request.content_type.startswith("multipart/"):
        raise VolumeError("That is no form with files; drop a CT on the page.")
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            continue
        path = safe_path(folder, unquote(part.filename or ""))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            while piece := await part.read_chunk(_PIECE):
                size += len(piece)
                if size > MAX_BYTES:
                    raise VolumeError(f"These files are larger than {MAX_BYTES // 2**30} GiB; open the CT alone.")
                file.write(piece)
        stored.append(path)
    return stored


@contextmanager
def _said_to_the_user() -> Iterator[list[web.Response]]:
    """Catch what the user can mend, and give the response that says it."""
    refused: list[web.Response] = []
    try:
        yield refused
    except CTSAM3DError as error:
        refused.append(web.Response(status=422, text=str(error)))
    except OSError as error:
        refused.append(web.Response(status=507, text=f"The files cannot be stored: {describe_os_error(error)}."))

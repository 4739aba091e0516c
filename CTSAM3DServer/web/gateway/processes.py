"""The processes of workspaces: started, watched, started again after a crash, ended when nobody looks any more."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import sys
import time
from collections import deque
from typing import Any

from CTSAM3DLib.errors import Problem, ServerError
from CTSAM3DLib.remote.child_process import ChildEndedError, ChildProcess, child_environment, module_command
from CTSAM3DServer.web.handover import Start

logger = logging.getLogger(__name__)

START_S = 60.0
POLL_S = 0.02
"""Between two looks at whether a new process has said its port."""
ID_BYTES = 8
_ID = re.compile(f"[0-9a-f]{{{2 * ID_BYTES}}}")
MAX_RUNNING = 16
"""Processes at a time; each takes some hundreds of MiB and the CT."""
IDLE_S = 3600.0
"""A workspace that nobody has open for so long lets its process go; its address brings it back as it was."""
MAX_CRASHES = 3
CRASHES_S = 600.0
"""After more crashes than `MAX_CRASHES` within this time a workspace is not started again."""


class WorkspaceProcess:
    """One workspace: an id that nobody can guess, a folder that outlives its process, and the process while it runs."""

    def __init__(self, start: Start, workspace_id: str = "") -> None:
        self.id = workspace_id or secrets.token_hex(ID_BYTES)  # trame turns addresses to lower case
        self.secret = start.secret
        self.open_pages = 0
        self._start = start.model_copy(update={"folder": start.folder / self.id})
        self._process: ChildProcess | None = None
        self._port = 0
        self._last_asked = time.monotonic()
        self._crashes: deque[float] = deque(maxlen=MAX_CRASHES + 1)
        self._lock = asyncio.Lock()

    async def address(self) -> str:
        """Where its process listens; it is started if it does not run. Raises ServerError."""
        self._last_asked = time.monotonic()
        async with self._lock:
            if self._process is None:
                await self._begin()
            elif not self._process.running:
                logger.warning("A page's process ended by itself with code %s.", self._process.exit_code)
                self._crashes.append(time.monotonic())
                if len(self._crashes) > MAX_CRASHES and time.monotonic() - self._crashes[0] < CRASHES_S:
                    raise ServerError(
                        Problem.NOT_STARTED,
                        "This page keeps ending by itself; open a new one, with a smaller CT perhaps.",
                    )
                await self._begin()
        return f"http://127.0.0.1:{self._port}"

    @property
    def running(self) -> bool:
        """Whether it has a process."""
        return self._process is not None

    @property
    def unused_s(self) -> float:
        """For how long nobody has had it open."""
        return 0.0 if self.open_pages else time.monotonic() - self._last_asked

    async def end(self) -> None:
        """End its process; its folder stays."""
        async with self._lock:
            if self._process is not None:
                await asyncio.to_thread(self._process.kill)
            self._process = None

    async def _begin(self) -> None:
        self._start.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._process = ChildProcess(
                module_command(sys.executable, "CTSAM3DServer.web"), child_environment(), keep_errors=False
            )
            self._process.send(self._start.model_dump_json())
            self._port = await _told_port(self._process)
        except (TimeoutError, ChildEndedError, OSError) as error:
            if self._process is not None:
                self._process.kill()
            raise ServerError(
                Problem.NOT_STARTED, "The page's process did not start; the log of ctsam3d web says why."
            ) from error


class Workspaces:
    """All workspaces by their ids. One process is always ready, so that a new page need not wait for it."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._all: dict[str, WorkspaceProcess] = {}
        self._ready: WorkspaceProcess | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def get(self, workspace_id: str) -> WorkspaceProcess | None:
        """The workspace of this id, if there is one, or was one when its folder was used before."""
        if (
            workspace_id not in self._all
            and _ID.fullmatch(workspace_id)
            and (self._start.folder / workspace_id).is_dir()
        ):
            self._all[workspace_id] = WorkspaceProcess(self._start, workspace_id)
        return self._all.get(workspace_id)

    async def open(self) -> WorkspaceProcess:
        """A new workspace, its process running. Raises ServerError."""
        running = [workspace for workspace in self._all.values() if workspace.running]
        if len(running) >= MAX_RUNNING:
            longest = max(running, key=lambda workspace: workspace.unused_s)
            if longest.open_pages:
                raise ServerError(Problem.BUSY, f"{MAX_RUNNING} pages are open already; close one of them first.")
            await longest.end()
        workspace, self._ready = self._ready or WorkspaceProcess(self._start), None
        await workspace.address()
        self._all[workspace.id] = workspace
        return workspace

    def prepare(self) -> None:
        """Start the process of the next workspace."""
        if self._ready is None:
            self._ready = WorkspaceProcess(self._start)
            self._do(self._ready.address())

    async def end_idle(self, every_s: float = 60.0) -> None:
        """End what nobody uses, for ever."""
        while True:
            await asyncio.sleep(every_s)
            for workspace in self._all.values():
                if workspace.running and workspace.unused_s > IDLE_S:
                    await workspace.end()

    async def end(self) -> None:
        """End all processes."""
        for workspace in (*self._all.values(), *([self._ready] if self._ready else [])):
            await workspace.end()

    def _do(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _told_port(process: ChildProcess) -> int:
    """The port that a new process tells. Raises ChildEndedError, and TimeoutError."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        message = process.message(0)
        if message is None:
            await asyncio.sleep(POLL_S)
        elif "port" in message:
            return int(message["port"])
    raise TimeoutError

"""What the server does, without HTTP: models, volumes, and clicks answered turn by turn.

`segment` does a bounded piece of work: it looks for what is known, asks for tiles that are missing, or uses the network
once. Nothing goes on that nobody asks for, so that to stop asking is to cancel; only an engine that has nothing to do
makes ready for the next click. Everything kept lies in one cache; dropping any of it costs time, never correctness.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from CTSAM3DLib.cache import Cache
from CTSAM3DLib.clicks import Click
from CTSAM3DLib.engine import Engine
from CTSAM3DLib.errors import ModelError
from CTSAM3DLib.geometry import Geometry
from CTSAM3DLib.grid import TileIndex
from CTSAM3DLib.model.checkpoints import TrainedModel
from CTSAM3DLib.protocol import Answer, unpack_tiles
from CTSAM3DLib.result import Reach
from CTSAM3DLib.session import Session, State, Turn
from CTSAM3DServer.turns import FairWorker
from CTSAM3DServer.volumes import SMALL_THINGS, MissingTiles, ServedVolume, UploadedTiles, Volumes

LONGEST_WAIT_S = 2.0
"""After this time a request is answered with what there is, so that a client can tell a busy server from a dead one,
and is free to cancel."""

CLICK_BYTES = 320
"""Bytes of a click as Python keeps it."""

WorkKey = tuple[ServedVolume, str, Reach, tuple[Click, ...]]


class Service:
    """Models on a device, and the volumes and masks of all users under one bound of `memory` bytes.

    Raises ModelError for two models of one name, and what `Engine` raises. `on_turn` is told the seconds of every use
    of the network.
    """

    def __init__(
        self,
        models: Sequence[TrainedModel],
        device: str | None,
        memory: int,
        on_turn: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        if len({model.info.name for model in models}) < len(models):
            raise ModelError("Two of the models have the same name; give each only once.")
        self.cache = Cache(memory)
        self.volumes = Volumes(self.cache)
        self.engines = [Engine(model, device) for model in models]
        self._worker = FairWorker("ctsam3d-turns")
        self._running: dict[WorkKey, _Running] = {}
        # One mask at a time is laid out in full, since one of two far clicks takes as much memory as the whole volume.
        self._packing = asyncio.Semaphore(1)
        self._on_turn = on_turn

    @property
    def waiting(self) -> int:
        """Turns of the network that wait for others to end."""
        return self._worker.waiting

    def close(self) -> None:
        """Finish what the network is doing, and end all threads."""
        self._worker.close()
        for engine in self.engines:
            engine.close()

    def engine(self, model: str) -> Engine:
        """The engine of a model by its name or hash. Raises ModelError."""
        for engine in self.engines:
            if model in (engine.model.info.name, engine.model.file_hash):
                return engine
        names = ", ".join(engine.model.info.name for engine in self.engines)
        raise ModelError(f"The server has no such model; choose one of: {names}.")

    def put_volume(self, owner: str, volume_id: str, geometry: Geometry, spacing: float) -> None:
        """Know a volume of this user's. Raises CTSAM3DError for one that no CT can be, or a spacing of no model."""
        if not any(engine.model.info.spacing == spacing for engine in self.engines):
            raise ModelError(f"No model of the server has voxels of {spacing:g} mm.")
        self.volumes.put(ServedVolume(owner, volume_id, geometry, spacing))

    def put_tiles(self, owner: str, volume_id: str, message: bytes) -> None:
        """Keep uploaded tiles. Raises UnknownVolumeError and ProtocolError."""
        volume = self.volumes.get(owner, volume_id)
        source = UploadedTiles(volume, self.cache)
        for index, inside in unpack_tiles(message, volume.grid).items():
            source.add(index, inside)

    async def segment(self, owner: str, volume_id: str, model: str, reach: Reach, clicks: tuple[Click, ...]) -> bytes:
        """Go on with these clicks by one turn, or say which tiles that needs; a packed `Answer`. Raises CTSAM3DError.

        Who asks for what somebody is already being answered shares the answer.
        """
        volume, engine = self.volumes.get(owner, volume_id), self.engine(model)
        if engine.model.info.spacing != volume.spacing:
            raise ModelError(f"The model {engine.model.info.name} needs the volume at another spacing; send it anew.")
        key: WorkKey = (volume, engine.model.file_hash, reach, clicks)
        if key not in self._running:
            work: _Work | None = self.cache.get((*key, "work"))
            self._running[key] = _Running(work or _Work(engine, volume, self.cache, reach, clicks))
            self._running[key].task = asyncio.create_task(self._advance(key))
            self._running[key].task.add_done_callback(_know_error)
        running = self._running[key]
        done, _ = await asyncio.wait({running.task}, timeout=LONGEST_WAIT_S)
        return running.task.result() if done else await self._answer(running.work, ())

    async def _advance(self, key: WorkKey) -> bytes:
        volume, work = key[0], self._running[key].work
        self.cache.discard((*key, "work"))  # so that work which fails is not met again
        try:
            needed = await asyncio.to_thread(work.look)
            if not needed and not work.final:
                # Without keys everyone is the same user, and volumes take turns instead.
                turn = self._worker.submit(volume.owner or volume.id, partial(self._timed_step, work))
                needed = await asyncio.wrap_future(turn)
            answer = await self._answer(work, needed)
        finally:
            del self._running[key]
        if not work.final:
            self.cache.put((*key, "work"), work, work.nbytes)
        return answer

    async def _answer(self, work: _Work, needed: Sequence[TileIndex]) -> bytes:
        async with self._packing:
            return await asyncio.to_thread(work.answer, needed)

    def _timed_step(self, work: _Work) -> Sequence[TileIndex]:
        begun = time.perf_counter()
        needed = work.step()
        self._on_turn(time.perf_counter() - begun)
        return needed


class _Work:
    """Clicks on their way to a mask: a session's turns, and where they have come to. One call at a time."""

    def __init__(
        self, engine: Engine, volume: ServedVolume, cache: Cache, reach: Reach, clicks: tuple[Click, ...]
    ) -> None:
        self._source = UploadedTiles(volume, cache)
        owner = (volume, engine.model.file_hash)
        self._session = Session(engine, self._source, volume.geometry, cache, owner)
        self._clicks = clicks
        self._reach: Reach = reach
        self._turns: Iterator[Turn] | None = None
        self._turn: Turn | None = None

    @property
    def final(self) -> bool:
        """Whether all clicks are answered."""
        return self._turn is not None and self._turn.final

    @property
    def nbytes(self) -> int:
        """Bytes that it holds: its clicks, which may be all there is, and growth's depths beside the mask itself."""
        canvas = self._turn.state.nbytes if self._turn is not None else 0
        return 2 * canvas + CLICK_BYTES * len(self._clicks) + SMALL_THINGS

    def look(self) -> Sequence[TileIndex]:
        """Find what is known already, without the network; the tiles that it needs to go on."""
        if self._turns is None or self._turn is None:
            self._turns = self._session.turns(self._clicks, self._reach)
            self._turn = next(self._turns)
        return self._source.missing(self._session.unseen(self._turn.starts))

    def step(self) -> Sequence[TileIndex]:
        """Use the network once, unless tiles are missing; the tiles that it needs to go on."""
        needed = self.look()  # again, since the wait may have been long
        if needed or self._turns is None:
            return needed
        try:
            self._turn = next(self._turns)
        except MissingTiles as error:  # dropped this very moment; the iterator has ended with it
            self._turns = None
            return error.tiles
        return self.look()

    def answer(self, needed: Sequence[TileIndex]) -> bytes:
        """What there is so far, packed."""
        turn = self._turn
        state = turn.state if turn is not None else State()
        values, start = state.shown.dense()
        final = turn is not None and turn.final
        return Answer(final, state.quality, state.patches, values, start, tuple(needed)).pack()


def _know_error(task: asyncio.Task[bytes]) -> None:
    """Keep asyncio from logging an error, which can tell of clicks, where nobody waits for the task any more."""
    if not task.cancelled():
        task.exception()


@dataclass
class _Running:
    """Work that is being done, and the task that does it."""

    work: _Work
    task: asyncio.Task[bytes] = field(init=False)

"""The segmentation service without HTTP: models, volumes, and clicks, one inference step per request.

`segment` does a bounded amount of work: it finds the cached state, asks for missing tiles, or runs one inference step.
Work happens only inside a request, so a client cancels by not sending the next one. The single exception is prefetching
while an engine is idle. Everything is kept in one cache; a dropped entry costs time, never correctness.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from CTSAM3DLib.cache import Cache
from CTSAM3DLib.checkpoints.checkpoint import TrainedModel
from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import ModelError
from CTSAM3DLib.execution.engine import Engine
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.remote.protocol import SegmentResponse, unpack_tiles
from CTSAM3DLib.segmentation.click_step import State, Step
from CTSAM3DLib.segmentation.growth import Reach
from CTSAM3DLib.segmentation.patch_grid import TileIndex
from CTSAM3DLib.segmentation.session import Session
from CTSAM3DServer.fair_scheduler import FairScheduler
from CTSAM3DServer.volumes import OBJECT_BYTES, MissingTiles, ServedVolume, UploadedTiles, Volumes

MAX_WAIT_S = 2.0
"""Seconds after which a request is answered with the state so far, so that a client can tell a busy server from a dead
one, and is free to cancel."""

CLICK_BYTES = 320
"""Bytes that a click takes in memory."""

WorkKey = tuple[ServedVolume, str, Reach, tuple[Click, ...]]


class Service:
    """Models on a device, and the volumes and masks of all users under one bound of `memory` bytes.

    `on_step` is called with the seconds of every inference step. Raises ModelError for two models of one name, and what
    `Engine` raises.
    """

    def __init__(
        self,
        models: Sequence[TrainedModel],
        device: str | None,
        memory: int,
        on_step: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        if len({model.info.name for model in models}) < len(models):
            raise ModelError("Two of the models have the same name; give each only once.")
        self.cache = Cache(memory)
        self.volumes = Volumes(self.cache)
        self.engines = [Engine(model, device) for model in models]
        self._scheduler = FairScheduler("ctsam3d-steps")
        self._running: dict[WorkKey, _Running] = {}
        # One mask at a time becomes a dense array, since the mask of two distant clicks can span the whole volume.
        self._packing = asyncio.Semaphore(1)
        self._on_step = on_step

    @property
    def waiting(self) -> int:
        """Inference steps that wait for their slot."""
        return self._scheduler.waiting

    def close(self) -> None:
        """Finish the current inference step, and end all threads."""
        self._scheduler.close()
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
        """Register a volume for this user. Raises CTSAM3DError where it cannot be a CT, or no model has its spacing."""
        if not any(engine.model.info.spacing == spacing for engine in self.engines):
            raise ModelError(f"No model of the server has voxels of {spacing:g} mm.")
        self.volumes.put(ServedVolume(owner, volume_id, geometry, spacing))

    def put_tiles(self, owner: str, volume_id: str, message: bytes) -> None:
        """Store uploaded tiles (`protocol.pack_tiles`). Raises UnknownVolumeError and ProtocolError."""
        volume = self.volumes.get(owner, volume_id)
        source = UploadedTiles(volume, self.cache)
        for index, inside in unpack_tiles(message, volume.grid).items():
            source.add(index, inside)

    async def segment(self, owner: str, volume_id: str, model: str, reach: Reach, clicks: tuple[Click, ...]) -> bytes:
        """Run the next inference step for these clicks, or name the tiles that it needs; a packed `SegmentResponse`.

        Equal requests at the same time share one step. Raises CTSAM3DError.
        """
        volume, engine = self.volumes.get(owner, volume_id), self.engine(model)
        if engine.model.info.spacing != volume.spacing:
            raise ModelError(f"The model {engine.model.info.name} needs the volume at another spacing; send it anew.")
        key: WorkKey = (volume, engine.model.file_hash, reach, clicks)
        if key not in self._running:
            work: _Work | None = self.cache.get((*key, "work"))
            self._running[key] = _Running(work or _Work(engine, volume, self.cache, reach, clicks))
            self._running[key].task = asyncio.create_task(self._advance(key))
            self._running[key].task.add_done_callback(_retrieve_error)
        running = self._running[key]
        done, _ = await asyncio.wait({running.task}, timeout=MAX_WAIT_S)
        return running.task.result() if done else await self._respond(running.work, ())

    async def _advance(self, key: WorkKey) -> bytes:
        volume, work = key[0], self._running[key].work
        self.cache.discard((*key, "work"))  # so that a failed work is not found again
        try:
            needed = await asyncio.to_thread(work.missing_tiles)
            if not needed and not work.final:
                # Without keys everyone is the same user; slots are then shared between volumes.
                slot = self._scheduler.submit(volume.owner or volume.id, partial(self._timed_step, work))
                needed = await asyncio.wrap_future(slot)
            response = await self._respond(work, needed)
        finally:
            del self._running[key]
        if not work.final:
            self.cache.put((*key, "work"), work, work.nbytes)
        return response

    async def _respond(self, work: _Work, needed: Sequence[TileIndex]) -> bytes:
        async with self._packing:
            return await asyncio.to_thread(work.response, needed)

    def _timed_step(self, work: _Work) -> Sequence[TileIndex]:
        start = time.perf_counter()
        needed = work.step()
        self._on_step(time.perf_counter() - start)
        return needed


class _Work:
    """The computation of one mask: a session's steps, and the latest of them. Not safe across threads."""

    def __init__(
        self, engine: Engine, volume: ServedVolume, cache: Cache, reach: Reach, clicks: tuple[Click, ...]
    ) -> None:
        self._source = UploadedTiles(volume, cache)
        owner = (volume, engine.model.file_hash)
        self._session = Session(engine, self._source, volume.geometry, cache, owner)
        self._clicks = clicks
        self._reach: Reach = reach
        self._steps: Iterator[Step] | None = None
        self._step: Step | None = None

    @property
    def final(self) -> bool:
        """Whether the mask of all clicks is there."""
        return self._step is not None and self._step.final

    @property
    def nbytes(self) -> int:
        """Bytes of this work: the mask so far, as much again for the depths of its growth, and the clicks."""
        canvas = self._step.state.nbytes if self._step is not None else 0
        return 2 * canvas + CLICK_BYTES * len(self._clicks) + OBJECT_BYTES

    def missing_tiles(self) -> Sequence[TileIndex]:
        """Tiles that the next inference step needs and the cache lacks; does not use the network."""
        if self._steps is None or self._step is None:
            self._steps = self._session.steps(self._clicks, self._reach)
            self._step = next(self._steps)
        return self._source.missing(self._session.patches_to_read(self._step.starts))

    def step(self) -> Sequence[TileIndex]:
        """Run one inference step unless tiles are missing; return the tiles that the next step needs."""
        needed = self.missing_tiles()  # again: tiles may have been evicted during the wait for the slot
        if needed or self._steps is None:
            return needed
        try:
            self._step = next(self._steps)
        except MissingTiles as error:  # evicted this very moment; the exception has ended the iterator
            self._steps = None
            return error.tiles
        return self.missing_tiles()

    def response(self, needed: Sequence[TileIndex]) -> bytes:
        """The state so far as a packed `SegmentResponse`."""
        step = self._step
        state = step.state if step is not None else State()
        values, start = state.shown.dense()
        final = step is not None and step.final
        return SegmentResponse(final, state.quality, state.patches, values, start, tuple(needed)).pack()


def _retrieve_error(task: asyncio.Task[bytes]) -> None:
    """Keep asyncio from logging the error of a task that nobody awaits any more; its text can hold clicks."""
    if not task.cancelled():
        task.exception()


@dataclass
class _Running:
    """A work in progress and its task."""

    work: _Work
    task: asyncio.Task[bytes] = field(init=False)

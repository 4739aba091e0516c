"""One volume: an ordered list of clicks becomes a mask.

**A mask is a function of (volume, ordered clicks, reach, model).** A session keeps the canvas after every prefix of
the clicks that it was asked for, so a further click costs one step and an undo costs nothing; that cache is the only
thing it keeps, and losing it costs time alone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.canvas import Canvas
from CTSAM3DLib.clicks import Click, check_clicks
from CTSAM3DLib.engine import Engine, Features
from CTSAM3DLib.errors import Cancelled, CTSAM3DError
from CTSAM3DLib.geometry import Box, Geometry
from CTSAM3DLib.grid import PATCH, ModelGrid, PatchSource, Start, TileSampler, bring_back
from CTSAM3DLib.growth import Patch, depth_in_patch, grow
from CTSAM3DLib.model.checkpoints import ModelInfo
from CTSAM3DLib.models import load_model
from CTSAM3DLib.prompts import click_maps
from CTSAM3DLib.volume import Volume

Reach = Literal["patch", "neighbours", "structure"]
RINGS: dict[Reach, int | None] = {"patch": 0, "neighbours": 1, "structure": None}

REUSE_MARGIN = 12
"""A click at least this many voxels inside the side of an earlier clicked patch is answered there again."""
RIM = 8
"""Along the side of a patch, over this many voxels, its answer fades into what is known already."""
SETTLED = 5
"""From this click on a mask is refined: a positive click only adds to it, a negative one only takes away."""
MOST_PATCHES = 96
"""Patches that one click may grow into: at this stride, at 1.5 mm a cube of more than 30 cm."""
CACHED_STATES = 64
CACHED_FEATURES = 128


class CancelEvent(Protocol):
    """Something like `threading.Event`."""

    def is_set(self) -> bool:
        """Whether the user wants to stop."""


@dataclass(frozen=True)
class State:
    """What one prefix of the clicks leads to."""

    canvas: Canvas = field(default_factory=Canvas)
    patches: tuple[Patch, ...] = ()
    clicked: tuple[Start, ...] = ()
    """Patches in which clicks were answered, the latest last."""
    quality: float = 0.0


@dataclass(frozen=True)
class Result:
    """A mask and how it was made."""

    clicks: tuple[Click, ...]
    reach: Reach
    model: ModelInfo
    model_hash: str
    quality: float
    """The network's own estimate of the Dice of the last clicked patch, 0..1."""
    patches: tuple[Patch, ...]
    """Every patch that was answered, in order; starts are voxels (z, y, x) of the model grid."""
    final: bool
    canvas: Canvas
    grid: ModelGrid
    geometry: Geometry

    @cached_property
    def cropped(self) -> tuple[NDArray[np.uint8], Box]:
        """The mask (0 or 1) in the box of the CT that it can lie in, and that box (slices in z, y, x)."""
        probability, start = self.canvas.dense()
        return bring_back(probability, start, self.grid, self.geometry)

    @property
    def box(self) -> Box:
        """The box of the CT, slices in z, y, x, outside of which the mask is empty."""
        return self.cropped[1]

    @cached_property
    def mask(self) -> Volume:
        """The mask on the CT's own grid, uint8, 0 or 1."""
        cropped, box = self.cropped
        array = np.zeros(self.geometry.shape, np.uint8)
        array[box] = cropped
        return Volume(array, self.geometry)


class Session:
    """One CT, ready to be clicked. Safe across threads: calls wait for one another.

    `source` gives the CT on the model grid; `geometry` is the CT's own grid.
    """

    def __init__(self, engine: Engine, source: PatchSource, geometry: Geometry) -> None:
        self.geometry = geometry
        self.grid = source.grid
        self.engine = engine
        self.source = source
        self._states: OrderedDict[tuple[Reach, tuple[Click, ...]], State] = OrderedDict()
        self._features: OrderedDict[Start, Features] = OrderedDict()
        self._lock = threading.Lock()

    def segment(
        self,
        clicks: Sequence[Click],
        reach: Reach = "structure",
        progress: Callable[[Result], None] | None = None,
        cancel: CancelEvent | None = None,
    ) -> Result:
        """The mask of these clicks, in their order.

        `progress` is called with every partial result, the clicked patch first. Raises ClickError for no click, only
        negative clicks, or a click outside the volume; Cancelled when `cancel` is set, which loses nothing.
        """
        if reach not in RINGS:
            raise CTSAM3DError(f"'{reach}' is not a reach; choose one of: {', '.join(RINGS)}.")
        clicks = tuple(clicks)
        check_clicks(clicks, self.geometry)
        with self._lock:
            known, state = self._longest_known(clicks, reach)
            for count in range(known + 1, len(clicks) + 1):
                step = _Step(self, clicks[:count], reach, progress, cancel)
                state = step.run(state)
                self._remember(clicks[:count], reach, state)
            return self.result(clicks, reach, state, final=True)

    def result(self, clicks: tuple[Click, ...], reach: Reach, state: State, final: bool) -> Result:
        """A state with everything that a result says of itself."""
        model = self.engine.model
        return Result(
            clicks=clicks,
            reach=reach,
            model=model.info,
            model_hash=model.file_hash,
            quality=state.quality,
            patches=state.patches,
            final=final,
            canvas=state.canvas,
            grid=self.grid,
            geometry=self.geometry,
        )

    def features(self, start: Start) -> Features:
        """The encoder's levels of the patch at `start`, encoded once."""
        if start not in self._features:
            self._features[start] = self.engine.encode(self.source.patch(start))
            if len(self._features) > CACHED_FEATURES:
                self._features.popitem(last=False)
        self._features.move_to_end(start)
        return self._features[start]

    def _longest_known(self, clicks: tuple[Click, ...], reach: Reach) -> tuple[int, State]:
        for count in range(len(clicks), 0, -1):
            key = (reach, clicks[:count])
            if key in self._states:
                self._states.move_to_end(key)
                return count, self._states[key]
        return 0, State()

    def _remember(self, clicks: tuple[Click, ...], reach: Reach, state: State) -> None:
        self._states[reach, clicks] = state
        if len(self._states) > CACHED_STATES:
            self._states.popitem(last=False)


class _Step:
    """The last of these clicks, answered on top of the state of those before it."""

    def __init__(
        self,
        session: Session,
        clicks: tuple[Click, ...],
        reach: Reach,
        progress: Callable[[Result], None] | None,
        cancel: CancelEvent | None,
    ) -> None:
        self.grid = session.grid
        self._session = session
        self._clicks = clicks
        self._reach = reach
        self._progress = progress
        self._cancel = cancel
        self._voxels = session.grid.to_voxels([click.position for click in clicks])

    def run(self, state: State) -> State:
        """The state after this click."""
        click = self._clicks[-1]
        if not any(earlier.positive for earlier in self._clicks):
            return state  # negative clicks that come first wait for the first positive one
        self._stop_if_cancelled()
        start = self._place(state.clicked)
        answer, quality = self._decode(state.canvas, [start], [None])[0]
        known = state.canvas.read(start)
        faded = _fade(known, np.maximum(answer, 1))
        if len(self._clicks) >= SETTLED:
            faded = _refined(known, faded, click.positive)
        clicked = state.canvas.write(start, faded)
        reached = State(clicked, (*state.patches, Patch(start, 0)), (*state.clicked, start), quality)
        self._report(reached)
        if not click.positive:
            return reached

        def check(canvas: Canvas, grown: Sequence[Patch]) -> None:
            self._stop_if_cancelled()
            self._report(State(canvas, (*reached.patches, *grown), reached.clicked, quality))

        canvas, grown = grow(self, state.canvas, clicked, start, RINGS[self._reach], MOST_PATCHES, check)
        return State(canvas, (*reached.patches, *grown), reached.clicked, quality)

    def answer(
        self, canvas: Canvas, starts: Sequence[Start], points: Sequence[Start | None]
    ) -> list[NDArray[np.uint8]]:
        """What growth asks: masks (0..255, never 0) of patches."""
        return [np.maximum(probability, 1) for probability, _ in self._decode(canvas, starts, points)]

    def propose(
        self, canvas: Canvas, starts: Sequence[Start], neighbours: Sequence[Start]
    ) -> list[NDArray[np.float32]]:
        """What growth asks: heat maps of where the masks in patches go on; flat ones where the model gives none."""
        if not self._session.engine.model.info.cross_patch:
            return [np.zeros((PATCH,) * 3, np.float32) for _ in neighbours]
        patch = self._session.source.patch
        return self._session.engine.propose(
            [patch(start) for start in starts],
            [canvas.read(start) for start in starts],
            [patch(neighbour) for neighbour in neighbours],
        )

    def _decode(
        self, canvas: Canvas, starts: Sequence[Start], points: Sequence[Start | None]
    ) -> list[tuple[NDArray[np.uint8], float]]:
        features = [self._session.features(start) for start in starts]
        prompts = [self._prompts(canvas, start, point) for start, point in zip(starts, points, strict=True)]
        return self._session.engine.decode(features, prompts)

    def _prompts(self, canvas: Canvas, start: Start, point: Start | None) -> NDArray[np.float32]:
        """[previous mask, positive, negative] of a patch: the canvas, a proposed point, and the user's clicks in it."""
        corner_xyz = np.array(start[::-1])
        points = [] if point is None else [np.array(point[::-1]) - corner_xyz]
        labels = [] if point is None else [1]
        for voxel, click in zip(np.rint(self._voxels) - corner_xyz, self._clicks, strict=True):
            if np.all((voxel >= 0) & (voxel < PATCH)):
                points.append(voxel)
                labels.append(int(click.positive))
        previous = canvas.read(start).astype(np.float32) / 255
        return np.stack([previous, *click_maps(points, labels, PATCH)])

    def _place(self, clicked: tuple[Start, ...]) -> Start:
        """Where the click is answered: in the latest clicked patch that holds it well, else in one centred on it."""
        x, y, z = (int(v) for v in np.rint(self._voxels[-1]))
        for start in reversed(clicked):
            if all(REUSE_MARGIN <= v - s < PATCH - REUSE_MARGIN for v, s in zip((z, y, x), start, strict=True)):
                return start
        z, y, x = (_within(v - PATCH // 2, size) for v, size in zip((z, y, x), self.grid.shape, strict=True))
        return z, y, x

    def _report(self, state: State) -> None:
        if self._progress is not None:
            self._progress(self._session.result(self._clicks, self._reach, state, final=False))

    def _stop_if_cancelled(self) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled("The segmentation was cancelled; the clicks are kept.")


def _within(start: int, size: int) -> int:
    """A patch's start along one axis, moved so that it shows as much of the grid as it can."""
    return min(max(start, 0), size - PATCH) if size >= PATCH else (size - PATCH) // 2


def _fade(known: NDArray[np.uint8], answer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The answer, fading along the patch's sides into what was known; where nothing was, the answer alone."""
    trust = np.minimum(depth_in_patch().astype(np.float32) / (RIM + 1), 1)
    mixed = np.rint(trust * answer + (1 - trust) * known).astype(np.uint8)
    return np.where(known > 0, mixed, answer)


def _refined(known: NDArray[np.uint8], answer: NDArray[np.uint8], positive: bool) -> NDArray[np.uint8]:
    """The answer where it moves the way that the click's sign says; what was not looked at before (0) is taken over."""
    moved = np.maximum(known, answer) if positive else np.minimum(known, answer)
    return np.where(known > 0, moved, answer)


class Segmenter:
    """A model on a device, which opens volumes. `Segmenter.load()` gives the bundled one on the best device."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def load(
        cls,
        model: str = "ctsam3d-small",
        weights: str | None = None,
        device: str | None = None,
        window: tuple[float, float] | None = None,
    ) -> Segmenter:
        """A bundled model by name, or the weights in a file: our safetensors or the published `params.pth`.

        `window` is the HU window of published weights whose `config.py` is not at hand. Raises ModelError.
        """
        return cls(Engine(load_model(model, weights, window), device))

    def open(self, volume: Volume) -> Session:
        """A session on a CT; nothing is computed yet. Raises VolumeError if it cannot be a CT in Hounsfield units."""
        volume.check_ct()
        return Session(self.engine, TileSampler(volume, self.engine.model.info.spacing), volume.geometry)

"""One volume: an ordered list of clicks becomes a mask.

**A mask is a function of (volume, ordered clicks, reach, model).** A session keeps the canvas after every prefix of
the clicks that it was asked for, so a further click costs one step and an undo costs nothing; that cache is the only
thing it keeps, and losing it costs time alone.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.cache import Cache
from CTSAM3DLib.canvas import Canvas
from CTSAM3DLib.clicks import Click, check_clicks
from CTSAM3DLib.engine import Engine, Features
from CTSAM3DLib.geometry import Geometry
from CTSAM3DLib.grid import PATCH, PatchSource, Start, TileSampler
from CTSAM3DLib.growth import Patch, depth_in_patch, grow
from CTSAM3DLib.models import load_model
from CTSAM3DLib.prompts import click_maps
from CTSAM3DLib.result import RINGS, CancelEvent, Reach, Result, check_reach, stop_if_cancelled
from CTSAM3DLib.segmentation.sight import Sight
from CTSAM3DLib.segmentation.walk import Weights, walk_around
from CTSAM3DLib.volume import Volume

REUSE_MARGIN = 12
"""A click at least this many voxels inside the side of an earlier clicked patch is answered there again."""
RIM = 8
"""Along the side of a patch, over this many voxels, its answer fades into what is known already."""
SETTLED = 5
"""From this click on a mask is refined: a positive click only adds to it, a negative one only takes away."""
MOST_PATCHES = 96
"""Patches that one click may grow into: at this stride, at 1.5 mm a cube of more than 30 cm."""
CACHED_BYTES = 2**30
"""What a session of its own keeps to be quick; one that shares a cache keeps what fits in there."""
SMALL_THINGS = 1024
"""Bytes that the objects around arrays are taken to need."""


@dataclass(frozen=True)
class State:
    """What one prefix of the clicks leads to."""

    canvas: Canvas = field(default_factory=Canvas)
    patches: tuple[Patch, ...] = ()
    clicked: tuple[Start, ...] = ()
    """Patches in which clicks were answered, the latest last."""
    quality: float = 0.0
    walked: Canvas | None = None
    """What a random walk made of it, for models that have one; growth and later clicks go on from `canvas`."""

    @property
    def shown(self) -> Canvas:
        """What the mask is made of."""
        return self.canvas if self.walked is None else self.walked

    @property
    def nbytes(self) -> int:
        """Bytes that it holds, of which other states may share most."""
        canvases = (self.canvas,) if self.walked is None else (self.canvas, self.walked)
        tiles = sum(tile.nbytes for canvas in canvases for tile in canvas.tiles.values())
        return tiles + SMALL_THINGS * (1 + len(self.patches))


@dataclass(frozen=True)
class Turn:
    """A pause before the network is asked: what is known so far, and the patches that it will look at next."""

    state: State
    starts: tuple[Start, ...] = ()
    """No patches: the work is done."""

    @property
    def final(self) -> bool:
        """Whether the state is that of all the clicks."""
        return not self.starts


class Session:
    """One CT, ready to be clicked. Safe across threads: calls of `segment` wait for one another.

    `source` gives the CT on the model grid; `geometry` is the CT's own grid. What is worth keeping goes into `cache`,
    which several sessions may share, under keys that begin with `owner`.
    """

    def __init__(
        self,
        engine: Engine,
        source: PatchSource,
        geometry: Geometry,
        cache: Cache | None = None,
        owner: Hashable = None,
    ) -> None:
        self.geometry = geometry
        self.grid = source.grid
        self.engine = engine
        self.source = source
        self._cache = Cache(CACHED_BYTES) if cache is None else cache
        self._owner = owner
        self._lock = threading.Lock()
        walk = getattr(engine.model.network, "walk", None)
        self._weights = None if walk is None else Weights.of(walk)

    def prepare(self) -> None:
        """Nothing: a session on this computer is ready once it is open."""

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
        clicks = tuple(clicks)
        with self._lock:
            shown: State | None = None
            for turn in self.turns(clicks, reach):
                if progress is not None and shown is not None and turn.state is not shown:
                    progress(self.result(clicks, reach, turn.state, final=False))
                shown = turn.state
                if not turn.final:
                    stop_if_cancelled(cancel)
            return self.result(clicks, reach, turn.state, final=True)

    def turns(self, clicks: Sequence[Click], reach: Reach) -> Iterator[Turn]:
        """Answer the clicks with a pause before every use of the network; the last turn, and only that, is final.

        Whoever holds the iterator may leave it at any pause. Raises what `segment` raises.
        """
        clicks = tuple(clicks)
        check_reach(reach)
        check_clicks(clicks, self.geometry)
        prefixes = _prefixes(clicks)
        known, state = self._longest_known(prefixes, reach)
        for count in range(known + 1, len(clicks) + 1):
            before = state.walked
            state = yield from _Step(self, clicks[:count], reach).run(state)
            if self._weights is not None and state.patches:
                state = yield from self._walk(clicks[:count], before, state, self._weights)
            self._remember(prefixes[count - 1], reach, state)
        if state.clicked:  # where the next click is likely to be answered
            self.engine.expect(partial(_Step(self, clicks, reach).prompts, state.canvas, state.clicked[-1]))
        yield Turn(state)

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
            canvas=state.shown,
            grid=self.grid,
            geometry=self.geometry,
            execution=self.engine.execution,
        )

    def features(self, start: Start) -> Features:
        """The encoder's levels of the patch at `start`, encoded once."""
        key = (self._owner, "features", start)
        features: Features | None = self._cache.get(key)
        if features is None:
            features = self.engine.encode(self.source.patch(start))
            self._cache.put(key, features, sum(level.nbytes for level in features))
        return features

    def sight(self, start: Start) -> Sight:
        """What a walk has to know of the patch at `start`, made once."""
        key = (self._owner, "sight", start)
        sight: Sight | None = self._cache.get(key)
        if sight is None:
            image, known, *_ = (level[0].float().cpu().numpy() for level in self.features(start)[:2])
            low, high = self.engine.model.info.window
            width = self.engine.model.network.config.semantic_width
            sight = Sight.of(start, image[0] * (high - low) + low, known, width)
            self._cache.put(key, sight, sight.nbytes)
        return sight

    def _walk(
        self, clicks: tuple[Click, ...], before: Canvas | None, state: State, weights: Weights
    ) -> Generator[Turn, None, State]:
        """The state with what a random walk makes of it, with a pause where patches have to be encoded again."""
        starts = tuple(dict.fromkeys(patch.start for patch in state.patches))
        if lost := tuple(start for start in starts if not self._is_known(start)):
            yield Turn(state, lost)
        sights = [self.sight(start) for start in starts]
        walked = walk_around(clicks, state.canvas, before, state.quality, sights, self.grid, weights)
        return replace(state, walked=walked)

    def _is_known(self, start: Start) -> bool:
        return any((self._owner, kind, start) in self._cache for kind in ("sight", "features"))

    def unseen(self, starts: Sequence[Start]) -> list[Start]:
        """Those of the patches whose voxels the network still needs, to encode them or to propose where masks go on."""
        if self.engine.model.info.cross_patch:
            return list(starts)
        return [start for start in starts if (self._owner, "features", start) not in self._cache]

    def _longest_known(self, prefixes: Sequence[bytes], reach: Reach) -> tuple[int, State]:
        for count in range(len(prefixes), 0, -1):
            state = self._cache.get((self._owner, "state", reach, prefixes[count - 1]))
            if state is not None:
                return count, state
        return 0, State()

    def _remember(self, prefix: bytes, reach: Reach, state: State) -> None:
        self._cache.put((self._owner, "state", reach, prefix), state, state.nbytes)


def _prefixes(clicks: Sequence[Click]) -> list[bytes]:
    """What identifies the first click, the first two, and so on; one hash for all, since lists can be long."""
    digest = hashlib.blake2b(digest_size=16)
    prefixes = []
    for click in clicks:
        digest.update(struct.pack("<3d?", *click.position, click.positive))
        prefixes.append(digest.digest())
    return prefixes


class _Step:
    """The last of these clicks, answered on top of the state of those before it."""

    def __init__(self, session: Session, clicks: tuple[Click, ...], reach: Reach) -> None:
        self.grid = session.grid
        self._session = session
        self._clicks = clicks
        self._reach = reach
        self._voxels = session.grid.to_voxels([click.position for click in clicks])

    def run(self, state: State) -> Generator[Turn, None, State]:
        """The state after this click, with a pause before each use of the network."""
        click = self._clicks[-1]
        if not any(earlier.positive for earlier in self._clicks):
            return state  # negative clicks that come first wait for the first positive one
        start = self._place(state.clicked)
        yield Turn(state, (start,))
        answer, quality = self._decode(state.canvas, [start], [None])[0]
        known = state.canvas.read(start)
        faded = _fade(known, np.maximum(answer, 1))
        if len(self._clicks) >= SETTLED:
            faded = _refined(known, faded, click.positive)
        clicked = state.canvas.write(start, faded)
        reached = State(clicked, (*state.patches, Patch(start, 0)), (*state.clicked, start), quality)
        if not click.positive:
            return reached
        for growth in grow(self, state.canvas, clicked, start, RINGS[self._reach], MOST_PATCHES):
            grown = replace(reached, canvas=growth.canvas, patches=(*reached.patches, *growth.patches))
            if growth.following:
                yield Turn(grown, growth.following)
        return grown

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
        prompts = [self.prompts(canvas, start, point) for start, point in zip(starts, points, strict=True)]
        return self._session.engine.decode(features, prompts)

    def prompts(self, canvas: Canvas, start: Start, point: Start | None = None) -> NDArray[np.float32]:
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

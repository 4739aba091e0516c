"""A session: an ordered list of clicks in one CT becomes a mask.

**A mask is a function of (volume, ordered clicks, reach, model).** A session caches the state after every prefix of
the clicks that it was asked for, so a further click costs one step and an undo costs nothing. The cache is all that a
session keeps; a lost entry costs time, never correctness.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from CTSAM3DLib.cache import Cache
from CTSAM3DLib.cancel import CancelEvent, stop_if_cancelled
from CTSAM3DLib.checkpoints.load_model import load_model
from CTSAM3DLib.clicks.click import Click, check_clicks
from CTSAM3DLib.execution.engine import Engine, Features
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.segmentation.canvas import Canvas
from CTSAM3DLib.segmentation.click_step import ClickStep, State, Step
from CTSAM3DLib.segmentation.growth import Reach, check_reach
from CTSAM3DLib.segmentation.patch_grid import PatchSource, Start, TileSampler
from CTSAM3DLib.segmentation.result import Result
from CTSAM3DLib.segmentation.sight import Sight
from CTSAM3DLib.segmentation.walk import Weights, walk_around

CACHED_BYTES = 2**30
"""Bound in bytes of a session's own cache; sessions that share a cache share its bound."""


class Session:
    """One CT, ready to be clicked. Safe across threads: calls of `segment` wait for one another.

    `source` gives the CT on the model grid; `geometry` is the CT's own grid. Several sessions may share a `cache`;
    a session's keys in the cache begin with `owner`.
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
        """The mask of these clicks.

        Args:
            clicks: positions in LPS mm with signs; their order matters.
            reach: how far a positive click may grow.
            progress: called with every partial result, that of the clicked patch first.
            cancel: once set, the call ends; what is computed stays cached.

        Raises:
            ClickError: no click, only negative clicks, or a click outside the volume.
            Cancelled: `cancel` was set.

        """
        checked = check_clicks(clicks, self.geometry)
        clicks = tuple(checked)
        with self._lock:
            shown: State | None = None
            for step in self.steps(checked, reach):
                if progress is not None and shown is not None and step.state is not shown:
                    progress(self.result(clicks, reach, step.state, final=False))
                shown = step.state
                if not step.final:
                    stop_if_cancelled(cancel)
            return self.result(clicks, reach, step.state, final=True)

    def steps(self, clicks: Sequence[Click], reach: Reach) -> Iterator[Step]:
        """Process the clicks, pausing before every use of the network; the last step, and only that, is final.

        The caller may abandon the iterator at any pause. Raises what `segment` raises.
        """
        check_reach(reach)
        clicks = tuple(check_clicks(clicks, self.geometry))
        prefixes = _prefixes(clicks)
        cached, state = self._longest_cached(prefixes, reach)
        for count in range(cached + 1, len(clicks) + 1):
            before = state.walked
            state = yield from self._click_step(clicks[:count], reach).run(state)
            if self._weights is not None and state.patches:
                state = yield from self._walk(clicks[:count], before, state, self._weights)
            self._put_state(prefixes[count - 1], reach, state)
        if state.clicked:  # the next click is likely to be decoded in the patch of the latest
            self.engine.prefetch(partial(self._click_step(clicks, reach).prompts, state.canvas, state.clicked[-1]))
        yield Step(state)

    def result(self, clicks: tuple[Click, ...], reach: Reach, state: State, final: bool) -> Result:
        """The result of a state, with the record of how it was made."""
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
        """The encoder's levels of the patch at `start` (z, y, x), cached."""
        key = (self._owner, "features", start)
        features: Features | None = self._cache.get(key)
        if features is None:
            features = self.engine.encode(self.source.patch(start))
            self._cache.put(key, features, sum(level.nbytes for level in features))
        return features

    def sight(self, start: Start) -> Sight:
        """What a random walk needs of the patch at `start` (z, y, x), cached."""
        key = (self._owner, "sight", start)
        sight: Sight | None = self._cache.get(key)
        if sight is None:
            image, embedding, *_ = (level[0].float().cpu().numpy() for level in self.features(start)[:2])
            low, high = self.engine.model.info.window
            width = self.engine.model.network.config.semantic_width
            sight = Sight.of(start, image[0] * (high - low) + low, embedding, width)
            self._cache.put(key, sight, sight.nbytes)
        return sight

    def _walk(
        self, clicks: tuple[Click, ...], before: Canvas | None, state: State, weights: Weights
    ) -> Generator[Step, None, State]:
        """The state with the mask of a random walk, pausing where evicted patches have to be encoded again."""
        starts = tuple(dict.fromkeys(patch.start for patch in state.patches))
        if evicted := tuple(start for start in starts if not self._is_cached(start)):
            yield Step(state, evicted)
        sights = [self.sight(start) for start in starts]
        walked = walk_around(clicks, state.canvas, before, state.quality, sights, self.grid, weights)
        return replace(state, walked=walked)

    def _is_cached(self, start: Start) -> bool:
        return any((self._owner, kind, start) in self._cache for kind in ("sight", "features"))

    def patches_to_read(self, starts: Sequence[Start]) -> list[Start]:
        """Those of the patches whose voxels the network needs: to encode them, or as input of cross-patch prompts."""
        if self.engine.model.info.cross_patch:
            return list(starts)
        return [start for start in starts if (self._owner, "features", start) not in self._cache]

    def _click_step(self, clicks: tuple[Click, ...], reach: Reach) -> ClickStep:
        return ClickStep(self.engine, self.source, self.features, clicks, reach)

    def _longest_cached(self, prefixes: Sequence[bytes], reach: Reach) -> tuple[int, State]:
        """The clicks in the longest cached prefix, and its state."""
        for count in range(len(prefixes), 0, -1):
            state = self._cache.get((self._owner, "state", reach, prefixes[count - 1]))
            if state is not None:
                return count, state
        return 0, State()

    def _put_state(self, prefix: bytes, reach: Reach, state: State) -> None:
        self._cache.put((self._owner, "state", reach, prefix), state, state.nbytes)


def _prefixes(clicks: Sequence[Click]) -> list[bytes]:
    """Identifiers of the first click, the first two, and so on; by one running hash, since lists can be long."""
    digest = hashlib.blake2b(digest_size=16)
    prefixes = []
    for click in clicks:
        digest.update(struct.pack("<3d?", *click.position, click.positive))
        prefixes.append(digest.digest())
    return prefixes


class Segmenter:
    """A model on a device, which opens volumes. `Segmenter.load()` gives the bundled model on the best device.

    session = Segmenter.load().open(Volume.read("ct.nii.gz"))
    mask = session.segment([Click((-62.0, -18.0, 1104.5))]).mask
    """

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

        Args:
            model: name of a bundled model.
            weights: file of weights, in place of a bundled model.
            device: "cpu", "cuda", "cuda:1", ...; by default CUDA where there is one.
            window: HU window of published weights whose `config.py` is not at hand.

        Raises:
            ModelError: the model or the device cannot be used.
            MemoryForecastError: the model would not fit into memory.

        """
        return cls(Engine(load_model(model, weights, window), device))

    def open(self, volume: Volume) -> Session:
        """A session on a CT; nothing is computed yet. Raises VolumeError if it cannot be a CT in Hounsfield units."""
        volume.check_ct()
        return Session(self.engine, TileSampler(volume, self.engine.model.info.spacing), volume.geometry)

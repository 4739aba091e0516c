"""One click: the state of a session after the click, from the state before it.

The clicked patch is decoded and fused (`fusion.py`); a positive click then grows into neighbouring patches
(`growth.py`). `ClickStep.run` is a generator that pauses before every use of the network, so that one code serves a
script, a cancellable Slicer effect and a server that shares its device between users.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.execution.engine import Engine, Features
from CTSAM3DLib.imaging.constants import PATCH
from CTSAM3DLib.segmentation.canvas import Canvas
from CTSAM3DLib.segmentation.fusion import fuse_click, patch_for_click
from CTSAM3DLib.segmentation.growth import MAX_HOPS, Patch, Reach, grow
from CTSAM3DLib.segmentation.patch_grid import PatchSource, Start
from CTSAM3DLib.segmentation.prompt_maps import click_maps

MAX_PATCHES = 96
"""Patches that one click may grow into: at this stride, at 1.5 mm a cube of more than 30 cm."""
OBJECT_BYTES = 1024
"""Bytes that the Python objects around an array are taken to need."""


@dataclass(frozen=True)
class State:
    """The state after one prefix of the clicks."""

    canvas: Canvas = field(default_factory=Canvas)
    """Probabilities so far."""
    patches: tuple[Patch, ...] = ()
    """Patches decoded so far, in order."""
    clicked: tuple[Start, ...] = ()
    """Patches in which clicks were decoded, the latest last."""
    quality: float = 0.0
    """The network's estimate of the Dice of the latest clicked patch, 0..1."""
    walked: Canvas | None = None
    """The mask of a random walk, for models that have one; growth and later clicks continue from `canvas`."""

    @property
    def shown(self) -> Canvas:
        """The canvas that the mask is made of."""
        return self.canvas if self.walked is None else self.walked

    @property
    def nbytes(self) -> int:
        """Bytes of this state; other states may share most of them."""
        canvases = (self.canvas,) if self.walked is None else (self.canvas, self.walked)
        tiles = sum(tile.nbytes for canvas in canvases for tile in canvas.tiles.values())
        return tiles + OBJECT_BYTES * (1 + len(self.patches))


@dataclass(frozen=True)
class Step:
    """A pause before an inference step: the state so far, and the patches that the step will read."""

    state: State
    starts: tuple[Start, ...] = ()
    """First voxels (z, y, x) of these patches; empty when the work is done."""

    @property
    def final(self) -> bool:
        """Whether the state is that of all clicks."""
        return not self.starts


class ClickStep:
    """The last of these clicks, computed on top of the state of the clicks before it.

    `source` gives the CT's patches on the model grid; `features` gives the encoder's levels of the patch at a start.
    """

    def __init__(
        self,
        engine: Engine,
        source: PatchSource,
        features: Callable[[Start], Features],
        clicks: tuple[Click, ...],
        reach: Reach,
    ) -> None:
        self.grid = source.grid
        self._engine = engine
        self._source = source
        self._features = features
        self._clicks = clicks
        self._reach = reach
        self._voxels = np.rint(source.grid.to_voxels([click.position for click in clicks]))  # (n, 3): x, y, z

    def run(self, state: State) -> Generator[Step, None, State]:
        """Return the state after this click, pausing before each use of the network."""
        click = self._clicks[-1]
        if not any(earlier.positive for earlier in self._clicks):
            return state  # negative clicks that come first act together with the first positive one
        x, y, z = (int(v) for v in self._voxels[-1])
        start = patch_for_click((z, y, x), state.clicked, self.grid.shape)
        yield Step(state, (start,))
        probability, quality = self._decode(state.canvas, [start], [None])[0]
        prediction = np.maximum(probability, 1)  # 0 is left to voxels that no patch has covered
        clicked = state.canvas.write(
            start, fuse_click(state.canvas.read(start), prediction, len(self._clicks), click.positive)
        )
        after = State(clicked, (*state.patches, Patch(start, 0)), (*state.clicked, start), quality)
        if not click.positive:
            return after
        for growth in grow(self, state.canvas, clicked, start, MAX_HOPS[self._reach], MAX_PATCHES):
            grown = replace(after, canvas=growth.canvas, patches=(*after.patches, *growth.patches))
            if growth.following:
                yield Step(grown, growth.following)
        return grown

    def predict(
        self, canvas: Canvas, starts: Sequence[Start], points: Sequence[Start | None]
    ) -> list[NDArray[np.uint8]]:
        """Probabilities of patches, as `growth.Prompter.predict` describes them."""
        return [np.maximum(probability, 1) for probability, _ in self._decode(canvas, starts, points)]

    def predict_prompts(
        self, canvas: Canvas, starts: Sequence[Start], neighbours: Sequence[Start]
    ) -> list[NDArray[np.float32]]:
        """Heat maps in neighbours (`growth.Prompter`); all zero where the cross-patch network was not trained."""
        if not self._engine.model.info.cross_patch:
            return [np.zeros((PATCH,) * 3, np.float32) for _ in neighbours]
        return self._engine.predict_prompts(
            [self._source.patch(start) for start in starts],
            [canvas.read(start) for start in starts],
            [self._source.patch(neighbour) for neighbour in neighbours],
        )

    def prompts(self, canvas: Canvas, start: Start, point: Start | None = None) -> NDArray[np.float32]:
        """The prompt maps of a patch.

        Args:
            canvas: probabilities so far; they become the map of the previous mask.
            start: first voxel (z, y, x) of the patch.
            point: a further positive click (z, y, x), the peak of a cross-patch heat map.

        Returns:
            [previous mask, positive clicks, negative clicks], float32 0..1, (3, 64, 64, 64).

        """
        corner_xyz = np.array(start[::-1])
        points = [] if point is None else [np.array(point[::-1]) - corner_xyz]
        labels = [] if point is None else [1]
        for voxel, click in zip(self._voxels - corner_xyz, self._clicks, strict=True):
            if np.all((voxel >= 0) & (voxel < PATCH)):
                points.append(voxel)
                labels.append(int(click.positive))
        previous = canvas.read(start).astype(np.float32) / 255
        return np.stack([previous, *click_maps(points, labels, PATCH)])

    def _decode(
        self, canvas: Canvas, starts: Sequence[Start], points: Sequence[Start | None]
    ) -> list[tuple[NDArray[np.uint8], float]]:
        features = [self._features(start) for start in starts]
        prompts = [self.prompts(canvas, start, point) for start, point in zip(starts, points, strict=True)]
        return self._engine.decode(features, prompts)

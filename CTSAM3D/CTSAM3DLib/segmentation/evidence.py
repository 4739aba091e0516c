"""What is known of the voxels around clicks and of the edges between them, for a random walk to weigh.

All of it comes from the patches that the network looked at: the CT, the vectors and places of
`model/small/embedding.py`, and the masks on the canvas. Where two patches overlap, the one counts in which a voxel lies
deeper.

Arrays are (z, y, x) or have kinds first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.imaging.constants import AIR_HU, PATCH
from CTSAM3DLib.imaging.geometry import Box, filled_box
from CTSAM3DLib.model.small.walk import CLICKS, VOXELS
from CTSAM3DLib.segmentation.canvas import MASK, Canvas
from CTSAM3DLib.segmentation.patch_grid import ModelGrid
from CTSAM3DLib.segmentation.sight import DEPTHS, Floats, Known, Sight, lerp

MARGIN_MM = 40.0
"""How far from positive clicks the walk goes."""
MASK_MARGIN_MM = 9.0
"""How far beyond the network's mask."""
LEVEL_HU = 200.0
"""Beyond so much above or below the clicked voxels all is alike."""
STEP_HU = 12.5
"""Change of HU from voxel to voxel that counts as an edge."""
MIN_NOISE_HU = 5.0
GREATEST = 30.0
"""What the square of a change, in units of an edge or of noise, is cut off at."""
UNCERTAIN = 0.01
"""Probabilities of the network are taken to be no more certain than this."""
NOWHERE = 1e6
"""Distance in mm, and difference in HU, from clicks that are not there."""


@dataclass(frozen=True)
class Asked:
    """The clicks on the model grid, in voxels (z, y, x), which are positive, and the network's estimate of its mask."""

    voxels: NDArray[np.float64]
    positive: NDArray[np.bool_]
    quality: float

    @classmethod
    def on(cls, grid: ModelGrid, clicks: Sequence[Click], quality: float) -> Asked:
        """These clicks on a grid."""
        voxels = grid.to_voxels([click.position for click in clicks])[:, ::-1]
        return cls(voxels, np.array([click.positive for click in clicks]), quality)


@dataclass(frozen=True)
class Evidence:
    """What a walk weighs in a box of the model grid, in voxels `step` times as large."""

    step: int
    clicks: Floats
    """What is known of all voxels alike, by `model.walk.CLICKS`."""
    voxels: Floats
    """What voxels are known by, (kinds of `model.walk.VOXELS`, z, y, x)."""
    edges: tuple[Floats, Floats, Floats]
    """What edges along z, y and x are known by, (kinds of `model.walk.EDGES`, z, y, x)."""
    seeds: NDArray[np.int8]
    """1 at positive clicks, -1 at negative ones and where the network has not looked, else 0; (z, y, x)."""


def box_of(asked: Asked, canvas: Canvas, grid: ModelGrid) -> Box:
    """The box of the grid that the walk goes through: around positive clicks, and around the network's mask."""
    inside = np.rint(asked.voxels[asked.positive]).astype(int)
    margin = round(MARGIN_MM / grid.spacing)
    low, high = inside.min(axis=0) - margin, inside.max(axis=0) + margin + 1
    values, start = canvas.dense()
    if values.size:
        margin = round(MASK_MARGIN_MM / grid.spacing)
        low, high = np.minimum(low, np.array(start) - margin), np.maximum(high, np.add(start, values.shape) + margin)
    low, high = np.maximum(low, 0), np.minimum(high, grid.shape)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return z, y, x


def evidence(
    box: Box,
    step: int,
    asked: Asked,
    canvas: Canvas,
    before: Canvas | None,
    sights: Sequence[Sight],
    grid: ModelGrid,
) -> Evidence:
    """All that is known in a box of the grid, when the canvas is what the network answered to these clicks.

    `before` is what the walk made of the clicks but the last.
    """
    answer = canvas.read_box(box)
    nearest = np.rint(asked.voxels).astype(int)
    seen = _Seen(box, step, sights, (nearest[asked.positive], nearest[~asked.positive]))
    looked = (coarser((answer > 0).astype(np.float32), step) == 1) & seen.anywhere
    probability = _share(answer, step)
    spacing = grid.spacing * step
    shape = probability.shape
    local = (asked.voxels - [axis.start for axis in box] - (step - 1) / 2) / step
    index = np.rint(local).astype(int)
    inside = np.all((index >= 0) & (index < shape), axis=1)
    index, signs = index[inside], asked.positive[inside]

    samples = [seen.hu[tuple(slice(max(n - 1, 0), n + 2) for n in voxel)] for voxel in index.tolist()]
    inner = [sample for sample, sign in zip(samples, signs, strict=True) if sign]
    outer = [sample for sample, sign in zip(samples, signs, strict=True) if not sign]
    right = [p if sign else 1 - p for p, sign in zip(probability[tuple(index.T)], signs, strict=True)]
    count = len(asked.positive)
    of_clicks = {
        "answer_at_clicks": float(np.mean(right)) if right else 0.5,
        "clicks": 1 / count,
        "negative_clicks": float(np.mean(~asked.positive)),
        "quality": asked.quality,
        "last_positive": float(asked.positive[-1]),
        "extent": np.log10(np.count_nonzero(answer >= MASK) + 10.0) - 3,
    }

    near, away = (_distance(shape, local[asked.positive == sign], spacing) for sign in (True, False))
    like, unlike = _difference(seen.hu, inner), _difference(seen.hu, outer)
    last = _distance(shape, local[-1:], spacing)
    former = np.full(shape, 0.5, np.float32) if before is None else _share(before.read_box(box), step)
    maps = {
        "answer": _logit(probability),
        "before": _logit(former),
        "near_last": np.exp(last / np.float32(-30)),
        "sure": np.abs(2 * probability - 1),
        "around": _smoothed(probability),
        "hu": np.clip(seen.hu / 500, -2, 2),
        "nearer": (away - near) / (away + near + np.float32(spacing)),
        **{f"near_{mm}": np.exp(near / np.float32(-mm)) for mm in (5, 12, 30)},
        **{f"away_{mm}": np.exp(away / np.float32(-mm)) for mm in (5, 12, 30)},
        "like_hu": np.exp(like / np.float32(-30)),
        "like_hu_widely": np.exp(like / np.float32(-100)),
        "unlike_hu": np.exp(unlike / np.float32(-30)),
        "unlike_hu_widely": np.exp(unlike / np.float32(-100)),
        **dict(zip(("like_vector", "unlike_vector", "like_place", "unlike_place"), seen.likeness, strict=True)),
    }
    level = float(np.median(np.concatenate([sample.ravel() for sample in inner])))
    return Evidence(
        step,
        np.array([of_clicks[kind] for kind in CLICKS], np.float32),
        np.stack([maps[kind] for kind in VOXELS]),
        _edges(seen, level, probability),
        _seeds(looked, index, signs),
    )


class _Seen:
    """What the sights say in a box, in voxels `step` times as large: the one counts in which a voxel lies deepest.

    `clicked` are the voxels (z, y, x) of the grid with positive clicks, and those with negative ones.
    """

    def __init__(self, box: Box, step: int, sights: Sequence[Sight], clicked: Sequence[NDArray[np.int_]]) -> None:
        shape = [axis.stop - axis.start for axis in box]
        hu = np.full(shape, AIR_HU, np.float32)
        deepest = np.zeros(shape, np.uint8)
        owner = np.full(shape, -1, np.int16)
        for index, sight in enumerate(sights):
            of_box, of_patch = sight.within(box)
            z, y, x = (DEPTHS[axis] for axis in of_patch)
            depth = np.minimum(np.minimum(z[:, None, None], y[:, None]), x)
            deeper = depth > deepest[of_box]
            np.copyto(deepest[of_box], depth, where=deeper)
            np.copyto(owner[of_box], np.int16(index), where=deeper)
            np.copyto(hu[of_box], sight.hu[of_patch], where=deeper)
        self.hu = coarser(hu, step)
        self._owner = owner[::step, ::step, ::step]
        self._corner = np.array([axis.start for axis in box])
        self._step = step
        self.anywhere = self._owner >= 0
        self.changes = np.zeros((2, 3, *self._owner.shape), np.float32)
        self.likeness = np.zeros((4, *self._owner.shape), np.float32)
        known = [[found for voxel in voxels if (found := _known(sights, voxel))] for voxels in clicked]
        for index, sight in enumerate(sights):
            self._take(sight, self._owner == index, known)

    def _take(self, sight: Sight, owned: NDArray[np.bool_], clicked: Sequence[Sequence[Known]]) -> None:
        """What a sight knows at 32³ of the voxels that it owns."""
        box = filled_box(owned, margin=0)
        owned = owned[box]
        if not owned.size:
            return
        first = self._corner - sight.start
        middles = [
            # In voxels of 32³, the first of which lies between two of 64³.
            (np.arange(axis.start, axis.stop) * self._step + n + (self._step - 1) / 2 - 0.5) / 2
            for axis, n in zip(box, first, strict=True)
        ]
        z, y, x = part = tuple(
            slice(max(int(middle[0]), 0), min(int(middle[-1]) + 2, PATCH // 2)) for middle in middles
        )
        inside = [
            np.clip(middle - axis.start, 0, axis.stop - axis.start - 1)
            for middle, axis in zip(middles, part, strict=True)
        ]
        further = self._step / 4 - 0.5  # an edge lies half a voxel further on, and is known from its lower end on
        for axis in range(3):
            edges = [np.clip(n + further, 0, n[-1]) if other == axis else n for other, n in enumerate(inside)]
            for kind, changes in enumerate(sight.changes):
                np.copyto(self.changes[kind, axis][box], _at(changes[axis, z, y, x], edges), where=owned)
        maps = [sight.likeness((z, y, x), known) for known in clicked]
        for kind, likeness in enumerate((maps[0][0], maps[1][0], maps[0][1], maps[1][1])):
            if likeness is not None:
                np.copyto(self.likeness[kind][box], _at(likeness, inside), where=owned)


def _known(sights: Sequence[Sight], voxel: NDArray[np.int_]) -> Known | None:
    """What is known of a voxel, by the sight in which it lies deepest."""
    depths = [int(np.minimum(voxel - sight.start, PATCH - 1 - voxel + sight.start).min()) for sight in sights]
    best = int(np.argmax(depths))
    return sights[best].at(voxel) if depths[best] >= 0 else None


def _at(values: Floats, positions: Sequence[NDArray[np.floating]]) -> Floats:
    for axis, position in enumerate(positions):
        values = lerp(values, axis, position)
    return values


def _logit(probability: Floats) -> Floats:
    """A quarter of it, which makes it as large as all else that is known."""
    clipped = np.clip(probability, np.float32(UNCERTAIN), np.float32(1 - UNCERTAIN))
    logit: Floats = np.log(clipped / (1 - clipped)) / np.float32(4)
    return logit


def coarser(values: Floats, step: int) -> Floats:
    """Means of `step`³ voxels; those at the end repeat the last."""
    if step == 1:
        return values
    values = np.pad(values, [(0, -size % step) for size in values.shape], "edge")
    for axis in range(3):
        lines = np.moveaxis(values, axis, 0)
        total = lines[::step].copy()
        for offset in range(1, step):
            total += lines[offset::step]
        values = np.moveaxis(total, 0, axis)
    return np.ascontiguousarray(values) / np.float32(step**3)


def _share(values: NDArray[np.uint8], step: int) -> Floats:
    """Probabilities 0..255 of small voxels as those of larger ones, 0..1."""
    share: Floats = coarser(values.astype(np.float32), step) / np.float32(255)
    return share


def _distance(shape: Sequence[int], voxels: NDArray[np.float64], spacing: float) -> Floats:
    """Distance in mm of each voxel to the nearest of these."""
    nearest = np.full(shape, NOWHERE**2, np.float32)
    for voxel in voxels:
        z, y, x = (
            np.square((np.arange(size) - n) * spacing).astype(np.float32) for size, n in zip(shape, voxel, strict=True)
        )
        np.minimum(nearest, (z[:, None] + y)[..., None] + x, out=nearest)
    return np.sqrt(nearest, out=nearest)


def _difference(hu: Floats, samples: Sequence[Floats]) -> Floats:
    """The difference of HU from the mean of the sample that is nearest."""
    least = np.full(hu.shape, NOWHERE, np.float32)
    for sample in samples:
        np.minimum(least, np.abs(hu - np.float32(sample.mean())), out=least)
    return least


def _smoothed(values: Floats) -> Floats:
    """The mean of the 5³ voxels around each, of which those at the sides repeat."""
    for axis in range(3):
        padded = np.pad(values, [(2, 2) if other == axis else (0, 0) for other in range(3)], "edge")
        lines = np.moveaxis(padded, axis, 0)
        total = lines[:-4] + lines[1:-3]
        for shift in (2, 3, 4):
            total += lines[shift : len(lines) - 4 + shift]
        values = np.moveaxis(total, 0, axis)
    return values / np.float32(125)


def _edges(seen: _Seen, level: float, probability: Floats) -> tuple[Floats, Floats, Floats]:
    clipped = np.clip(seen.hu - np.float32(level), -LEVEL_HU, LEVEL_HU)
    steps = [np.abs(np.diff(seen.hu, axis=axis)) for axis in range(3)]
    some = np.concatenate([step[::2, ::2, ::2].ravel() for step in steps])
    noise = max(float(np.median(some)) if some.size else 0, MIN_NOISE_HU)
    edges = []
    for axis, step in enumerate(steps):
        low = tuple(slice(size) for size in step.shape)
        known = (
            np.minimum(step / 100, 3),
            np.minimum(np.square(step / np.float32(noise)), GREATEST) / 10,
            np.minimum(np.square(np.diff(clipped, axis=axis) / np.float32(STEP_HU)), GREATEST) / 10,
            seen.changes[0, axis][low],
            np.abs(np.diff(probability, axis=axis)),
            seen.changes[1, axis][low],
        )
        edges.append(np.stack(known))
    z, y, x = edges
    return z, y, x


def _seeds(looked: NDArray[np.bool_], voxels: NDArray[np.int_], positive: NDArray[np.bool_]) -> NDArray[np.int8]:
    seeds = np.where(looked, 0, -1).astype(np.int8)
    for voxel, sign in zip(voxels, positive, strict=True):  # a later click at the same voxel counts
        seeds[tuple(voxel)] = 1 if sign else -1
    return seeds

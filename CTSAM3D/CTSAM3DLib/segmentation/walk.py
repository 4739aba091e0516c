"""The mask of a structure by a random walk around the clicks, with the network's mask as one of several witnesses.

A thin network knows roughly where a structure is, a random walk finds its borders and obeys every click. So the walk
goes through the CT around the clicks, shy of edges of the CT and of what the network knows of anatomy, and is drawn
to where the network's mask, and the likeness to what was clicked, say. How much each of them counts is learnt
(`model/small/walk.py`).

Arrays are (z, y, x) on the model grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.imaging.geometry import Box
from CTSAM3DLib.model.small.walk import CLICKS, LEAST, MIN_CONDUCTANCE, MOST, Walk
from CTSAM3DLib.segmentation.canvas import Canvas
from CTSAM3DLib.segmentation.evidence import Asked, Evidence, box_of, evidence
from CTSAM3DLib.segmentation.patch_grid import ModelGrid
from CTSAM3DLib.segmentation.random_walk import Floats, potential
from CTSAM3DLib.segmentation.sight import Sight, finer

CERTAIN = np.float32(100)
"""The pull of a click."""
MAX_VOXELS = 100_000
"""Of a box; a larger one is walked through in voxels twice as large, or four times."""
CHUNK = 4096
"""Voxels whose evidence is weighed at a time, so that what is between stays in a processor's cache."""


@dataclass(frozen=True)
class Weights:
    """Those of a `Walk`, for numpy."""

    costs: Floats
    straight: Floats
    straight_bias: Floats
    hidden: Floats
    hidden_bias: Floats
    bent: Floats

    @classmethod
    def of(cls, walk: Walk) -> Weights:
        """A copy of a module's weights."""
        tensors = (
            walk.edge_costs.exp(),
            *(walk.straight.weight, walk.straight.bias, walk.hidden.weight, walk.hidden.bias),
            walk.bent.weight,
        )
        return cls(*(tensor.detach().float().cpu().numpy().copy() for tensor in tensors))

    def conductances(self, edges: Floats) -> Floats:
        """As `Walk.conductances`."""
        cost = self.costs[0] * edges[0]
        for weight, kind in zip(self.costs[1:], edges[1:], strict=True):
            cost += weight * kind
        conductances: Floats = np.exp(-cost) + np.float32(MIN_CONDUCTANCE)
        return conductances

    def pulls(self, clicks: Floats, voxels: Floats) -> Floats:
        """As `Walk.pulls`, of voxels (kinds, z, y, x): (2, z, y, x)."""
        alike = len(CLICKS)
        straight_bias = self.straight_bias + self.straight[:, :alike] @ clicks
        hidden_bias = self.hidden_bias + self.hidden[:, :alike] @ clicks
        known = voxels.reshape(len(voxels), -1)
        logarithms = np.empty((2, known.shape[1]), np.float32)
        for first in range(0, known.shape[1], CHUNK):
            chunk = np.s_[:, first : first + CHUNK]
            # By einsum, not by BLAS, whose sums may depend on the number of threads.
            hidden = np.einsum("hk,kv->hv", self.hidden[:, alike:], known[chunk])
            hidden += hidden_bias[:, None]
            np.maximum(hidden, 0, out=hidden)
            logarithms[chunk] = np.einsum("ok,kv->ov", self.straight[:, alike:], known[chunk])
            logarithms[chunk] += np.einsum("oh,hv->ov", self.bent, hidden)
        logarithms += straight_bias[:, None]
        return np.exp(np.clip(logarithms, LEAST, MOST)).reshape(2, *voxels.shape[1:])


def walk_around(
    clicks: Sequence[Click],
    canvas: Canvas,
    before: Canvas | None,
    quality: float,
    sights: Sequence[Sight],
    grid: ModelGrid,
    weights: Weights,
) -> Canvas:
    """The mask of these clicks, when the network's is on the canvas and it looked at the patches of these sights.

    `before` is what this made of the clicks but the last, `quality` the network's own estimate. The canvas that is
    returned knows nothing beyond the walk.
    """
    asked = Asked.on(grid, clicks, quality)
    box, found = evidence_around(asked, canvas, before, sights, grid)
    probability = finer(walked(found, weights), found.step, box)
    values = np.maximum(np.rint(probability * np.float32(255)), 1).astype(np.uint8)
    corner = [axis.start for axis in box]
    for voxel, positive in zip(asked.voxels - corner, asked.positive, strict=True):
        # All voxels that the mask at the click is interpolated from.
        around = tuple(slice(max(int(np.floor(n)), 0), max(int(np.ceil(n)) + 1, 0)) for n in voxel)
        values[around] = 255 if positive else 1
    z, y, x = corner
    return Canvas.of_dense(values, (z, y, x))


def evidence_around(
    asked: Asked, canvas: Canvas, before: Canvas | None, sights: Sequence[Sight], grid: ModelGrid
) -> tuple[Box, Evidence]:
    """The box that the walk goes through, and what is known there, in voxels so large that there are not too many."""
    box = box_of(asked, canvas, grid)
    size = math.prod(axis.stop - axis.start for axis in box)
    step = 1
    while size > MAX_VOXELS * step**3:
        step *= 2
    return box, evidence(box, step, asked, canvas, before, sights, grid)


def walked(found: Evidence, weights: Weights) -> Floats:
    """The probability of each voxel that a walk from it ends inside."""
    inwards, outwards = weights.pulls(found.clicks, found.voxels)
    inside, outside = found.seeds > 0, found.seeds < 0
    inwards[inside], outwards[inside] = CERTAIN, 0
    inwards[outside], outwards[outside] = 0, CERTAIN
    first = inwards / (inwards + outwards)
    # Of larger voxels there are fewer, each as many times more pulled at as its volume, with sides of larger area.
    share = np.float32(found.step**2)
    return potential([weights.conductances(edges) for edges in found.edges], share * inwards, share * outwards, first)

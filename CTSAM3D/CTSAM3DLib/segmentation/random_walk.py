"""A random walk that may end anywhere: its potential on a grid of voxels, solved.

Grady's random walker (2006) gives each voxel the probability that a walk from it ends at a seed inside rather than at
one outside. Here a walk may also end at any voxel on its way, inside or outside, with a chance of that voxel's own
(Grady, "Multilabel random walker image segmentation using prior models", CVPR 2005). The probabilities x minimise

    sum over edges of w (x_i - x_j)²  +  sum over voxels of a_i (1 - x_i)² + b_i x_i²

with conductances w of edges and pulls a inwards and b outwards. That is one system of linear equations, symmetric and
positive definite, which conjugate gradients solve.

Arrays are (z, y, x). Everything is done by one thread in a fixed order, so that the same question has the same answer
to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

TOLERANCE = 3e-4
"""Residual, as a share of the right side, at which the solution is good enough."""
MOST_STEPS = 200


def potential(
    conductances: Sequence[Floats],
    inwards: Floats,
    outwards: Floats,
    first: Floats | None = None,
    tolerance: float = TOLERANCE,
    most_steps: int = MOST_STEPS,
) -> Floats:
    """The probabilities x, 0..1, (z, y, x).

    `conductances` are those along z, y and x between each voxel and the next, one shorter than the grid along their
    axis. `inwards` and `outwards` are pulls per voxel, of which one at least has to be above 0 somewhere. `first` is
    where to begin; it changes the answer within the tolerance.
    """
    x = solved(conductances, inwards + outwards, inwards, first, tolerance, most_steps)
    return np.clip(x, 0, 1, out=x)


def solved(
    conductances: Sequence[Floats],
    pulls: Floats,
    right: Floats,
    first: Floats | None = None,
    tolerance: float = TOLERANCE,
    most_steps: int = MOST_STEPS,
) -> Floats:
    """The solution x of the walk's equations with any right side, as `potential` has the pulls inwards there."""
    diagonal = pulls.copy()
    for axis, weight in enumerate(conductances):
        low, high = ends(axis)
        diagonal[low] += weight
        diagonal[high] += weight
    # Scaled so that the diagonal is 1, which is Jacobi's preconditioner at no cost in each step.
    scale: Floats = np.reciprocal(np.sqrt(np.maximum(diagonal, np.float32(1e-12))))
    scaled = [weight * scale[ends(axis)[0]] * scale[ends(axis)[1]] for axis, weight in enumerate(conductances)]
    right = right * scale
    x = np.zeros_like(right) if first is None else first / scale
    residual = right - _times(scaled, x)
    direction = residual.copy()
    square = _dot(residual, residual)
    enough = tolerance**2 * _dot(right, right)
    for _ in range(most_steps):
        if square <= enough:
            break
        product = _times(scaled, direction)
        step = np.float32(square / _dot(direction, product))
        x += step * direction
        product *= step
        residual -= product
        before, square = square, _dot(residual, residual)
        direction *= np.float32(square / before)
        direction += residual
    x *= scale
    return x


def ends(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The voxels at the lower and at the upper ends of the edges along an axis."""
    everything = [slice(None)] * 3
    low, high = list(everything), list(everything)
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return tuple(low), tuple(high)


def _times(weights: Sequence[Floats], x: Floats) -> Floats:
    """The scaled system's product with x."""
    product = x.copy()
    for axis, weight in enumerate(weights):
        low, high = ends(axis)
        product[low] -= weight * x[high]
        product[high] -= weight * x[low]
    return product


def _dot(a: Floats, b: Floats) -> float:
    """Summed in double precision by one thread; BLAS would share it out."""
    return float((a * b).sum(dtype=np.float64))

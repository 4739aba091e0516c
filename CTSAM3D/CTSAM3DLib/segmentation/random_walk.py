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

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

TOLERANCE = 3e-4
"""Residual, as a share of the right side, at which the solution is good enough."""
MAX_STEPS = 200


def potential(
    conductances: Sequence[Floats],
    inwards: Floats,
    outwards: Floats,
    first: Floats | None = None,
    tolerance: float = TOLERANCE,
    most_steps: int = MAX_STEPS,
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
    most_steps: int = MAX_STEPS,
) -> Floats:
    """The solution x of the walk's equations with any right side, as `potential` has the pulls inwards there."""
    edges = [_Edges.of(weight, axis, pulls.shape) for axis, weight in enumerate(conductances)]
    diagonal = pulls.ravel().copy()
    for along in edges:
        diagonal[: -along.stride] += along.weights
        diagonal[along.stride :] += along.weights
    # Scaled so that the diagonal is 1, which is Jacobi's preconditioner at no cost in each step.
    scale: Floats = np.reciprocal(np.sqrt(np.maximum(diagonal, np.float32(1e-12))))
    for along in edges:
        np.multiply(along.weights, scale[: -along.stride], out=along.weights)
        np.multiply(along.weights, scale[along.stride :], out=along.weights)
    product, scratch = np.empty_like(scale), np.empty_like(scale)  # new memory in every step would take as long
    right = right.ravel() * scale
    x = np.zeros_like(right) if first is None else first.ravel() / scale
    _multiply(edges, x, product, scratch)
    residual = right - product
    direction = residual.copy()
    square = _dot(residual, residual, scratch)
    enough = np.float32(tolerance) ** 2 * _dot(right, right, scratch)
    for _ in range(most_steps):
        if square <= enough:
            break
        _multiply(edges, direction, product, scratch)
        step = square / _dot(direction, product, scratch)
        np.multiply(direction, step, out=scratch)
        x += scratch
        np.multiply(product, step, out=scratch)
        residual -= scratch
        before, square = square, _dot(residual, residual, scratch)
        direction *= square / before
        direction += residual
    x *= scale
    return x.reshape(pulls.shape)


@dataclass(frozen=True)
class _Edges:
    """The edges along one axis, laid out as the voxels are: each pass over whole lines of memory is a long one."""

    stride: int
    """From a voxel to the next one along the axis."""
    weights: Floats
    """Of the edge from each voxel to the next; 0 where there is none."""

    @classmethod
    def of(cls, conductances: Floats, axis: int, shape: tuple[int, ...]) -> _Edges:
        padded = np.zeros(shape, np.float32)
        padded[tuple(slice(size) for size in conductances.shape)] = conductances
        stride = math.prod(shape[axis + 1 :])
        return cls(stride, padded.ravel()[:-stride])


def _multiply(edges: Sequence[_Edges], x: Floats, product: Floats, scratch: Floats) -> None:
    """Put the scaled system's product with x into `product`."""
    np.copyto(product, x)
    for along in edges:
        part = scratch[: -along.stride]
        np.multiply(along.weights, x[along.stride :], out=part)
        product[: -along.stride] -= part
        np.multiply(along.weights, x[: -along.stride], out=part)
        product[along.stride :] -= part


def _dot(a: Floats, b: Floats, scratch: Floats) -> np.float32:
    """Summed in pairs by one thread; BLAS would share it out."""
    np.multiply(a, b, out=scratch)
    total: np.float32 = scratch.sum()
    return total

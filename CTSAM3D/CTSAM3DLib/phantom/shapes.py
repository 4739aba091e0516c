"""A raster of HU and labels for phantoms, and the shapes painted on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Point = Sequence[float] | np.ndarray
MAX_WOBBLE = 2.5


class Canvas:
    """A CT under construction: `hu` (float32) and `labels` (uint8), both (z, y, x).

    Shapes are given in physical coordinates (x, y, z), mm, and returned as bool masks of the whole canvas. Coordinates
    are deformed by smooth noise of standard deviation `wobble`, so that no surface is perfectly regular: `position`
    holds the deformed x, y and z of every voxel.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        rng: np.random.Generator,
        spacing: Point = (1.0, 1.0, 1.0),
        origin: Point = (0.0, 0.0, 0.0),
        wobble: float = 0.0,
        wobble_period: float = 24.0,
    ) -> None:
        self.hu = np.zeros(shape, np.float32)
        self.labels = np.zeros(shape, np.uint8)
        self._axes = [origin[axis] + spacing[axis] * np.arange(shape[2 - axis], dtype=np.float32) for axis in range(3)]
        self._reach = MAX_WOBBLE * wobble
        x, y, z = self._axes
        self.position = []
        for axis in (x, y[:, None], z[:, None, None]):
            bend = np.clip(smooth_noise(rng, shape, wobble_period), -MAX_WOBBLE, MAX_WOBBLE)
            self.position.append(axis + np.float32(wobble) * bend)

    def paint(self, mask: np.ndarray, label: int, hu: float) -> None:
        """Give the voxels of `mask` a label and a value."""
        self.labels[mask] = label
        self.hu[mask] = hu

    def ellipsoid(self, centre: Point, radii: Point, turn: np.ndarray | None = None, power: float = 2.0) -> np.ndarray:
        """Return an ellipsoid; `turn` is a rotation matrix, a `power` above 2 makes it box-like."""
        mask = np.zeros(self.hu.shape, bool)
        reach = np.asarray(radii) if turn is None else np.full(3, max(radii))
        box = self._box(np.subtract(centre, reach), np.add(centre, reach))
        local = [position[box] - np.float32(middle) for position, middle in zip(self.position, centre, strict=True)]
        if turn is not None:
            local = [sum(np.float32(turn[row, axis]) * local[axis] for axis in range(3)) for row in range(3)]
        scaled = [part / np.float32(radius) for part, radius in zip(local, radii, strict=True)]
        powers = [part * part if power == 2.0 else np.abs(part) ** np.float32(power) for part in scaled]
        mask[box] = powers[0] + powers[1] + powers[2] < 1
        return mask

    def tube(self, points: np.ndarray, radii: float | np.ndarray) -> np.ndarray:
        """Return a tube along a polyline (n, 3) with one radius or one for each point."""
        mask = np.zeros(self.hu.shape, bool)
        widths = np.broadcast_to(radii, len(points))
        for a, b, wide in zip(points[:-1], points[1:], np.maximum(widths[:-1], widths[1:]), strict=True):
            box = self._box(np.minimum(a, b) - wide, np.maximum(a, b) + wide)
            local = [position[box] - np.float32(start) for position, start in zip(self.position, a, strict=True)]
            along = (b - a).astype(np.float32)
            share = sum(part * step for part, step in zip(local, along, strict=True)) / max(float(along @ along), 1e-6)
            share = np.clip(share, 0, 1)
            gap = sum((part - share * step) ** 2 for part, step in zip(local, along, strict=True))
            mask[box] |= gap < np.float32(wide) ** 2
        return mask

    def sheet(self, normal: Point, offset: float, thickness: float) -> np.ndarray:
        """Return the points whose projection on `normal` is within half a thickness of `offset`."""
        along = sum(position * np.float32(part) for position, part in zip(self.position, normal, strict=True))
        inside: np.ndarray = np.abs(along - np.float32(offset)) < thickness / 2
        return inside

    def _box(self, lower: np.ndarray, upper: np.ndarray) -> tuple[slice, slice, slice]:
        first = [int(np.searchsorted(axis, at - self._reach)) for axis, at in zip(self._axes, lower, strict=True)]
        last = [int(np.searchsorted(axis, at + self._reach)) for axis, at in zip(self._axes, upper, strict=True)]
        x, y, z = map(slice, first, last)
        return z, y, x


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], period: float) -> np.ndarray:
    """Return noise of mean 0 and standard deviation about 1, float32, without detail finer than `period` voxels."""
    bends = [_spline_weights(size, period) for size in shape]
    coarse = rng.standard_normal([bend.shape[1] for bend in bends], dtype=np.float32)
    return along_axes(coarse, bends) * np.float32(3.0)


def along_axes(array: np.ndarray, matrices: Sequence[np.ndarray | None]) -> np.ndarray:
    """Return the array with each axis multiplied by its matrix (new length, old length); None leaves an axis."""
    for axis in reversed(range(array.ndim)):
        matrix = matrices[axis]
        if matrix is not None:
            shape = (*array.shape[:axis], len(matrix), *array.shape[axis + 1 :])
            if axis == array.ndim - 1:
                array = array @ matrix.T
            else:
                array = (matrix @ array.reshape(*array.shape[: axis + 1], -1)).reshape(shape)
    return array


def gaussian_matrix(size: int, sigma: float) -> np.ndarray:
    """Return the matrix (size, size) of a Gaussian blur of `sigma` voxels whose rows sum to 1."""
    index = np.arange(size, dtype=np.float32)
    weights = np.exp(-0.5 * ((index[:, None] - index) / max(sigma, 1e-3)) ** 2)
    normed: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return normed


def slice_matrix(size: int, thickness: int) -> np.ndarray:
    """Return the matrix (size, size) that averages slabs of `thickness` voxels and interpolates between them."""
    starts = np.arange(0, size, thickness)
    average = np.zeros((len(starts), size), np.float32)
    for row, start in enumerate(starts):
        average[row, start : start + thickness] = 1
    average /= average.sum(axis=1, keepdims=True)
    middles = starts + (thickness - 1) / 2
    interpolate = [np.interp(np.arange(size), middles, column) for column in np.eye(len(starts))]
    return np.array(interpolate, np.float32).T @ average


def _spline_weights(size: int, period: float) -> np.ndarray:
    """Return cubic B-spline weights (size, knots) for knots `period` apart."""
    place = np.arange(size) / period
    knots = np.arange(int(np.ceil(size / period)) + 3) - 1
    gap = np.abs(place[:, None] - knots)
    weights = np.where(gap < 1, 2 / 3 - gap**2 + gap**3 / 2, np.clip(2 - gap, 0, None) ** 3 / 6)
    return weights.astype(np.float32)

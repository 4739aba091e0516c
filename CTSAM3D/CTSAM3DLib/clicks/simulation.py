"""Simulated clicks: where a user who knows the truth would click next (paper, "Evaluation").

The rule follows RITM (Sofiiuk et al., 2022): click the middle of the deepest error. Training draws near that middle, so
that the network also meets clicks that are not quite central. `training.evaluation.click_protocol` says what is scored.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import edt
import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.imaging.geometry import Geometry, filled_box
from CTSAM3DLib.imaging.volume import Volume

Voxel = tuple[int, int, int]
"""z, y, x."""


class WithMask(Protocol):
    """An answer to clicks."""

    @property
    def mask(self) -> Volume:
        """The mask, 0 or 1, on the CT's own grid."""


AnswerT = TypeVar("AnswerT", bound=WithMask, covariant=True)


class Clickable(Protocol[AnswerT]):
    """One CT, opened by a method that answers clicks."""

    @property
    def geometry(self) -> Geometry:
        """The CT's own grid."""

    def segment(self, clicks: Sequence[Click], /) -> AnswerT:
        """The mask of these clicks, in their order. Raises ClickError."""


def first_click(truth: NDArray[np.bool_], rng: np.random.Generator) -> Voxel:
    """Return a voxel (z, y, x) drawn uniformly from the foreground of `truth`.

    Raises:
        ValueError: `truth` has no foreground.

    """
    foreground = np.flatnonzero(truth)
    if foreground.size == 0:
        raise ValueError("The structure is empty in this patch; draw a patch that contains it.")
    return _voxel(int(rng.choice(foreground)), truth.shape)


def next_click(
    truth: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    rng: np.random.Generator,
    spacing: float | tuple[float, float, float] = 1.0,
    jitter: float = 0.0,
) -> tuple[Voxel, bool] | None:
    """Return the next click as ((z, y, x), positive), or None when the prediction is right everywhere.

    False negatives and false positives are measured apart by their distance to the nearest voxel that is not in
    their set, the outside of the array included; the deeper set is clicked, false negatives at a draw.

    Args:
        truth, prediction: bool, (z, y, x).
        rng: used only when `jitter` is above 0.
        spacing: voxel size, one number or (z, y, x); its unit does not matter.
        jitter: 0 takes the deepest voxel (the first in array order among equals); above 0 draws uniformly among the
            voxels deeper than (1 - jitter) of the maximum.

    Raises:
        ValueError: the shapes differ.

    """
    if truth.shape != prediction.shape:
        raise ValueError(f"Truth {truth.shape} and prediction {prediction.shape} must have the same shape.")
    missed, missed_start = _depth(truth & ~prediction, spacing)
    excess, excess_start = _depth(prediction & ~truth, spacing)
    positive = bool(missed.max(initial=0.0) >= excess.max(initial=0.0))
    depth, start = (missed, missed_start) if positive else (excess, excess_start)
    if depth.size == 0:
        return None
    index = int(depth.argmax())
    if jitter > 0:
        index = int(rng.choice(np.flatnonzero(depth > (1.0 - jitter) * depth.max())))
    z, y, x = _voxel(index, depth.shape)
    return (z + start[0], y + start[1], x + start[2]), positive


def simulate(
    opened: Clickable[AnswerT], truth: NDArray[np.bool_], first: Voxel, clicks: int
) -> Iterator[tuple[AnswerT, float, float]]:
    """Click at a structure (z, y, x on the CT's grid), from its voxel `first` on, until no error is left.

    Yields the answer, its Dice and its seconds after each of at most `clicks` clicks.
    """
    geometry = opened.geometry
    rng = np.random.default_rng(0)  # not drawn from, since every further click is the deepest voxel of the error
    placed: list[Click] = []
    error: tuple[Voxel, bool] | None = (first, True)
    while error is not None and len(placed) < clicks:
        position, positive = error
        placed.append(Click(tuple(geometry.to_lps(position[::-1])), positive))
        begun = time.perf_counter()
        answer = opened.segment(placed)
        mask = np.asarray(answer.mask.array, bool)
        seconds = time.perf_counter() - begun
        yield answer, dice(truth, mask), seconds
        error = next_click(truth, mask, rng, spacing=geometry.spacing[::-1])


def dice(truth: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    """Dice similarity coefficient of two masks of the same shape; 1 where both are empty."""
    total = int(np.count_nonzero(truth)) + int(np.count_nonzero(mask))
    return 2 * int(np.count_nonzero(truth & mask)) / total if total else 1.0


def _depth(mask: NDArray[np.bool_], spacing: float | tuple[float, float, float]) -> tuple[NDArray[np.float32], Voxel]:
    """Return the distance map of `mask` cropped to its bounding box, and the first voxel of that box.

    Everything just outside the box lies outside the set, so cropping changes no distance.
    """
    z, y, x = filled_box(mask)
    if z.start == z.stop:
        return np.zeros((0, 0, 0), np.float32), (0, 0, 0)
    box = np.ascontiguousarray(mask[z, y, x])
    anisotropy = (spacing,) * 3 if isinstance(spacing, (int, float)) else spacing
    return edt.edt(box, anisotropy=anisotropy, black_border=True, parallel=1), (z.start, y.start, x.start)


def _voxel(index: int, shape: tuple[int, ...]) -> Voxel:
    z, y, x = np.unravel_index(index, shape)
    return int(z), int(y), int(x)

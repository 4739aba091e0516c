"""Prompting of systems that do not take clicks in a whole CT, by the paper's protocol.

A count of clicks N means N clicks **in each axial slice** to a two-dimensional system, for which the simulated user
knows in which slices the structure is; it clicks nowhere else. To an automatic system N means nothing: it is asked
once, and its scores stand at every N.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.clicks.simulation import Voxel, dice, first_click, next_click
from CTSAM3DLib.imaging.geometry import Geometry
from training.evaluation.baselines import BaselineAnswer

Prompting = Literal["volume", "slice", "none"]
"""What the clicks of a count lie in."""
_FAR_MM = 1e6


@runtime_checkable
class Prompted(Protocol):
    """An opened CT of a system with its own kind of prompting."""

    @property
    def geometry(self) -> Geometry:
        """The CT's own grid."""

    @property
    def prompting(self) -> Prompting:
        """What the clicks of a count lie in."""

    @property
    def slice_axis(self) -> int:
        """The axis of the CT's array (z, y, x) along which axial slices follow one another."""

    def segment(self, clicks: list[Click], /) -> BaselineAnswer:
        """The mask of these clicks, in their order."""

    def structure(self, name: str) -> Prompted | None:
        """The CT with this structure as the target; None where the system has no label for it."""


def answer_once(opened: Prompted, truth: NDArray[np.bool_]) -> Iterator[tuple[BaselineAnswer, float, float]]:
    """Yield the single result of an automatic system, its Dice and its seconds."""
    begun = time.perf_counter()
    answer = opened.segment([])
    mask = np.asarray(answer.mask.array, bool)
    seconds = time.perf_counter() - begun
    yield answer, dice(truth, mask), seconds


def simulate_by_slice(
    opened: Prompted, truth: NDArray[np.bool_], rng: np.random.Generator, clicks: int
) -> Iterator[tuple[BaselineAnswer, float, float]]:
    """Click a structure (z, y, x on the CT's grid) in each of its axial slices until no error is left there.

    Yields the answer, the Dice of the whole structure and the seconds of all slices after each of at most `clicks`
    rounds. The first click of a slice is drawn from the structure in it, the next one is the deepest in-plane error.
    """
    axis = opened.slice_axis
    spacing = list(opened.geometry.spacing[::-1])
    spacing[axis] = _FAR_MM  # so that depth is measured within the slice

    def plane(mask: NDArray[np.bool_], index: int) -> NDArray[np.bool_]:
        return np.take(mask, [index], axis)

    def click(index: int, voxel: Voxel, positive: bool) -> Click:
        z, y, x = (index if of_axis == axis else n for of_axis, n in enumerate(voxel))
        return Click(tuple(opened.geometry.to_lps((x, y, z))), positive)

    others = tuple(other for other in range(3) if other != axis)
    errors = {
        index: (first_click(plane(truth, index), rng), True) for index in np.flatnonzero(truth.any(others)).tolist()
    }
    placed: list[Click] = []
    for _ in range(clicks):
        placed += [click(index, *error) for index, error in errors.items()]
        begun = time.perf_counter()
        answer = opened.segment(placed)
        mask = np.asarray(answer.mask.array, bool)
        seconds = time.perf_counter() - begun
        yield answer, dice(truth, mask), seconds
        following = {
            index: next_click(plane(truth, index), plane(mask, index), rng, (spacing[0], spacing[1], spacing[2]))
            for index in errors
        }
        errors = {index: error for index, error in following.items() if error is not None}
        if not errors:
            return

"""How far numbers are from those expected, relative to the scale of what is compared.

Rounding grows with the numbers that are summed, and each processor sums in an order of its own: an error of so many
ten-thousandths of the largest number expected means the same for a probability and for features of any size.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike


def off(given: ArrayLike | torch.Tensor, expected: ArrayLike | torch.Tensor, scale: float | None = None) -> float:
    """The largest difference as a share of the scale; shapes have to be the same.

    The scale is the largest magnitude that is expected, unless it is known: 1 for a single probability or Dice.

    Infinite where nothing but zeros is expected and something else is given, and where a number is not finite.
    """
    found, right = (_float64(values) for values in (given, expected))
    assert found.shape == right.shape, f"the shape is {found.shape}, not {right.shape}"
    difference = float(np.abs(found - right).max(initial=0.0))
    if scale is None:
        scale = float(np.abs(right).max(initial=0.0))
    if difference == 0:
        return 0.0
    return difference / scale if np.isfinite(difference) and scale > 0 else np.inf


def _float64(values: ArrayLike | torch.Tensor) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().double().numpy()
    return np.asarray(values, np.float64)

"""The colours of labels, the same in pictures and in Slicer."""

from __future__ import annotations

import colorsys
from functools import cache

import numpy as np

from training import anatomy
from training.curation.merge import MUSCLE, SUBCUTANEOUS_FAT, VISCERAL_FAT

Color = tuple[float, float, float]

TISSUES: dict[int, Color] = {
    MUSCLE: (0.78, 0.26, 0.24),
    VISCERAL_FAT: (0.95, 0.62, 0.20),
    SUBCUTANEOUS_FAT: (0.96, 0.88, 0.50),
}
DOUBT: Color = (1.0, 0.1, 0.9)
_GOLDEN_RATIO = 0.618


def color_of(value: int) -> Color:
    """Red, green, blue from 0 to 1; own labels are greens to purples, which no tissue has, neighbours far apart."""
    if value in TISSUES:
        return TISSUES[value]
    hue = 0.28 + 0.52 * (value * _GOLDEN_RATIO % 1)
    return colorsys.hsv_to_rgb(hue, 0.45 + 0.35 * (value % 3) / 2, 0.95 - 0.25 * (value % 2))


@cache
def color_table() -> np.ndarray:
    """Red, green, blue (float, 256 x 3) of every value of a label map; black for what is no label."""
    table = np.zeros((256, 3))
    for value in anatomy.EXTENDED:
        table[value] = color_of(value)
    return table

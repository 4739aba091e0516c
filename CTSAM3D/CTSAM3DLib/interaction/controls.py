"""What the front ends have in common: the texts of choices, and what counts as a click of the mouse."""

from __future__ import annotations

from CTSAM3DLib.segmentation.growth import Reach

REACH_LABELS: dict[Reach, str] = {
    "structure": "Whole structure",
    "neighbours": "Patch and its neighbours",
    "patch": "Patch around the click",
}
"""What users read for each reach, in the order of the choice: the widest, which is the default, comes first."""

STEADY_PIXELS = 4
"""Between press and release of a click the mouse may move this far along each axis; beyond that it is a drag."""
INWARDS_MM = 1.0
"""A click on a surface is put this far inside of it along the line of sight: on the surface itself it would lie
between inside and outside."""

"""Tissues by rules of Hounsfield units and anatomy: no licence, no network, no download.

The labels that a case already has tell where the wall of the trunk runs. What is inside the wall is found slice by
slice, by closing all that is dense; fat outside of it is subcutaneous, fat inside visceral. Dense tissue that nobody
labelled is muscle where labelled muscles, ribs or the border of the wall are nearer than any organ or the spine. All
that rests on organs being labelled as TotalSegmentator labels them: a brain without a label is taken for muscle.
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import edt
import numpy as np

from CTSAM3DLib.imaging.geometry import filled_box
from CTSAM3DLib.imaging.volume import Volume
from training import anatomy
from training.curation.body import body_of
from training.curation.merge import FAT_HU, MUSCLE_HU
from training.curation.regions import distance_to, without_dust

SKIN_MM = 2.0
"""mm. Depth of the skin, and depth within which soft tissue counts as skin, since no wall ends there."""
UNDER_SKIN_MM = 6.0
CLOSING_MM = 20.0
"""Half the width of gaps in the wall that are closed."""
WALL_MM = 4.5
"""Soft tissue this near to the outer side of the wall, and its outermost voxel in any case, is wall."""
MIN_CORE_ML, MIN_MUSCLE_ML, MIN_FAT_ML = 5.0, 1.0, 0.5
"""Smallest components that count."""
OF_THE_WALL = ("sternum", "costal_cartilages", "skull")
OF_THE_SPINE = ("sacrum", "spinal_cord", "vertebrae_S1")


@dataclass(frozen=True)
class RuleTissues:
    """Only as good as rules are: `docs/curation.md` has the Dice against a network's tissues."""

    made_by: str = "rules of Hounsfield units and anatomy"
    notice: str = ""

    def file_for(self, case: str) -> None:
        """None: the tissues are computed."""

    def tissues(self, case: str, ct: Volume, labels: Volume) -> Volume:
        """Return the tissue types that the rules give, labelled muscles among them."""
        spacing = ct.geometry.spacing[::-1]
        body = body_of(ct.array, labels.array, spacing)
        box = filled_box(body)
        found = np.zeros(ct.array.shape, np.uint8)
        if body.any():
            found[box] = _Trunk(ct.array[box], labels.array[box], body[box], spacing).tissues()
        return Volume(found, ct.geometry, case)


class _Trunk:
    """The box around the body; all arrays are (z, y, x), the spacing in mm too."""

    def __init__(self, hu: np.ndarray, labels: np.ndarray, body: np.ndarray, spacing: tuple[float, ...]) -> None:
        self._hu, self._spacing = hu, spacing
        self._body = body
        self._depth = self._inside(body)
        self._kind = _kinds()[labels]

    def tissues(self) -> np.ndarray:
        fat = self._body & (self._hu >= FAT_HU[0]) & (self._hu <= FAT_HU[1])
        soft = self._body & (self._hu > FAT_HU[1])
        inner = self._within_the_wall(soft)
        below_skin = self._depth - min(self._spacing[1:]) / 2 > SKIN_MM
        found = np.zeros(self._hu.shape, np.uint8)
        found[without_dust(fat & inner & (self._kind == 0), MIN_FAT_ML, self._spacing)] = 2
        found[fat & ~inner & below_skin] = 1
        found[self._muscle(soft, inner)] = 3
        return found

    def _within_the_wall(self, soft: np.ndarray) -> np.ndarray:
        """What the wall of the trunk holds, the wall among it: dense tissue and labels, closed in each slice."""
        core = without_dust((soft & (self._depth > UNDER_SKIN_MM)) | (self._kind > 0), MIN_CORE_ML, self._spacing)
        return core | np.stack([self._closed(plane) for plane in core])

    def _closed(self, plane: np.ndarray) -> np.ndarray:
        """A slice closed by a disc, its holes filled; by distances, since a disc of so many voxels is slow."""
        if not plane.any():
            return plane
        step = self._spacing[1:]
        margin = int(CLOSING_MM / min(step)) + 2
        grown = edt.edt(~np.pad(plane, margin), anisotropy=step) <= CLOSING_MM
        outside = cc3d.connected_components(~grown, connectivity=4)
        filled = outside != outside[0, 0]
        return (edt.edt(filled, anisotropy=step) > CLOSING_MM)[margin:-margin, margin:-margin]

    def _muscle(self, soft: np.ndarray, inner: np.ndarray) -> np.ndarray:
        free = self._kind == 0
        border = soft & free & (self._inside(inner) <= max(WALL_MM, *self._spacing[1:]))
        wall = (self._kind == _WALL) | (self._kind == _MUSCLE) | border
        others = (self._kind == _ORGAN) | (self._kind == _SPINE)
        nearer = distance_to(wall, self._spacing) < distance_to(others, self._spacing)
        unlabelled = free & inner & nearer & (self._hu >= MUSCLE_HU[0]) & (self._hu <= MUSCLE_HU[1])
        return without_dust(unlabelled | (self._kind == _MUSCLE), MIN_MUSCLE_ML, self._spacing)

    def _inside(self, mask: np.ndarray) -> np.ndarray:
        """The mm from every voxel to the surface of the mask, which the first and last slice of the CT are not."""
        return edt.edt(np.pad(mask, ((0, 0), (1, 1), (1, 1))), anisotropy=self._spacing)[:, 1:-1, 1:-1]


_ORGAN, _WALL, _SPINE, _MUSCLE = 1, 2, 3, 4


def _kinds() -> np.ndarray:
    """The kind of tissue of every value of `anatomy.EXTENDED`; 0 for unlabelled."""
    kinds = np.zeros(256, np.uint8)
    for value, name in anatomy.EXTENDED.items():
        group = anatomy.group_of(name)
        if group == "Vertebrae" or name in OF_THE_SPINE:
            kinds[value] = _SPINE
        elif group == "Muscles":
            kinds[value] = _MUSCLE
        elif group in ("Ribs", "Other bones") or name in OF_THE_WALL:
            kinds[value] = _WALL
        else:
            kinds[value] = _ORGAN
    return kinds

"""Fill thorax and abdomen between the structures of an atlas: lungs, mediastinum, bowel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, maximum_filter

from training.data.label_canvas import LabelCanvas, Mask

DOME_MM, DOME_RADIUS_MM = 70.0, 105.0
"""mm. Height of a dome of the diaphragm above its edge, and its radius."""


@dataclass(frozen=True)
class Trunk:
    """The cavity of the trunk, bool (z, y, x), and the x voxel of its middle."""

    cavity: Mask
    middle: float

    @classmethod
    def of(cls, canvas: LabelCanvas, hull: Mask, shell: Mask, spine: Mask, wall: float) -> Trunk:
        """The cavity: deeper in the hull than `wall` mm, and in front of ribs, pelvis (the shell) and spine."""
        middle = float(np.mean(np.nonzero(spine)[2]))
        size = shell.shape[1]
        backmost = (size - 1 - shell[:, ::-1].argmax(axis=1)).astype(np.float32)
        # Ribs slope: behind the front end of one lies, a little higher or lower, the back of another.
        backmost = np.where(shell.any(axis=1), backmost, -1)
        backmost = maximum_filter(backmost, (round(45 / canvas.spacing), round(9 / canvas.spacing)))
        known = (backmost >= 0) & np.asarray(hull.any(axis=1))
        limit = canvas.across(backmost, known, 10) - 7 / canvas.spacing
        there = np.flatnonzero(spine.any(axis=(1, 2)))
        of_spine = [np.nonzero(spine[z])[0] for z in there]
        fronts = np.interp(np.arange(len(spine)), there, [np.percentile(y, 35) for y in of_spine])
        before_spine = gaussian_filter1d(fronts, 20 / canvas.spacing, mode="nearest")
        y, x = np.ogrid[:size, : shell.shape[2]]
        beside = abs(x[0] - middle) * canvas.spacing < 32
        limit = np.where(beside, np.minimum(limit, before_spine[:, None]), limit)
        cavity = canvas.smoothed((canvas.depth(hull) > wall) & (y < limit[:, None, :]), 7) & (canvas.depth(hull) > wall)
        return cls(cavity, middle)

    def floor_over(self, canvas: LabelCanvas, organs: Mask) -> NDArray[np.float32]:
        """For each (y, x) the z voxel above which no abdominal organ lies."""
        top = (len(organs) - 1 - organs[::-1].argmax(axis=0)).astype(np.float32)
        return canvas.across(top, np.asarray(organs.any(axis=0)), 9) + 3 / canvas.spacing

    def dome(self, canvas: LabelCanvas, height: float) -> NDArray[np.float32]:
        """A diaphragm whose two domes reach somewhat above `height` (voxel along z), the right one higher."""
        depth, width = self.cavity.shape[1:]
        y, x = np.ogrid[:depth, :width]
        centre = float(np.mean(np.nonzero(self.cavity[round(height)])[0]))
        floor = np.full((depth, width), -np.inf, np.float32)
        for side, rise in ((-1, 28), (1, 14)):
            far = ((y - centre) ** 2 + (x - self.middle - side * 60 / canvas.spacing) ** 2) * canvas.spacing**2
            floor = np.maximum(floor, height + (rise - DOME_MM * far / DOME_RADIUS_MM**2) / canvas.spacing)
        return floor.astype(np.float32)

    def lowest_in_front(self, canvas: LabelCanvas, ribs: Mask) -> float:
        """The height of the lower end of the sternum: of the frontmost bone in the middle."""
        near = slice(round(self.middle - 12 / canvas.spacing), round(self.middle + 12 / canvas.spacing))
        y = np.nonzero(ribs)[1]
        front = ribs[:, : round(0.5 * (y.min() + y.max())), near]
        found = np.flatnonzero(front.any(axis=(1, 2)))
        return float(found[0]) if found.size else float(np.mean(np.nonzero(ribs)[0]))

    def give_lungs(self, canvas: LabelCanvas, floor: NDArray[np.float32]) -> None:
        """Lungs above the floor on both sides of a mediastinum of fat and vessels."""
        z = np.arange(len(self.cavity))[:, None, None]
        x = np.arange(self.cavity.shape[2])
        thorax = self.cavity & (z > floor)
        aside = abs(x - self.middle) * canvas.spacing > 26
        organs = canvas.mask(
            "heart*", "aorta", "*vena_cava", "thymus", "*pulmonary*", "trachea", "*bronchus", "*subclavian*"
        )
        lungs = canvas.smoothed(
            thorax & aside & ~canvas.near(organs | canvas.mask("filler_heart", "filler_blood"), 4), 5
        )
        canvas.paint("filler_lung", lungs & thorax)
        canvas.paint("filler_fat", thorax)

    def give_viscera(self, canvas: LabelCanvas, floor: NDArray[np.float32]) -> None:
        """Bowel and mesentery below the floor, but for the muscles beside the spine."""
        z = np.arange(len(self.cavity))[:, None, None]
        canvas.paint("filler_viscera", self.cavity & (z <= floor))


def give_diaphragm_organs(canvas: LabelCanvas, trunk: Trunk, sternum: float) -> None:
    """Heart, lungs, liver and spleen, and bowel in a trunk that has none; `sternum` is where it ends (a voxel)."""
    floor = trunk.dome(canvas, sternum)
    z, y, x = np.ogrid[tuple(slice(size) for size in trunk.cavity.shape)]
    level = np.nonzero(trunk.cavity[round(sternum)])[0]
    front, back = float(level.min()), float(level.max())

    def ball(right: float, forward: float, up: float, radii: tuple[float, float, float]) -> Mask:
        """An ellipsoid: mm right of the middle; share of the depth, from the back; mm above the sternum's end."""
        centre = (sternum + up / canvas.spacing, back + forward * (front - back), trunk.middle - right / canvas.spacing)
        away = sum(
            ((axis - middle) * canvas.spacing / radius) ** 2
            for axis, middle, radius in zip((z, y, x), centre, radii, strict=True)
        )
        return np.asarray(away < 1)

    above = z > floor
    canvas.paint("filler_heart", trunk.cavity & ball(-18, 0.68, 42, (46, 42, 52)) & (z > floor - 2))
    trunk.give_lungs(canvas, floor)
    deep = trunk.cavity & ~above
    canvas.paint("filler_liver", deep & ball(70, 0.5, -25, (85, 85, 80)))
    canvas.paint("filler_liver", deep & ball(10, 0.75, -15, (45, 40, 75)))
    canvas.paint("filler_spleen", deep & ball(-95, 0.25, -25, (55, 40, 25)))
    trunk.give_viscera(canvas, floor)

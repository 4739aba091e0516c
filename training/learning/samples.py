"""The sampler: which structure of which patient, with spatial and appearance augmentation.

The host draws a case by region, a structure by class and size, a pose and a look, from a random generator for each
step, so that a resumed run draws the same samples. The device reads and augments the patches, (batch, 64, 64, 64) in
z, y, x.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from training.learning.looks import AIR_HU, Look, LookRange, changed
from training.learning.painting import Paint
from training.learning.poses import PATCH, Pose, PoseRange, voxelwise
from training.learning.resident import Resident, Structure

SMALL_VOXELS = 1500.0
"""Voxels. Structures with fewer voxels are sampled more often."""


@dataclass(frozen=True)
class Placement:
    """The draws of one patch.

    Attributes:
        structure: the target; its voxels are the ground truth.
        pose: spatial augmentation of its patient.
        start: first voxel of the patch in the pose, (3,).
        points: the coarse grid of the patch in the case, from `Pose.points`.
        look: appearance augmentation.
        paint: how the CT of an atlas is synthesised; None for a case with a CT.

    """

    structure: Structure
    pose: Pose
    start: NDArray[np.int64]
    points: NDArray[np.float32]
    look: Look
    paint: Paint | None

    def moved(self, offset: NDArray[np.int64]) -> Placement:
        """Another patch of the same patient, pose and look, shifted by `offset` voxels (z, y, x)."""
        start = self.start + offset
        return replace(self, start=start, points=self.pose.points(start))


@dataclass(frozen=True)
class Patches:
    """Patches of a batch on the device.

    Attributes:
        hu: float32 (b, 64, 64, 64).
        labels: uint8 (b, 64, 64, 64), label values of each patch's case. cases: int64 (b,), indices of the cases.
        truth: bool (b, 64, 64, 64), the target structure.

    """

    hu: Tensor
    labels: Tensor
    cases: Tensor
    truth: Tensor


class Drawing:
    """Samples structures by fixed weights.

    A region is drawn by its weight, a case in the region by the square root of its number of structures, and a
    structure so that classes come about equally often; small structures, and structures cut by the scan, come more
    often.
    """

    def __init__(self, resident: Resident, region_shares: Mapping[str, float]) -> None:
        """Raises ValueError where weights and the regions of the cases do not match."""
        regions = {case.region for case in resident.cases}
        if odd := sorted(regions ^ region_shares.keys()):
            raise ValueError(
                f"The shares of regions do not fit the data's: {', '.join(odd)}; give each region a share."
            )
        self._resident = resident
        self._labels = _weighted(resident, resident.structures, region_shares)
        self._pieces = _weighted(resident, resident.pieces_structures, region_shares)

    def structure(self, rng: np.random.Generator, of_pieces: bool = False) -> Structure:
        """Draw a structure, or a supervoxel."""
        structures, cumulative = self._pieces if of_pieces else self._labels
        return structures[int(np.searchsorted(cumulative, rng.random(), side="right"))]

    def placement(
        self, structure: Structure, rng: np.random.Generator, stray: int, poses: PoseRange, looks: LookRange
    ) -> Placement:
        """Draw a patch around a voxel of the structure, with a centre jitter of up to `stray` voxels on each axis."""
        case = self._resident.cases[structure.case]
        anchor = np.unravel_index(int(structure.anchors[rng.integers(len(structure.anchors))]), case.labels.shape)
        pose = Pose.random(np.array(anchor, float), rng, poses)
        start = rng.integers(-stray, stray + 1, size=3) - PATCH // 2
        look = Look.random(rng, looks, self._resident.contrast[structure.case], PATCH)
        palette = self._resident.palettes[structure.case]
        paint = None if palette is None else Paint.random(rng, palette)
        return Placement(structure, pose, start, pose.points(start), look, paint)


def read(resident: Resident, placements: Sequence[Placement], generator: torch.Generator) -> Patches:
    """Read the patches on the device, without synchronising with it."""
    device = resident.weight.device

    def there(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(device, non_blocking=True)

    cases = there(np.array([placement.structure.case for placement in placements]))
    where = voxelwise(there(np.stack([placement.points for placement in placements])))
    sizes = resident.shapes.index_select(0, cases)[..., None, None, None]
    inside = ((where > -0.5) & (where < sizes - 0.5)).all(dim=1)
    where = torch.minimum(where.clamp(min=0), sizes - 1)

    z, y, x = where.round().long().unbind(1)
    _, height, width = sizes.long().unbind(1)
    index = (z * height + y) * width + x + resident.starts.index_select(0, cases)[:, None, None, None]
    labels, pieces = (numbers[index] * inside for numbers in (resident.labels, resident.pieces))
    hu = _interpolated(resident, cases, where) * inside + AIR_HU
    for number, placement in enumerate(placements):
        if placement.paint is not None:
            hu[number] = placement.paint.of(labels[number], generator)
    values = there(np.array([placement.structure.value for placement in placements]))[:, None, None, None]
    of_pieces = there(np.array([placement.structure.of_pieces for placement in placements]))[:, None, None, None]
    truth = torch.where(of_pieces, pieces.long(), labels.long()) == values
    hu, kept = changed(hu, labels, pieces, [placement.look for placement in placements], generator)
    return Patches(hu, labels * kept, cases, truth & kept)


def _interpolated(resident: Resident, cases: Tensor, where: Tensor) -> Tensor:
    """HU above air at voxels (b, 3, 64, 64, 64) of cases (b,), by one `grid_sample` in the stack of all CTs."""
    z, y, x = where.unbind(1)
    z = z + resident.floors.index_select(0, cases)[:, None, None, None]
    _, _, depth, height, width = resident.hu.shape
    unit = [2 * axis / max(size - 1, 1) - 1 for axis, size in ((x, width), (y, height), (z, depth))]
    stack = resident.hu.expand(len(cases), -1, -1, -1, -1)  # by batch, since a processor shares out no more than that
    return F.grid_sample(stack, torch.stack(unit, dim=-1), "bilinear", "border", align_corners=True)[:, 0]


def scaled(hu: Tensor, window: tuple[float, float]) -> Tensor:
    """Scale HU (b, 64, 64, 64) to the network's input (b, 1, 64, 64, 64), 0..1 over the window."""
    low, high = window
    image = (hu.clamp(low, high) - low) / (high - low)
    return image[:, None].contiguous(memory_format=torch.channels_last_3d)


def _weighted(
    resident: Resident, structures: Sequence[Structure], region_shares: Mapping[str, float]
) -> tuple[Sequence[Structure], NDArray[np.float64]]:
    """The structures and their cumulative probabilities."""
    of_case: dict[int, list[int]] = {}
    for index, structure in enumerate(structures):
        of_case.setdefault(structure.case, []).append(index)
    regions = {case: resident.cases[case].region for case in of_case}
    total = sum(region_shares[region] for region in set(regions.values()))
    common = Counter((regions[each.case], each.kinds) for each in structures)
    weights = np.zeros(len(structures))
    for region in set(regions.values()):
        cases = {case: len(found) ** 0.5 for case, found in of_case.items() if regions[case] == region}
        for case, share in cases.items():
            found = [structures[index] for index in of_case[case]]
            own = np.array([_weight(each, common[region, each.kinds]) for each in found])
            weights[of_case[case]] = own / own.sum() * share / sum(cases.values()) * region_shares[region] / total
    cumulative = weights.cumsum()
    return structures, np.append(cumulative[:-1] / cumulative[-1], 1.0) if len(cumulative) else cumulative


def _weight(structure: Structure, same_class: int) -> float:
    """Sampling weight of a structure in its case; `same_class` structures of its classes are in the region."""
    smallness = min(max(SMALL_VOXELS / structure.voxels, 0.25), 4.0) ** 0.25
    return smallness * (1.2 if structure.cut else 1.0) / max(same_class, 1) ** 0.5

"""Samples made on the device: which structure of which patient, laid how, looking how.

The host draws (a case by region, a structure by kind and size, a pose, a look), by a generator for each step, so that a
run that goes on meets the samples that would have come. The device reads and changes the patches. Patches are
(batch, 64, 64, 64) in z, y, x.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.learning.looks import AIR_HU, Look, LookRange
from training.learning.poses import PATCH, Pose, PoseRange, read_linearly, read_nearest, voxelwise
from training.learning.resident import Resident, Structure

SMALL_VOXELS = 1500.0
"""Structures of fewer voxels are drawn more often, as far as twice."""


@dataclass(frozen=True)
class Placement:
    """One patch as it was drawn: a structure, the pose of its patient, the first voxel of the patch, and its look."""

    structure: Structure
    pose: Pose
    start: NDArray[np.int64]
    look: Look


@dataclass(frozen=True)
class Patches:
    """Patches of a batch on the device.

    Attributes:
        hu: float32 (b, 64, 64, 64).
        labels: uint8, of each one's case. cases: int64 (b,), which.
        truth: bool, the structure that was drawn.

    """

    hu: Tensor
    labels: Tensor
    cases: Tensor
    truth: Tensor


class Drawing:
    """Draws structures in fixed shares.

    A region is drawn by its share, a case within it by the root of its number of structures, a structure so that kinds
    come about equally often wherever their region shows them; small and thin ones, and those cut by the scan, more.
    """

    def __init__(self, resident: Resident, region_shares: Mapping[str, float]) -> None:
        """Raises ValueError for a share of a region that no case is of, and for cases of a region without a share."""
        regions = {case.region for case in resident.cases}
        if odd := sorted(regions ^ region_shares.keys()):
            raise ValueError(f"The shares of regions do not fit the data's: {', '.join(odd)}; give each region a share.")
        self._resident = resident
        self._labels = _weighted(resident, resident.structures, region_shares)
        self._pieces = _weighted(resident, resident.pieces_structures, region_shares)

    def structure(self, rng: np.random.Generator, of_pieces: bool = False) -> Structure:
        """A structure, or a supervoxel."""
        structures, cumulative = self._pieces if of_pieces else self._labels
        return structures[int(np.searchsorted(cumulative, rng.random(), side="right"))]

    def placement(
        self, structure: Structure, rng: np.random.Generator, stray: int, poses: PoseRange, looks: LookRange
    ) -> Placement:
        """A patch around a voxel of the structure, whose centre strays from it by up to `stray` voxels on each axis."""
        case = self._resident.cases[structure.case]
        anchor = np.unravel_index(int(structure.anchors[rng.integers(len(structure.anchors))]), case.labels.shape)
        pose = Pose.random(np.array(anchor, float), rng, poses)
        start = rng.integers(-stray, stray + 1, size=3) - PATCH // 2
        look = Look.random(rng, looks, self._resident.contrast[structure.case], PATCH)
        return Placement(structure, pose, start, look)


def moved(placement: Placement, offset: NDArray[np.int64]) -> Placement:
    """Another patch of the same patient in the same pose and look, its first voxel so many voxels on."""
    return Placement(placement.structure, placement.pose, placement.start + offset, placement.look)


def read(resident: Resident, placements: Sequence[Placement], generator: torch.Generator) -> Patches:
    """The patches on the resident's device; nothing waits for it."""
    device = resident.weight.device
    points = torch.from_numpy(np.stack([each.pose.points(each.start) for each in placements]))
    where = voxelwise(points.to(device, non_blocking=True))
    images, maps, truths = [], [], []
    for place, placement in zip(where, placements, strict=True):
        case = placement.structure.case
        labels = read_nearest(resident.labels[case], place)
        of_pieces = resident.pieces[case]
        pieces = None if of_pieces is None else read_nearest(of_pieces, place)
        volume = resident.hu[case]
        assert volume is not None
        hu = read_linearly(volume, place) + AIR_HU
        kept = placement.look.kept(hu)
        shown = pieces if placement.structure.of_pieces else labels
        assert shown is not None  # a supervoxel is only drawn where there are some
        images.append(placement.look.of(hu, labels, pieces, generator))
        maps.append(labels * kept)
        truths.append((shown == placement.structure.value) & kept)
    cases = torch.tensor([placement.structure.case for placement in placements])
    return Patches(torch.stack(images), torch.stack(maps), cases.to(device, non_blocking=True), torch.stack(truths))


def scaled(hu: Tensor, window: tuple[float, float]) -> Tensor:
    """HU (b, 64, 64, 64) as the network sees them: (b, 1, 64, 64, 64), 0 to 1."""
    low, high = window
    image = (hu.clamp(low, high) - low) / (high - low)
    return image[:, None].contiguous(memory_format=torch.channels_last_3d)


def _weighted(
    resident: Resident, structures: Sequence[Structure], region_shares: Mapping[str, float]
) -> tuple[Sequence[Structure], NDArray[np.float64]]:
    """The structures and their cumulative probability."""
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
            own = np.array([_want(structures[index], common[region, structures[index].kinds]) for index in of_case[case]])
            weights[of_case[case]] = own / own.sum() * share / sum(cases.values()) * region_shares[region] / total
    cumulative = weights.cumsum()
    return structures, np.append(cumulative[:-1] / cumulative[-1], 1.0) if len(cumulative) else cumulative


def _want(structure: Structure, alike: int) -> float:
    """How much a structure is wanted among those of its case; `alike` are of its kinds in the region."""
    smallness = min(max(SMALL_VOXELS / structure.voxels, 0.25), 4.0) ** 0.25
    return smallness * (1.2 if structure.cut else 1.0) / max(alike, 1) ** 0.5

"""Appearance augmentation: contrast phases, noise, blur, thick slices, a table, an arm, a cut field of view.

A look is drawn on the host; the device applies looks to a batch of patches (b, 64, 64, 64), HU. Changes of HU are
smoothed across the border of a structure, and supervoxels between structures are changed likewise; otherwise artificial
edges would show the network where a structure ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

AIR_HU = -1000.0
PLATE_HU, FOAM_HU = 150.0, -700.0
"""HU of a table's plate and foam."""
FAT_HU, MUSCLE_HU, BONE_HU = -100.0, 50.0, 700.0
"""HU of an arm."""
SURELY_AIR_HU = -900.0
"""Mean HU of a cube of 8³ voxels below which no body is near."""
VALUES = 256
GRAIN_GAIN = (8 / 3) ** 1.5
"""Factor that restores the standard deviation of white noise after `smoothed`."""


@dataclass(frozen=True)
class LookRange:
    """The ranges that looks are drawn from.

    Attributes:
        recoloured: share of patches in which the HU of structures change.
        recolour_hu: standard deviation of this change for a structure and for a supervoxel, besides contrast.
        gain, shift_hu: largest change of all HU, as a factor around 1 and as an offset.
        noisy, noise_hu, grainy: share of patches with noise, its largest standard deviation, and the largest share of
            correlated noise.
        blurred, blur_voxels: share of blurred patches, and the largest standard deviation of the blur in voxels.
        thick: share of patches whose slices are two or three voxels thick.
        cut: share of patches of which a part lies outside the field of view.
        furnished: share of patches with a table or an arm in the air.

    """

    recoloured: float = 0.5
    recolour_hu: float = 22.0
    gain: float = 0.1
    shift_hu: float = 20.0
    noisy: float = 0.6
    noise_hu: float = 30.0
    grainy: float = 0.7
    blurred: float = 0.2
    blur_voxels: float = 0.8
    thick: float = 0.12
    cut: float = 0.06
    furnished: float = 0.15


@dataclass(frozen=True)
class Look:
    """A drawn look; None or 0 switches a change off.

    Attributes:
        of_labels, of_pieces: HU to add to each label value, and to each number of a supervoxel modulo 256; (256,).
        thick: (axis, voxels).
        cut: (axis, first voxel kept, first voxel not kept any more).
        table: voxel along y at which a table begins.
        arm: centre (y, x) and radius of an arm along z.

    """

    gain: float
    shift: float
    of_labels: NDArray[np.float32] | None
    of_pieces: NDArray[np.float32] | None
    noise: float
    grain: float
    blur: float
    thick: tuple[int, int] | None
    cut: tuple[int, int, int] | None
    table: int | None
    arm: tuple[int, int, float] | None

    @classmethod
    def random(cls, rng: np.random.Generator, limits: LookRange, contrast: NDArray[np.float32], size: int) -> Look:
        """Draw the look of a patch with `size` voxels along an axis.

        `contrast` (256, 2): the range of the change of HU by a contrast agent for each label value.
        """
        recoloured = rng.random() < limits.recoloured
        of_labels = of_pieces = None
        if recoloured:
            of_labels, of_pieces = rng.normal(0, limits.recolour_hu, (2, VALUES)).astype(np.float32)
            phase = np.float32(rng.random() * (rng.random() < 0.5))
            of_labels += phase * (contrast[:, 0] + (contrast[:, 1] - contrast[:, 0]) * rng.random(VALUES))
            of_labels[0] = 0
        return cls(
            gain=rng.uniform(1 - limits.gain, 1 + limits.gain),
            shift=rng.uniform(-limits.shift_hu, limits.shift_hu),
            of_labels=of_labels,
            of_pieces=of_pieces,
            noise=rng.uniform(0, limits.noise_hu) if rng.random() < limits.noisy else 0.0,
            grain=rng.uniform(0, limits.grainy),
            blur=rng.uniform(0.3, limits.blur_voxels) if rng.random() < limits.blurred else 0.0,
            thick=(int(rng.integers(3)), int(rng.integers(2, 4))) if rng.random() < limits.thick else None,
            cut=_cut(rng, size) if rng.random() < limits.cut else None,
            table=int(rng.integers(size // 2, size)) if rng.random() < limits.furnished else None,
            arm=(int(rng.integers(size)), int(rng.integers(size)), float(rng.uniform(9, 18)))
            if rng.random() < limits.furnished
            else None,
        )


def changed(
    hu: Tensor, labels: Tensor, pieces: Tensor, looks: Sequence[Look], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Apply looks to patches; returns HU, and which voxels are in the field of view, both (b, 64, 64, 64).

    Args:
        hu: float32 (b, 64, 64, 64); it is changed in place.
        labels, pieces: of any integer types, of the same shape.
        looks: one for each patch.
        generator: draws the noise, on the device.

    """
    of = partial(_those, looks, hu.device)
    if found := of(lambda look: look.of_labels is not None):
        tables = [np.stack([_table(looks[n].of_labels), _table(looks[n].of_pieces)]) for n in found.numbers]
        _change(hu, found, lambda part: _recoloured(part, found.of(labels), found.of(pieces), found.tensor(tables)))
    if found := of(lambda look: look.table is not None):
        _change(hu, found, lambda part: _with_table(part, found.tensor([looks[n].table for n in found.numbers])))
    if found := of(lambda look: look.arm is not None):
        _change(hu, found, lambda part: _with_arm(part, found.tensor([looks[n].arm for n in found.numbers])))
    if found := of(lambda look: look.blur > 0):
        _change(hu, found, lambda part: blurred(part, found.tensor([looks[n].blur for n in found.numbers])))
    for thick in sorted({look.thick for look in looks if look.thick is not None}):
        found = _Subset([number for number, look in enumerate(looks) if look.thick == thick], hu.device)
        axis, voxels = thick
        hu.index_copy_(0, found.index, in_thick_slices(found.of(hu), axis + 1, voxels))
    everything = _Subset(list(range(len(looks))), hu.device)
    gain, shift = everything.tensor([(look.gain, look.shift) for look in looks])[..., None, None, None].unbind(1)
    hu.mul_(gain).add_(shift - AIR_HU * (gain - 1))  # about air
    if found := of(lambda look: look.noise > 0):
        sizes = found.tensor([(looks[n].noise, looks[n].grain) for n in found.numbers])
        _change(hu, found, lambda part: _noisy(part, sizes, generator))
    kept = torch.ones_like(hu, dtype=torch.bool)
    for number, look in enumerate(looks):
        if look.cut is not None:
            axis, first, last = look.cut
            for begin, length in ((0, first), (last, hu.shape[axis + 1] - last)):
                hu[number].narrow(axis, begin, length).fill_(AIR_HU)
                kept[number].narrow(axis, begin, length).fill_(False)
    return hu, kept


class _Subset:
    """A subset of the patches of a batch, by index."""

    def __init__(self, numbers: list[int], device: torch.device) -> None:
        self.numbers, self._device = numbers, device
        self.index = torch.tensor(numbers).to(device, non_blocking=True)

    def __len__(self) -> int:
        return len(self.numbers)

    def of(self, batch: Tensor) -> Tensor:
        return batch.index_select(0, self.index)

    def tensor(self, values: Sequence[Any]) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float32)).to(self._device, non_blocking=True)


def _those(looks: Sequence[Look], device: torch.device, wanted: Callable[[Look], bool]) -> _Subset:
    return _Subset([number for number, look in enumerate(looks) if wanted(look)], device)


def _change(batch: Tensor, those: _Subset, change: Callable[[Tensor], Tensor]) -> None:
    batch.index_copy_(0, those.index, change(those.of(batch)))


def _recoloured(hu: Tensor, labels: Tensor, pieces: Tensor, tables: Tensor) -> Tensor:
    """`tables` (b, 2, 256): HU to add to labels and to supervoxels."""
    of_labels, of_pieces = tables.unbind(1)
    change = of_labels.gather(1, labels.flatten(1).long()).view(hu.shape)
    beside = of_pieces.gather(1, pieces.flatten(1).long() % VALUES).view(hu.shape) * (pieces > 0)
    change = torch.where(labels > 0, change, beside)
    # The HU of air inside and outside of the body do not change.
    return hu + smoothed(change) * ((hu + 950) / 150).clamp(0, 1)


def _free(hu: Tensor) -> Tensor:
    """Voxels in air with no body near."""
    near = F.avg_pool3d(hu[:, None], 8)[:, 0]
    for axis in (1, 2, 3):
        near = near.repeat_interleave(8, axis)
    return near < SURELY_AIR_HU


def _with_table(hu: Tensor, begins: Tensor) -> Tensor:
    """A padded plate below the patient from voxel y = `begins` (b,) on."""
    below = torch.arange(hu.shape[2], device=hu.device) - begins[:, None]
    plate = (below == 0)[:, None, :, None] * (PLATE_HU - FOAM_HU) + FOAM_HU
    return torch.where(_free(hu) & ((below >= 0) & (below < 6))[:, None, :, None], plate, hu)


def _with_arm(hu: Tensor, arms: Tensor) -> Tensor:
    """An arm along z; `arms` (b, 3) has its centre y, x and its radius."""
    y, x, radius = arms[..., None, None].unbind(1)
    along = torch.arange(hu.shape[-1], device=hu.device)
    distance = ((along[:, None] - y).square() + (along - x).square()).sqrt()
    limb = (
        MUSCLE_HU + (distance > 0.8 * radius) * (FAT_HU - MUSCLE_HU) + (distance < 0.3 * radius) * (BONE_HU - MUSCLE_HU)
    )
    return torch.where(_free(hu) & (distance < radius)[:, None], limb[:, None], hu)


def _noisy(hu: Tensor, sizes: Tensor, generator: torch.Generator) -> Tensor:
    """Add noise with standard deviation and share of correlated noise `sizes` (b, 2)."""
    deviation, grain = sizes[..., None, None, None].unbind(1)
    white, common = (torch.randn(hu.shape, generator=generator, device=hu.device) for _ in range(2))
    common = smoothed(common) * GRAIN_GAIN
    return hu + deviation * ((1 - grain).sqrt() * white + grain.sqrt() * common)


def smoothed(volumes: Tensor) -> Tensor:
    """Smoothed by (1, 2, 1) / 4 along each axis; (b, z, y, x)."""
    for axis in (1, 2, 3):
        count = volumes.shape[axis] - 1
        before = torch.cat((volumes.narrow(axis, 0, 1), volumes.narrow(axis, 0, count)), dim=axis)
        after = torch.cat((volumes.narrow(axis, 1, count), volumes.narrow(axis, count, 1)), dim=axis)
        volumes = before.add_(after).mul_(0.25).add_(volumes, alpha=0.5)
    return volumes


def blurred(volumes: Tensor, deviation: Tensor) -> Tensor:
    """Gaussian blur with standard deviations (b,) of up to a voxel, by interpolation towards `smoothed`."""
    beside = torch.exp(-0.5 / deviation.square())
    return volumes.lerp(smoothed(volumes), (4 * beside / (1 + 2 * beside)).clamp(max=1)[:, None, None, None])


def in_thick_slices(volumes: Tensor, axis: int, voxels: int) -> Tensor:
    """Average each run of `voxels` voxels along an axis; voxels left over at the end stay."""
    size = volumes.shape[axis] // voxels * voxels
    whole = volumes.narrow(axis, 0, size).unflatten(axis, (-1, voxels))
    merged = whole.mean(dim=axis + 1, keepdim=True).expand_as(whole).flatten(axis, axis + 1)
    return torch.cat((merged, volumes.narrow(axis, size, volumes.shape[axis] - size)), dim=axis)


def _table(values: NDArray[np.float32] | None) -> NDArray[np.float32]:
    return np.zeros(VALUES, np.float32) if values is None else values


def _cut(rng: np.random.Generator, size: int) -> tuple[int, int, int]:
    """A field of view that ends inside the patch, on one side of any axis."""
    axis, width = int(rng.integers(3)), int(rng.integers(size // 8, size // 2))
    return (axis, width, size) if rng.random() < 0.5 else (axis, 0, size - width)

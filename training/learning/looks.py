"""How a patch looks: contrast phases, noise and blur of a scanner, thick slices, a table, an arm, a cut field of view.

A look is drawn on the host; the device changes one patch (64, 64, 64) of HU by it. Structures that are made lighter or
darker fade into their neighbours, and supervoxels between them are changed likewise: else an edge that no CT has would
tell the network where a structure ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

AIR_HU = -1000.0
SURELY_AIR_HU = -900.0
"""Mean of eight voxels cubed below which no body is near."""
VALUES = 256


@dataclass(frozen=True)
class LookRange:
    """How often and how far patches change their look.

    Attributes:
        recoloured: share of patches whose structures are made lighter or darker.
        recolour_hu: standard deviation of that change, of a structure and of a supervoxel, beside what contrast does.
        gain, shift_hu: greatest change of all HU, as a factor from 1 and as a sum.
        noisy, noise_hu, grainy: share of patches with noise, its greatest deviation, and the greatest share of it that
            neighbouring voxels have in common.
        blurred, blur_voxels: share of blurred patches and greatest deviation of the blur.
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
    """A drawn look; what is None or 0 is not done.

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
        """A look of a patch with `size` voxels along an axis.

        `contrast` (256, 2): between which HU a contrast agent changes what each label value stands for.
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

    def of(self, hu: Tensor, labels: Tensor, pieces: Tensor | None, generator: torch.Generator) -> Tensor:
        """HU (64, 64, 64) in this look; labels uint8, pieces of any integer type, all of one shape."""
        device = hu.device
        if self.of_labels is not None and self.of_pieces is not None:
            change = _looked_up(self.of_labels, labels)
            if pieces is not None:
                beside = _looked_up(self.of_pieces, pieces % VALUES) * (pieces > 0)
                change = torch.where(labels > 0, change, beside)
            # Air inside and outside of the body stays what it is.
            hu = hu + faded(change) * ((hu + 950) / 150).clamp(0, 1)
        if self.table is not None or self.arm is not None:
            hu = self._furnished(hu)
        if self.blur:
            hu = blurred(hu, self.blur)
        if self.thick is not None:
            hu = in_thick_slices(hu, *self.thick)
        hu = hu * self.gain + (self.shift + 1000 * (self.gain - 1))  # about air
        if self.noise:
            white = torch.randn(hu.shape, generator=generator, device=device)
            grain = faded(torch.randn(hu.shape, generator=generator, device=device)) * 3.3  # a deviation of about 1
            hu = hu + self.noise * ((1 - self.grain) ** 0.5 * white + self.grain**0.5 * grain)
        if self.cut is not None:
            hu = torch.where(self.kept(hu), hu, AIR_HU)
        return hu

    def kept(self, like: Tensor) -> Tensor:
        """Which voxels lie inside the field of view: bool, (64, 64, 64)."""
        inside = torch.ones_like(like, dtype=torch.bool)
        if self.cut is not None:
            axis, first, last = self.cut
            inside.narrow(axis, 0, first).fill_(False)
            inside.narrow(axis, last, inside.shape[axis] - last).fill_(False)
        return inside

    def _furnished(self, hu: Tensor) -> Tensor:
        side = hu.shape[0]
        near = F.avg_pool3d(hu[None, None], 8)[0, 0]
        free = near.repeat_interleave(8, 0).repeat_interleave(8, 1).repeat_interleave(8, 2) < SURELY_AIR_HU
        painted = hu
        if self.table is not None:
            plate = torch.full_like(hu, -700.0)
            plate[:, self.table : self.table + 1] = 150.0
            at_plate = torch.zeros_like(free)
            at_plate[:, self.table : self.table + 6] = True
            painted = torch.where(free & at_plate, plate, painted)
        if self.arm is not None:
            y, x, radius = self.arm
            along = torch.arange(side, device=hu.device)
            distance = ((along[:, None] - y) ** 2 + (along - x) ** 2).sqrt().expand_as(hu)
            limb = torch.full_like(hu, 50.0)
            limb = torch.where(distance > 0.8 * radius, -100.0, limb)
            limb = torch.where(distance < 0.3 * radius, 700.0, limb)
            painted = torch.where(free & (distance < radius), limb, painted)
        return painted


def faded(volume: Tensor) -> Tensor:
    """Smoothed by (1, 2, 1) / 4 along each axis."""
    for axis in range(3):
        first, last = volume.narrow(axis, 0, 1), volume.narrow(axis, volume.shape[axis] - 1, 1)
        before = torch.cat((first, volume.narrow(axis, 0, volume.shape[axis] - 1)), dim=axis)
        after = torch.cat((volume.narrow(axis, 1, volume.shape[axis] - 1), last), dim=axis)
        volume = (before + after).mul_(0.25).add_(volume, alpha=0.5)
    return volume


def blurred(volume: Tensor, deviation: float) -> Tensor:
    """Smoothed by a Gaussian of up to a voxel."""
    beside = float(np.exp(-0.5 / deviation**2))
    weight = beside / (1 + 2 * beside)
    return volume.lerp(faded(volume), min(weight / 0.25, 1.0))


def in_thick_slices(volume: Tensor, axis: int, voxels: int) -> Tensor:
    """Each run of so many voxels along an axis has their mean; those left over at the end stay."""
    size = volume.shape[axis] // voxels * voxels
    whole = volume.narrow(axis, 0, size).unflatten(axis, (-1, voxels))
    merged = whole.mean(dim=axis + 1, keepdim=True).expand_as(whole).flatten(axis, axis + 1)
    return torch.cat((merged, volume.narrow(axis, size, volume.shape[axis] - size)), dim=axis)


def _looked_up(table: NDArray[np.float32], numbers: Tensor) -> Tensor:
    values = torch.from_numpy(table).to(numbers.device, non_blocking=True)
    return values[numbers.long().flatten()].view(numbers.shape)


def _cut(rng: np.random.Generator, size: int) -> tuple[int, int, int]:
    """A field of view that ends inside the patch, on one side of any axis."""
    axis, width = int(rng.integers(3)), int(rng.integers(size // 8, size // 2))
    return (axis, width, size) if rng.random() < 0.5 else (axis, 0, size - width)

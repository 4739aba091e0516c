"""CT synthesis for atlases, label maps without a CT: HU of each label value, drawn for each sample, and texture.

`Palette` is made once for each case, `Paint` is drawn on the host for each sample, and the device synthesises a patch
(64, 64, 64) from its labels. HU of the classes are those of real CTs (`training.data.kind_hu`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from training.learning.looks import AIR_HU, GRAIN_GAIN, VALUES, smoothed
from training.vocabulary import group_of_kind, kinds_of

COARSE = 4
"""Voxels between the points of the smooth noise whose level sets form vessels and loops of bowel."""
NEVER = 99.0
GAS_HU = -900.0
BONES = frozenset({"Vertebrae", "Ribs", "Other bones", "Limb bones"})
BONY = frozenset({"skull", "mandible", "hyoid"})
MARROW_SHARE = 0.75
"""HU of marrow, as a share of the mean HU of a whole bone."""
VESSELS = "Cardiovascular vessels"
NATIVE_BLOOD_HU = 42.0
NATIVE_HU = {
    **dict.fromkeys(("heart_atrium", "heart_ventricle", "heart_myocardium", "atrial_appendage"), NATIVE_BLOOD_HU),
    "kidney": 32.0,
    "liver": 56.0,
    "spleen": 48.0,
    "pancreas": 40.0,
    "thyroid_gland": 90.0,
    "uterus": 45.0,
    "adrenal_gland": 25.0,
}
"""HU without contrast of classes that a contrast agent changes much; vessels have `NATIVE_BLOOD_HU`."""


@dataclass(frozen=True)
class Tissue:
    """The appearance of one label value.

    Attributes:
        kinds: classes whose mean HU it has.
        mean, deviation: HU in place of those of the classes; None for theirs.
        cortex: HU by which the outer voxels of a bone are brighter; 0 without a cortex.
        other_hu, other_above: HU where smooth noise exceeds `other_above` standard deviations.
        strand_hu, strand: HU of thin strands, and their half-width in standard deviations of the noise.
        sheets: whether strands are sheets, as between muscles, rather than threads.
        gas_above: there is gas where another noise exceeds this many standard deviations.

    """

    kinds: tuple[str, ...] = ()
    mean: float | None = None
    deviation: float | None = None
    cortex: float = 0.0
    other_hu: float = 0.0
    other_above: float = NEVER
    strand_hu: float = 0.0
    strand: float = 0.0
    sheets: bool = False
    gas_above: float = NEVER


_BONE = Tissue(cortex=200.0, other_hu=60.0, other_above=1.3)
_LUNG = Tissue(("lung_lower_lobe", "lung_upper_lobe"), strand_hu=-60.0, strand=0.3)
_MUSCLE = Tissue(("skeletal_muscle",), strand_hu=-50.0, strand=0.09, sheets=True)
_FAT = Tissue(("visceral_fat",), strand_hu=10.0, strand=0.22)
_COLON = Tissue(mean=20.0, deviation=45.0, other_hu=-60.0, other_above=1.2, gas_above=1.9)

FILLERS: dict[str, Tissue] = {
    "filler_skin": Tissue(mean=-10.0, deviation=20.0),
    "filler_soft_tissue": _MUSCLE,
    "filler_muscle_and_fat": replace(_MUSCLE, other_hu=-70.0, other_above=0.8),
    "filler_fat": _FAT,
    "filler_viscera": Tissue(
        ("visceral_fat",), other_hu=38.0, other_above=-0.25, strand_hu=10.0, strand=0.2, gas_above=2.2
    ),
    "filler_lung": _LUNG,
    "filler_air": Tissue(mean=-980.0, deviation=12.0),
    "filler_sinus": Tissue(mean=-900.0, deviation=40.0, other_hu=30.0, other_above=0.35),
    "filler_face": Tissue(
        mean=60.0,
        deviation=40.0,
        cortex=250.0,
        other_hu=-850.0,
        other_above=0.8,
        strand_hu=400.0,
        strand=0.15,
        sheets=True,
    ),
    "filler_brain": Tissue(("brain",)),
    "filler_heart": Tissue(("heart_atrium",)),
    "filler_blood": Tissue(("heart_ventricle",)),
    "filler_liver": Tissue(("liver",), strand_hu=75.0, strand=0.2),
    "filler_spleen": Tissue(("spleen",)),
    "filler_cord": Tissue(("spinal_cord",)),
    "filler_vertebra": replace(_BONE, kinds=("vertebra",)),
    "filler_rib": replace(_BONE, kinds=("rib",)),
    "filler_skull": replace(_BONE, kinds=("skull",)),
    "filler_mandible": replace(_BONE, kinds=("mandible",)),
    "filler_long_bone": replace(_BONE, kinds=("humerus",), cortex=600.0),
    "filler_bone": replace(_BONE, kinds=("vertebra", "hip")),
    "other_bones": replace(_BONE, kinds=("vertebra", "hip")),
    "label_*": _MUSCLE,
}
"""Appearance of names outside the label set, or of patterns of names."""
_ONE_BONE = {"other_bones": "filler_bone"}
"""Two names of one bone, between which there is no cortex."""

_KINDS: dict[str, Tissue] = {
    **dict.fromkeys(("femur", "tibia", "humerus", "radius", "ulna", "fibula"), replace(_BONE, cortex=450.0)),
    **dict.fromkeys(("skull", "mandible"), Tissue(cortex=150.0)),
    "hyoid": Tissue(cortex=100.0),
    "liver": Tissue(strand_hu=75.0, strand=0.2),
    "colon": _COLON,
    "small_bowel": Tissue(gas_above=2.4),
    "stomach": Tissue(deviation=20.0, gas_above=1.2),
    "duodenum": Tissue(deviation=20.0, gas_above=2.2),
    "trachea": Tissue(mean=-970.0, deviation=15.0),
    "subcutaneous_fat": Tissue(strand_hu=-30.0, strand=0.12),
}
_GROUPS: dict[str, Tissue] = {
    "Muscles": Tissue(strand_hu=-40.0, strand=0.05, sheets=True),
    **dict.fromkeys(BONES, _BONE),
}


def tissue_of(name: str) -> Tissue:
    """The appearance of a label; unknown labels look like muscle."""
    for pattern, tissue in FILLERS.items():
        if fnmatchcase(name, pattern):
            return tissue
    kinds = tuple(sorted(kinds_of(name)))
    if not kinds:
        return _MUSCLE
    looks = [_KINDS.get(kind) or _GROUPS.get(group_of_kind(kind)) or Tissue() for kind in kinds]
    # A name of several classes takes the most conspicuous appearance: gas of bowel, cortex of bone.
    shows = max(looks, key=lambda look: (look.cortex, -look.gas_above, -look.other_above))
    return replace(shows, kinds=kinds if len(kinds) < 6 else kinds[:1])


@dataclass(frozen=True)
class Palette:
    """The appearance of all label values of one case, as tables of 256 rows."""

    tissues: Mapping[int, Tissue]
    solid: NDArray[np.float32]
    """Number of the bone of each value; 0 for values that are no bone."""
    hu: Mapping[str, tuple[float, float, float]]

    @classmethod
    def of(cls, names: Mapping[int, str], kind_hu: Mapping[str, tuple[float, float, float]]) -> Palette:
        """`names` of the case, `kind_hu` of the prepared data (mean, deviation, deviation between patients)."""
        tissues = {value: tissue_of(name) for value, name in names.items()}
        number = {name: index for index, name in enumerate(names.values(), start=1)}
        solid = np.zeros(VALUES, np.float32)
        for value, name in names.items():
            if tissues[value].cortex:
                solid[value] = number.get(_ONE_BONE.get(name, name), number[name])
        return cls(tissues, solid, kind_hu)


MEAN, DEVIATION, CORTEX, SOLID, OTHER_HU, OTHER_ABOVE, STRAND_HU, STRAND, THREADS, GAS_ABOVE = range(10)


@dataclass(frozen=True)
class Paint:
    """A drawn appearance: `tables` float32 (10, 256), strength of partial volume, and share of correlated noise."""

    tables: NDArray[np.float32]
    partial: float
    grain: float

    @classmethod
    def random(cls, rng: np.random.Generator, palette: Palette) -> Paint:
        """Draw contrast, fat, muscle and marrow of a patient, then the HU of each structure."""
        contrast = float(rng.uniform(0.3, 1.2)) if rng.random() < 0.6 else 0.0
        shared = {group: float(np.clip(rng.normal(), -2, 2)) for group in ("Fat", "Muscles", "bone")}
        bright = rng.uniform(0.6, 1.3)
        tables = np.zeros((10, VALUES), np.float32)
        tables[MEAN], tables[OTHER_ABOVE], tables[GAS_ABOVE] = AIR_HU, NEVER, NEVER
        tables[SOLID] = palette.solid
        kinds = {kind: _drawn(rng, kind, palette.hu, contrast, shared) for kind in palette.hu}
        for value, tissue in palette.tissues.items():
            of_kinds = [kinds[kind] for kind in tissue.kinds if kind in kinds]
            mean, deviation = np.mean(of_kinds, axis=0) if of_kinds else (45.0, 15.0)
            mean = mean if tissue.mean is None else tissue.mean + rng.normal(0, 6)
            deviation = deviation if tissue.deviation is None else tissue.deviation
            tables[:, value] = (
                mean,
                min(deviation, 45.0) * rng.uniform(0.6, 1.1),
                tissue.cortex * bright,
                palette.solid[value],
                tissue.other_hu + rng.normal(0, 12),
                tissue.other_above + rng.normal(0, 0.25),
                _strand_hu(tissue, contrast) + rng.normal(0, 10),
                tissue.strand * rng.uniform(0.5, 1.2),
                not tissue.sheets,
                tissue.gas_above + rng.normal(0, 0.4),
            )
        return cls(tables, float(rng.uniform(0.5, 1.0)), float(rng.uniform(0.4, 0.9)))

    def of(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """HU float32 of a patch of labels uint8 (64, 64, 64), on their device; 0 is air. No value leaves the device."""
        device = labels.device
        tables = torch.from_numpy(self.tables).to(device, non_blocking=True)
        of_voxel = tables.index_select(1, labels.flatten().int()).view(len(tables), *labels.shape)
        loops, threads, beside = _smooth_noise(3, COARSE, labels.shape, generator, device)
        sheets = _smooth_noise(1, 2 * COARSE, labels.shape, generator, device)[0]
        share = ((loops - of_voxel[OTHER_ABOVE]) * 4).clamp(0, 1)
        hu = of_voxel[MEAN].lerp(of_voxel[OTHER_HU], share)
        off_axis = torch.where(of_voxel[THREADS] > 0, torch.hypot(threads, beside), sheets.abs())
        hu = torch.where(off_axis < of_voxel[STRAND], of_voxel[STRAND_HU], hu)
        gas = ((beside - of_voxel[GAS_ABOVE]) * 6).clamp(0, 1)
        hu = hu.lerp(torch.full_like(hu, GAS_HU), gas)
        hu = hu + of_voxel[CORTEX] * _rim(of_voxel[SOLID], labels > 0) * (0.7 + 0.3 * threads).clamp(0.2, 1.3)
        hu = hu.lerp(smoothed(hu[None])[0], self.partial)
        white = torch.randn(hu.shape, generator=generator, device=device)
        grain = smoothed(white.roll(1, 0)[None])[0] * GRAIN_GAIN
        return hu + smoothed(of_voxel[DEVIATION][None])[0] * white.lerp(grain, self.grain)


def _drawn(
    rng: np.random.Generator,
    kind: str,
    hu: Mapping[str, tuple[float, float, float]],
    contrast: float,
    shared: Mapping[str, float],
) -> tuple[float, float]:
    """Mean and standard deviation of HU of a class in one patient."""
    mean, deviation, between = hu[kind]
    group = group_of_kind(kind)
    own = float(np.clip(rng.normal(), -2, 2))
    if group == VESSELS or kind in NATIVE_HU:
        native = NATIVE_HU.get(kind, NATIVE_BLOOD_HU)
        enhanced = max(mean + min(between, 120.0), native + 25.0)
        return native + contrast * (enhanced - native) * (1 + 0.2 * own) + 4 * own, min(deviation, 25.0)
    bony = group in BONES or kind in BONY
    together = shared.get("bone" if bony else group)
    level = own if together is None else 0.8 * together + 0.6 * own
    return (MARROW_SHARE if group in BONES else 1) * mean + min(between, 60.0) * level, deviation


def _strand_hu(tissue: Tissue, contrast: float) -> float:
    """Vessels in fat, lungs and liver are bright with contrast; sheets of fat are not."""
    return tissue.strand_hu + (0 if tissue.sheets else 60 * contrast)


def _smooth_noise(count: int, step: int, shape: torch.Size, generator: torch.Generator, device: torch.device) -> Tensor:
    """Smooth noise with a standard deviation of about 1 and a period of `step` voxels, (count, z, y, x)."""
    points = [size // step + 1 for size in shape]
    coarse = torch.randn((1, count, *points), generator=generator, device=device)
    fine = F.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)[0]
    return fine * 1.55  # what interpolation takes from the deviation


def _rim(solid: Tensor, there: Tensor) -> Tensor:
    """1 for voxels of a bone that border on other labels, else 0; borders on background do not count."""
    count = torch.zeros_like(solid)
    for axis in range(3):
        size = solid.shape[axis] - 1
        first, second = solid.narrow(axis, 0, size), solid.narrow(axis, 1, size)
        differs = (first != second) & there.narrow(axis, 0, size) & there.narrow(axis, 1, size)
        count.narrow(axis, 0, size).add_(differs)
        count.narrow(axis, 1, size).add_(differs)
    return count.clamp(max=1) * (solid > 0)

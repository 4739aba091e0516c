"""The HU of each class of structure (*kind*) in real CTs, for synthesising the CT of atlases.

Measured on voxels whose labels stand for exactly one class; classes without such a label take the HU of similar tissue.
Needs NumPy and SciPy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, find_objects

from training.data.case_notes import case_notes
from training.data.prepared import PreparedCase
from training.vocabulary import KINDS, group_of_kind, label_table

MIN_VOXELS = 60
"""Voxels of a class that a patient must have to be measured."""
MIN_SHRUNK = 200
"""Voxels that must remain for a structure to be measured without its rim, where partial volume changes HU."""
BETWEEN = 12.0
"""HU. Standard deviation between patients of classes measured in fewer than `MIN_PATIENTS`."""
MIN_PATIENTS = 3


class KindHu(NamedTuple):
    """HU of a class: median, standard deviation within a patient, and between the medians of patients.

    Deviations are the half-width of the central 68 %, robust like the median against gas in bowel and calcium.
    """

    mean: float
    deviation: float
    between: float


ASSUMED = {
    "Fat": KindHu(-100.0, 14.0, 8.0),
    "Muscles": KindHu(55.0, 16.0, 10.0),
    "Cartilages and ligaments": KindHu(85.0, 20.0, 15.0),
    "Head": KindHu(35.0, 10.0, 4.0),
    "Nerves": KindHu(25.0, 14.0, 8.0),
    "Limb bones": KindHu(250.0, 120.0, 60.0),
    "Ribs": KindHu(250.0, 120.0, 60.0),
    "Other bones": KindHu(250.0, 120.0, 60.0),
    "Vertebrae": KindHu(200.0, 60.0, 40.0),
    "intervertebral_disc": KindHu(85.0, 20.0, 12.0),
    "skull": KindHu(600.0, 250.0, 80.0),
    "mandible": KindHu(500.0, 250.0, 80.0),
    "hyoid": KindHu(250.0, 100.0, 50.0),
    "brain_ventricle": KindHu(8.0, 9.0, 3.0),
    "sinus_maxillary": KindHu(-950.0, 40.0, 20.0),
    "sinus_frontal": KindHu(-950.0, 40.0, 20.0),
    "sinus_sphenoid": KindHu(-950.0, 40.0, 20.0),
    "nasal_cavity": KindHu(-700.0, 300.0, 60.0),
    "nasopharynx": KindHu(-950.0, 40.0, 20.0),
    "oropharynx": KindHu(-950.0, 40.0, 20.0),
    "larynx": KindHu(20.0, 60.0, 20.0),
    "trachea": KindHu(-950.0, 40.0, 20.0),
    "lung_upper_lobe": KindHu(-850.0, 40.0, 40.0),
    "lung_middle_lobe": KindHu(-850.0, 40.0, 40.0),
    "lung_lower_lobe": KindHu(-830.0, 50.0, 40.0),
    "gallbladder": KindHu(10.0, 12.0, 6.0),
    "urinary_bladder": KindHu(8.0, 12.0, 6.0),
    "renal_pelvis": KindHu(10.0, 14.0, 8.0),
    "kidney_cyst": KindHu(8.0, 12.0, 6.0),
    "lens": KindHu(80.0, 20.0, 10.0),
    "optic_nerve": KindHu(20.0, 20.0, 10.0),
    "": KindHu(45.0, 15.0, BETWEEN),
}
"""HU of classes (else of groups, else "") that no CT labels: textbook values for CTs without contrast."""
_LIKE = {
    "internal_iliac_artery": "iliac_artery",
    "internal_iliac_vein": "iliac_vena",
    "renal_artery": "aorta",
    "renal_vein": "inferior_vena_cava",
    "visceral_artery": "aorta",
    "vertebral_artery": "common_carotid_artery",
    "external_carotid_artery": "common_carotid_artery",
    "internal_carotid_artery": "common_carotid_artery",
    "popliteal_vein": "popliteal_artery",
    "saphenous_vein": "popliteal_vein",
    "ulna": "radius",
    "radius": "fibula",
    "phalanx_hand": "metacarpal",
    "phalanx_foot": "metatarsal",
}
"""Class to the class whose HU it takes where it was not measured itself."""


def kind_hu(cases: Iterable[PreparedCase]) -> dict[str, KindHu]:
    """The HU of all classes of the label set, from the CTs among these cases."""
    seen: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for case in cases:
        if case.source == "ct" and case.hu is not None:
            for kind, values in _measured(case):
                low, middle, high = np.percentile(values, (16, 50, 84))
                seen[kind][case.patient].append((float(middle), float(high - low) / 2))
    found = {kind: _of_patients([np.mean(of, axis=0) for of in patients.values()]) for kind, patients in seen.items()}
    return {kind: _or_like(kind, found) for kind in KINDS[1:]}


def _measured(case: PreparedCase) -> Iterable[tuple[str, NDArray[np.int16]]]:
    """HU of each class with unambiguous voxels in a case, all labels of the class together."""
    if case.hu is None:
        return
    table = label_table(case.names, case_notes(case.name))
    boxes = find_objects(case.labels)
    by_kind: dict[str, list[NDArray[np.int16]]] = defaultdict(list)
    for value in case.names:
        allowed = np.flatnonzero(table.allowed[value])
        if len(allowed) == 1 and value <= len(boxes) and boxes[value - 1] is not None:
            # One voxel more on each side, or the rim at the sides of the box would not be eroded.
            box = tuple(slice(max(along.start - 1, 0), along.stop + 1) for along in boxes[value - 1])
            mask = case.labels[box] == value
            inner = binary_erosion(mask, border_value=1)
            by_kind[KINDS[allowed[0]]].append(case.hu[box][inner if inner.sum() >= MIN_SHRUNK else mask])
    for kind, values in by_kind.items():
        together = np.concatenate(values)
        if together.size >= MIN_VOXELS:
            yield kind, together


def _of_patients(each: list[NDArray[np.float64]]) -> KindHu:
    middles, widths = np.array(each).T
    between = float(np.std(middles)) if len(each) >= MIN_PATIENTS else BETWEEN
    return KindHu(float(np.median(middles)), float(np.median(widths)), between)


def _or_like(kind: str, found: dict[str, KindHu]) -> KindHu:
    if kind in found:
        return found[kind]
    if kind in _LIKE:
        return _or_like(_LIKE[kind], found)
    if kind in ASSUMED:
        return ASSUMED[kind]
    group = group_of_kind(kind)
    like = [hu for other, hu in found.items() if group_of_kind(other) == group and group in _UNIFORM]
    if like:
        return KindHu(*(float(number) for number in np.median(like, axis=0)))
    return ASSUMED.get(group, ASSUMED[""])


_UNIFORM = frozenset({"Muscles", "Cardiovascular vessels", "Limb bones", "Other bones", "Ribs", "Glands"})
"""Groups whose classes look alike in a CT, so that measured classes stand for the others."""

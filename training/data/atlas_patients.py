"""Atlases: label maps without a CT, completed to whole adult patients whose CT can be synthesised.

`atlas_cases` reads FOLDER/NAME/{label.nii.gz,names.json}. Unlabelled regions are filled: by the name of the structure
where it is certain (the brain in a closed skull, fat under the skin), else by a name that begins with "filler_", which
is not in the label set and therefore not trained on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_closing, find_objects

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.volume import Volume
from training.data import atlas_fillers as fillers
from training.data.atlas_bodies import give_skeleton
from training.data.label_canvas import LabelCanvas, filled
from training.data.prepared import ATLAS_PREFIX, PreparedCase
from training.data.real_volumes import isotropic_grid, resampled_labels

SCALES = {"spl-abdominal": 1.5}
"""Factor that scales an atlas to adult size: this one's kidney is 61 mm long and its pelvis 188 mm wide."""
REGIONS = {
    "spl-abdominal": "abdomen",
    "spl-head-neck": "head-neck",
    "spl-knee": "limbs",
    "myosim-arm-right": "limbs",
}
MARGIN = 4
"""Voxels of air around a patient."""


def atlas_of(case: PreparedCase) -> str:
    """The name of the atlas that a case was made from."""
    return case.name.removeprefix(ATLAS_PREFIX)


def atlas_cases(folder: Path, spacing: float) -> Iterator[PreparedCase]:
    """One case for each atlas of the folder, on an isotropic grid (mm) along L, P and S. Raises VolumeError."""
    paths = sorted(path.parent for path in Path(folder).glob("*/label.nii.gz"))
    if not paths:
        raise VolumeError(f"{folder} holds no NAME/label.nii.gz; give the folder that holds the atlases.")
    skeleton: LabelCanvas | None = None
    for path in sorted(paths, key=lambda path: path.name != "myosim-skeleton"):
        canvas, licence = _read(path, spacing)
        if path.name == "myosim-skeleton":
            skeleton = LabelCanvas(canvas.labels.copy(), dict(canvas.names), spacing)
        _complete(path.name, canvas, skeleton)
        canvas.crop(MARGIN)
        name = ATLAS_PREFIX + path.name
        region = REGIONS.get(path.name, "torso")
        yield PreparedCase(name, name, region, "atlas", canvas.names, canvas.labels, licence=licence)


def _read(path: Path, spacing: float) -> tuple[LabelCanvas, str]:
    """The atlas in adult size, resampled to the grid, and its licence."""
    volume = Volume.read(path / "label.nii.gz")
    try:
        content = json.loads((path / "names.json").read_text(encoding="utf-8"))
        names = {int(value): str(given["name"]) for value, given in content["labels"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VolumeError(f"{path / 'names.json'} does not name the labels ({error}); restore it.") from error
    scale = SCALES.get(path.name, 1.0)
    x, y, z = volume.geometry.spacing
    geometry = dataclasses.replace(volume.geometry, spacing=(x * scale, y * scale, z * scale))
    labels = resampled_labels(Volume(volume.array, geometry), isotropic_grid(geometry, spacing)).astype(np.uint8)
    return LabelCanvas(labels, names, spacing), str(content.get("licence", ""))


def _complete(atlas: str, canvas: LabelCanvas, skeleton: LabelCanvas | None) -> None:
    _fill_hollow(canvas)
    steps: dict[str, Callable[[], None]] = {
        "spl-abdominal": lambda: fillers.complete_abdomen(canvas),
        "spl-head-neck": lambda: fillers.complete_head_and_neck(canvas),
        "spl-knee": lambda: fillers.complete_knee(canvas),
        "myosim-skeleton": lambda: fillers.complete_skeleton(canvas),
        "myosim-arm-right": lambda: fillers.complete_arms(canvas),
        "hra-male": lambda: _complete_body(canvas, skeleton),
        "hra-female": lambda: _complete_body(canvas, skeleton),
    }
    if atlas not in steps:
        raise VolumeError(f"How the atlas {atlas} is completed is not known; take it out of the folder.")
    steps[atlas]()


def _complete_body(canvas: LabelCanvas, skeleton: LabelCanvas | None) -> None:
    """Complete a body with skin and organs by the bones of another atlas."""
    if skeleton is None:
        raise VolumeError("The atlases of whole bodies lack a spine; put myosim-skeleton beside them, which lends it.")
    give_skeleton(canvas, skeleton)
    fillers.complete_whole_body(canvas)


def _fill_hollow(canvas: LabelCanvas) -> None:
    """Fill hollow bones and organs: their inside gets the same label.

    The label "body" stands for everything without another name, also inside hollow organs, and is overwritten.
    """
    tubes = ("colon", "small_bowel", "duodenum", "urinary_bladder", "prostate", "uterus", "trachea", "main_bronchus")
    body = canvas.value("body") if "body" in canvas.names.values() else 0
    boxes = find_objects(canvas.labels)
    for value, name in canvas.names.items():
        if value > len(boxes) or boxes[value - 1] is None:
            continue
        labels = canvas.labels[boxes[value - 1]]
        where = np.pad(labels == value, 3)
        if name.startswith(("clavicula", "humerus", "femur", "tibia", "ribs", "sternum")):
            solid = filled(where, axes=(0, 1, 2))
        elif name == "mandible":
            solid = filled(where, axes=(1,))
        elif name.startswith("vertebrae") or name in tubes:
            solid = filled(binary_closing(where, iterations=2) | where)
        else:
            continue
        labels[solid[3:-3, 3:-3, 3:-3] & ((labels == 0) | (labels == body))] = value

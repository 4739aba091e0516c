"""Labels of data sets in a synthetic torso: structures under TotalSegmentator's names, tissues, tumours."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.phantom.torso import TorsoPhantom
from training import anatomy

PARTS = {
    "stomach": ("stomach", "stomach_content", "stomach_air"),
    "liver": ("liver", "liver_vessels"),
    "kidney_left": ("kidney_left", "kidney_pelvis_left"),
    "kidney_right": ("kidney_right", "kidney_pelvis_right"),
    "portal_vein_and_splenic_vein": ("portal_vein",),
    "heart": ("heart", "heart_ventricle_left", "heart_ventricle_right"),
    "heart_myocardium": ("heart",),
    "lung_left": ("lung_left",),
    "lung_right": ("lung_right",),
}
"""Structure to its parts in the phantom; a structure that is not listed is one part."""
TUMOUR_HU, TUMOUR_RADIUS_MM, TUMOUR_RIM_MM = 45.0, 14.0, 3.0


def labelled_as(phantom: TorsoPhantom, names: Mapping[int, str]) -> TorsoPhantom:
    """The CT labelled with the given structures that it has, each under its own value."""
    found = structures(phantom)
    labels = np.zeros(phantom.labels.shape, np.uint8)
    used = {value: name for value, name in names.items() if name in found}
    for value, name in used.items():
        labels[found[name]] = value
    return TorsoPhantom(phantom.ct, labels, used)


def structures(phantom: TorsoPhantom) -> dict[str, np.ndarray]:
    """Masks (bool, z y x) of the phantom's structures by TotalSegmentator's names; heart and its chambers are both."""
    parts = _parts(phantom)
    totalsegmentator = {*anatomy.V1.values(), *anatomy.V2.values()}
    known = {name: mask for name, mask in parts.items() if name in totalsegmentator}
    for name, of_name in PARTS.items():
        there = [parts[part] for part in of_name if part in parts]
        if there:
            known[name] = np.logical_or.reduce(there)
    for side in ("left", "right"):
        if f"lung_{side}" in known:
            known |= _lobes(known.pop(f"lung_{side}"), side)
    return known


def tissues(phantom: TorsoPhantom) -> np.ndarray:
    """TotalSegmentator's tissue types (uint8, z y x): 1 subcutaneous fat, 2 torso fat, 3 skeletal muscle.

    All that has no name inside the wall of muscle is fat; muscle is the wall and the named muscles, ribs are left out.
    """
    parts = _parts(phantom)
    muscles = ("muscle_wall", "autochthon_left", "autochthon_right", "iliopsoas_left", "iliopsoas_right")
    body = np.logical_or.accumulate(phantom.labels > 0, axis=1)
    body &= np.logical_or.accumulate(phantom.labels[:, ::-1] > 0, axis=1)[:, ::-1]
    result = np.where(body & (phantom.labels == 0), 2, 0).astype(np.uint8)
    result[parts["subcutaneous_fat"]] = 1
    result[np.logical_or.reduce([parts[name] for name in muscles if name in parts])] = 3
    return result


def with_tumour(phantom: TorsoPhantom, organ: str, names: Mapping[int, str], tumour: int, seed: int) -> TorsoPhantom:
    """The phantom with a tumour in an organ, labelled with the structures `names`, the tumour being value `tumour`."""
    rng = np.random.default_rng(seed)
    inside = np.argwhere(structures(phantom)[organ])
    spacing = phantom.ct.geometry.spacing[::-1]
    centre = inside[rng.integers(len(inside))]
    z, y, x = np.ogrid[tuple(slice(size) for size in phantom.labels.shape)]
    across = [(axis - middle) * step for axis, middle, step in zip((z, y, x), centre, spacing, strict=True)]
    distance = np.sqrt(across[0] ** 2 + across[1] ** 2 + across[2] ** 2)
    radius = TUMOUR_RADIUS_MM * rng.uniform(0.7, 1.3)
    share = np.clip((radius - distance) / TUMOUR_RIM_MM + 0.5, 0, 1)
    texture = TUMOUR_HU + rng.normal(0, 12, share.shape)
    ct = np.rint((1 - share) * phantom.ct.array + share * texture).astype(np.int16)
    labelled = labelled_as(phantom, names)
    labels = np.where(distance <= radius, tumour, labelled.labels).astype(np.uint8)
    return dataclasses.replace(labelled, ct=Volume(ct, phantom.ct.geometry), labels=labels, names=dict(names))


def _parts(phantom: TorsoPhantom) -> dict[str, np.ndarray]:
    return {name: phantom.labels == value for value, name in phantom.names.items()}


def _lobes(lung: np.ndarray, side: str) -> dict[str, np.ndarray]:
    """A lung split along the oblique fissure, which rises backwards; the right one along the horizontal fissure too."""
    z, y, _x = np.ogrid[tuple(slice(size) for size in lung.shape)]
    centre_z, centre_y, _ = np.argwhere(lung).mean(axis=0)
    lower = lung & (z - centre_z < 0.8 * (y - centre_y))
    upper = lung & ~lower
    if side == "left":
        return {"lung_lower_lobe_left": lower, "lung_upper_lobe_left": upper}
    middle = upper & (z < centre_z)
    return {"lung_lower_lobe_right": lower, "lung_middle_lobe_right": middle, "lung_upper_lobe_right": upper & ~middle}

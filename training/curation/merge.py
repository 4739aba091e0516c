"""Merge tissues into existing labels, clean their borders, and mark doubtful voxels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from CTSAM3DLib.imaging.geometry import filled_box
from training.curation.regions import distance_to, without_dust

FAT_HU, MUSCLE_HU = (-190, -30), (-29, 150)
"""HU ranges of fat and muscle in a CT, both ends included."""
MUSCLE, VISCERAL_FAT, SUBCUTANEOUS_FAT = 105, 106, 107
"""The values of the curated tissues in TotalSeg++."""
PLAUSIBLE_HU = {SUBCUTANEOUS_FAT: FAT_HU, VISCERAL_FAT: FAT_HU, MUSCLE: MUSCLE_HU}
VALUE_OF_TYPE = {1: SUBCUTANEOUS_FAT, 2: VISCERAL_FAT, 3: MUSCLE}
"""TotalSegmentator's tissue type to its value in TotalSeg++."""
MIN_ML = 0.05
"""mL. Smaller islands of a tissue are removed; 15 voxels of 1.5 mm."""
GAP_MM = 3.0
"""Unlabelled voxels no further than this from a tissue and from an own label are a gap between the two."""


def merge(labels: np.ndarray, tissues: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Return labels (uint8, z y x) with tissue types (1 to 3) where nothing is labelled yet, inside the body alone."""
    merged = labels.copy()
    for kind, value in VALUE_OF_TYPE.items():
        merged[(tissues == kind) & (labels == 0) & body] = value
    return merged


def clean_up(hu: np.ndarray, merged: np.ndarray, body: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return the merged labels without small islands of tissues, and with gaps between tissue and own labels filled.

    A gap is filled by the nearest tissue that its HU can be, within `GAP_MM`. Own labels neither lose nor gain a voxel.
    All arrays are (z, y, x), the spacing in mm too.
    """
    cleaned = merged.copy()
    for value in PLAUSIBLE_HU:
        tissue = merged == value
        cleaned[tissue & ~without_dust(tissue, MIN_ML, spacing)] = 0
    box = filled_box(body)
    cleaned[box] = _gaps_filled(hu[box], cleaned[box], body[box], spacing)
    return cleaned


def doubtful(hu: np.ndarray, cleaned: np.ndarray) -> np.ndarray:
    """Return the voxels (bool, z y x) of tissues that touch an own label and have HU which the tissue cannot have."""
    own = (cleaned > 0) & ~is_tissue(cleaned)
    doubt = np.zeros(cleaned.shape, bool)
    touching = _touching(own)
    for value, (low, high) in PLAUSIBLE_HU.items():
        doubt |= (cleaned == value) & touching & ((hu < low) | (hu > high))
    return doubt


def is_tissue(labels: np.ndarray) -> np.ndarray:
    """Return where a map has one of the three curated tissues."""
    return (labels >= MUSCLE) & (labels <= SUBCUTANEOUS_FAT)


def _gaps_filled(hu: np.ndarray, labels: np.ndarray, body: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    own = (labels > 0) & ~is_tissue(labels)
    gap = body & (labels == 0) & (distance_to(own, spacing) <= GAP_MM)
    filled = labels.copy()
    nearest = np.full(labels.shape, np.float32(GAP_MM))
    for value, (low, high) in PLAUSIBLE_HU.items():
        distance = distance_to(labels == value, spacing)
        takes = gap & (distance <= nearest) & (hu >= low) & (hu <= high)
        filled[takes] = value
        nearest[takes] = distance[takes]
    return filled


def _touching(mask: np.ndarray) -> np.ndarray:
    """Return where a voxel shares a face with the mask."""
    touched = np.zeros(mask.shape, bool)
    for axis in range(mask.ndim):
        along, there = np.moveaxis(touched, axis, 0), np.moveaxis(mask, axis, 0)
        along[1:] |= there[:-1]
        along[:-1] |= there[1:]
    return touched

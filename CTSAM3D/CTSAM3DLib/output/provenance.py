"""Provenance of a result: the tags of a segment, and a JSON report for scripts."""

from __future__ import annotations

from typing import Any

import numpy as np

from CTSAM3DLib.clicks.click import clicks_to_tag
from CTSAM3DLib.imaging.geometry import filled_box
from CTSAM3DLib.segmentation.result import Result

MODEL_TAG = "CTSAM3D.Model"
MODEL_HASH_TAG = "CTSAM3D.ModelHash"
WINDOW_TAG = "CTSAM3D.Window"
REACH_TAG = "CTSAM3D.Reach"
CLICKS_TAG = "CTSAM3D.Clicks"
TAGS = (MODEL_TAG, MODEL_HASH_TAG, WINDOW_TAG, REACH_TAG, CLICKS_TAG)


def tags(result: Result) -> dict[str, str]:
    """The tags of a segment in a .seg.nrrd file and in Slicer; clicks are JSON in RAS mm."""
    low, high = result.model.window
    return {
        MODEL_TAG: result.model.name,
        MODEL_HASH_TAG: result.model_hash,
        WINDOW_TAG: f"{low:g} {high:g}",
        REACH_TAG: result.reach,
        CLICKS_TAG: clicks_to_tag(result.clicks),
    }


def report(result: Result) -> dict[str, Any]:
    """A report of the result as values for JSON.

    `box` is the bounding box of the mask as its first and last voxel (i, j, k) of the CT; None for an empty mask.
    """
    cropped, around = result.cropped
    voxels = int(np.count_nonzero(cropped))
    first = [inner.start + outer.start for inner, outer in zip(filled_box(cropped), around, strict=True)]
    last = [inner.stop + outer.start - 1 for inner, outer in zip(filled_box(cropped), around, strict=True)]
    millilitres_per_voxel = abs(np.linalg.det(result.geometry.ijk_to_lps[:3, :3])) / 1000
    return {
        "volume_ml": round(voxels * millilitres_per_voxel, 3),
        "voxels": voxels,
        "box": {"first": first[::-1], "last": last[::-1]} if voxels else None,
        "patches": len(result.patches),
        "quality": round(result.quality, 3),
        "reach": result.reach,
        "clicks": [click.to_dict() for click in result.clicks],
        "model": {
            "name": result.model.name,
            "hash": result.model_hash,
            "window": list(result.model.window),
        },
        "execution": result.execution,
    }

"""Segmentation files (.seg.nrrd), which 3D Slicer opens with names, colours and tags."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import slicerio

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.imaging.volume import Volume


@dataclass(frozen=True)
class Segment:
    """One label of a mask; `color` is red, green, blue, 0..1. Tags must not contain `|`, the separator in the file."""

    name: str
    label_value: int
    color: tuple[float, float, float]
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if any("|" in text for tag in self.tags.items() for text in tag):
            raise ValueError(f"a tag of segment {self.name!r} contains '|'")


def write_segmentation(
    mask: Volume,
    path: str | os.PathLike[str],
    segments: Sequence[Segment],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a mask with its segments as .seg.nrrd, or with any other ending as a plain label map.

    Only .seg.nrrd stores names, colours, tags and `metadata`. Raises OutputError.
    """
    path = Path(path)
    if not path.name.lower().endswith(".seg.nrrd"):
        mask.write(path)
        return
    segmentation = {
        **(metadata or {}),
        "voxels": mask.array.transpose(2, 1, 0),  # slicerio has i, j, k
        "ijkToLPS": mask.geometry.ijk_to_lps,
        "containedRepresentationNames": ["Binary labelmap"],
        "segments": [
            {
                "id": f"Segment_{segment.label_value}",
                "name": segment.name,
                "labelValue": segment.label_value,
                "color": segment.color,
                "tags": segment.tags,
            }
            for segment in segments
        ],
    }
    with atomic_write(path) as temporary:
        slicerio.write_segmentation(str(temporary), segmentation, compression_level=6)

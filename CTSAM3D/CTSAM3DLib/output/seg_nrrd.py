"""Segmentation files that 3D Slicer opens with names, colours and tags, and label maps without them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import slicerio
from numpy.typing import NDArray

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.errors import OutputError
from CTSAM3DLib.imaging.geometry import Box, Geometry
from CTSAM3DLib.imaging.volume import Volume

_PLACEHOLDER = "CTSAM3D-name-{}-of-a-segment"


@dataclass(frozen=True)
class Segment:
    """One label of a mask; `color` is red, green, blue from 0 to 1. Tags hold no `|`, which ends a tag in the file.

    Raises OutputError for a name that no file can hold.
    """

    name: str
    label_value: int
    color: tuple[float, float, float]
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.name.strip() and self.name.isprintable()):
            raise OutputError(f"{self.name!r} cannot name a segment; use letters and digits of any script.")
        if any("|" in text for tag in self.tags.items() for text in tag):
            raise ValueError(f"a tag of segment {self.name!r} contains '|'")


@dataclass(frozen=True)
class CroppedMask:
    """A mask (z, y, x), 0 or 1, in a box of the CT outside of which it is empty."""

    voxels: NDArray[np.uint8]
    box: Box


def write_segmentation(
    mask: Volume,
    path: str | os.PathLike[str],
    segments: Sequence[Segment],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a label map with its segments as .seg.nrrd, or by any other ending as a plain label map.

    Only .seg.nrrd keeps names, colours, tags, and the file's `metadata`. Raises OutputError.
    """
    path = Path(path)
    if not path.name.lower().endswith(".seg.nrrd"):
        mask.write(path)
        return
    _write([mask.array], mask.geometry, path, [(segment, 0, segment.label_value) for segment in segments], metadata)


def write_masks(
    masks: Sequence[CroppedMask], geometry: Geometry, path: str | os.PathLike[str], segments: Sequence[Segment]
) -> None:
    """Write masks that may overlap, one for each segment, as .seg.nrrd, or by any other ending as a label map.

    A .seg.nrrd keeps overlapping masks whole, in layers, as Slicer does. In a label map the smaller one lies on top.
    Raises OutputError.
    """
    path = Path(path)
    if path.name.lower().endswith(".seg.nrrd"):
        layers: list[NDArray[np.uint8]] = []
        placed = []
        for segment, mask in zip(segments, masks, strict=True):
            number = next(
                (n for n, layer in enumerate(layers) if not layer[mask.box][mask.voxels > 0].any()), len(layers)
            )
            if number == len(layers):
                layers.append(np.zeros(geometry.shape, np.uint8))
            layers[number][mask.box][mask.voxels > 0] = segment.label_value
            placed.append((segment, number, segment.label_value))
        _write(layers, geometry, path, placed, None)
        return
    labels = np.zeros(geometry.shape, np.uint8)
    for segment, mask in sorted(zip(segments, masks, strict=True), key=lambda item: -int(item[1].voxels.sum())):
        labels[mask.box][mask.voxels > 0] = segment.label_value
    Volume(labels, geometry).write(path)


def _write(
    layers: Sequence[NDArray[np.generic]],
    geometry: Geometry,
    path: Path,
    segments: Sequence[tuple[Segment, int, int]],
    metadata: Mapping[str, str] | None,
) -> None:
    """Write layers (z, y, x) with segments: each with the number of its layer and its value there."""
    voxels = [layer.transpose(2, 1, 0) for layer in layers]  # slicerio has i, j, k
    segmentation = {
        **(metadata or {}),
        "voxels": voxels[0] if len(voxels) == 1 else np.stack(voxels),
        "ijkToLPS": geometry.ijk_to_lps,
        "containedRepresentationNames": ["Binary labelmap"],
        "segments": [
            {
                "id": f"Segment_{number}",
                "name": segment.name if segment.name.isascii() else _PLACEHOLDER.format(number),
                "labelValue": value,
                "layer": layer,
                "color": segment.color,
                "tags": segment.tags,
            }
            for number, (segment, layer, value) in enumerate(segments, start=1)
        ],
    }
    with atomic_write(path) as temporary:
        slicerio.write_segmentation(str(temporary), segmentation, compression_level=6)
        names = {_PLACEHOLDER.format(number): segment.name for number, (segment, _, _) in enumerate(segments, start=1)}
        _write_names(temporary, names)


def _write_names(path: Path, names: Mapping[str, str]) -> None:
    """Write names in UTF-8, as Slicer has them, into a header that slicerio's NRRD writer makes in ASCII alone."""
    if all(name.isascii() for name in names.values()):
        return
    header, blank, voxels = path.read_bytes().partition(b"\n\n")
    for placeholder, name in names.items():
        header = header.replace(placeholder.encode(), name.encode())
    path.write_bytes(header + blank + voxels)

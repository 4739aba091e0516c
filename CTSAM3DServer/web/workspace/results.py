"""What a person takes home: segments as .seg.nrrd or as a label map, and the clicks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from CTSAM3DLib.clicks.markups import write_markups
from CTSAM3DLib.errors import OutputError
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.mrml.files import write_segmentation_node
from CTSAM3DLib.mrml.frames import output_grid
from CTSAM3DLib.mrml.labelmaps import segment_mask
from CTSAM3DLib.mrml.volumes import volume_in_segmentation
from CTSAM3DServer.web.workspace.segments import Segments


def write_result(segments: Segments, kind: str, folder: Path) -> Path:
    """Write what there is as "seg.nrrd", "nii.gz" or "mrk.json", and return the file. Raises OutputError."""
    if kind not in _WRITERS:
        raise OutputError(f"{kind!r} is not a kind of file; choose one of {', '.join(_WRITERS)}.")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{segments.ct.GetName() or 'ct'}.{kind}"
    _WRITERS[kind](segments, path)
    return path


def _write_segments(segments: Segments, path: Path) -> None:
    write_segmentation_node(segments.node, path)


def _write_label_map(segments: Segments, path: Path) -> None:
    """Labels are the segments' numbers in their order; where masks overlap, the smaller one lies on top."""
    reference = segments.writer.reference_image()
    ct = volume_in_segmentation(segments.ct, segments.node, reference)
    grid = output_grid(reference, ct.geometry)
    labels = np.zeros(ct.geometry.shape, np.uint8)
    masks = [segment_mask(segments.node, segment_id, reference) for segment_id in segments.ids()]
    by_size = sorted(enumerate(masks, start=1), key=lambda item: -np.count_nonzero(item[1].voxels))
    for label, mask in by_size:
        labels[mask.on(grid.first, labels.shape) > 0] = label
    Volume(labels, grid.geometry).write(path)


def _write_clicks(segments: Segments, path: Path) -> None:
    """All clicks in one list, each labelled with its segment's name, "-" before it where it is negative."""
    named = [
        (segments.name(segment_id), click) for segment_id in segments.ids() for click in segments.clicks(segment_id)
    ]
    labels = [name if click.positive else f"-{name}" for name, click in named]
    write_markups(path, [click for _, click in named], labels)


_WRITERS: dict[str, Callable[[Segments, Path], None]] = {
    "seg.nrrd": _write_segments,
    "nii.gz": _write_label_map,
    "mrk.json": _write_clicks,
}

"""Frames of one series sorted into stacks that are regular grids, or the reason why they are none.

A series can hold more than one volume (phases, reconstructions), and less than it seems (scouts, copies of slices).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.dicom.frame import Frame, SeriesHeader, is_hu, phase_names
from CTSAM3DLib.imaging.dicom.pixels import hu_of
from CTSAM3DLib.imaging.geometry import Geometry

EVEN_MM = 0.06
"""A slice may lie so far from its even place, since many scanners write positions in tenths of a millimetre."""
EVEN_SHARE = 0.02
"""The same as a share of the distance between slices; the larger one counts."""
SAME_PLACE_MM = 1e-3
ORTHOGONAL = 1e-3
"""Largest cosine between rows and columns, and largest error of their unit vectors' length."""


@dataclass(frozen=True)
class Stack:
    """Frames that make one volume, the first slice first, or that should, and the reason why they do not.

    Attributes:
        phase: what tells the stack from others of its series, such as "AcquisitionNumber 2"; else empty.
        notes: sentences on what was left out.
        problem: why the frames are no regular CT grid, and what to do; else empty.

    """

    series: SeriesHeader
    frames: tuple[Frame, ...]
    phase: str = ""
    notes: tuple[str, ...] = ()
    problem: str = ""

    @property
    def geometry(self) -> Geometry:
        """Where the voxels lie, LPS mm; slices that a tilted gantry shifted stay shifted."""
        first, last = self.frames[0], self.frames[-1]
        assert first.row is not None
        assert first.column is not None
        assert first.spacing is not None
        matrix = np.eye(4)
        matrix[:3, 0] = np.array(first.row) / np.linalg.norm(first.row) * first.spacing[1]
        matrix[:3, 1] = np.array(first.column) / np.linalg.norm(first.column) * first.spacing[0]
        count = len(self.frames)
        step = first.normal * (first.thickness or 1.0) if count == 1 else _step(self.frames)
        matrix[:3, 2], matrix[:3, 3] = step, first.position
        assert last.position is not None
        return Geometry.from_matrix((count, first.rows, first.columns), matrix)

    @property
    def slice_distance(self) -> float:
        """mm from a slice to the next; the thickness of a single one."""
        return self.geometry.spacing[2]

    def __str__(self) -> str:
        """For lists from which a person chooses; names no patient."""
        first, date = self.frames[0], self.series.date
        number = f" {self.series.number}" if self.series.number else ""
        description = f' "{self.series.description}"' if self.series.description else ""
        parts = [f"series{number}{description}"]
        if len(date) == 8:
            parts.append(f"{date[:4]}-{date[4:6]}-{date[6:]}")
        if self.phase:
            parts.append(self.phase)
        parts.append(f"{len(self.frames)} slices of {first.columns}x{first.rows}")
        if not self.problem:
            parts.append(f"{self.slice_distance:.2g} mm apart")
        return ", ".join(parts)


def stacks_of(series: SeriesHeader, frames: Sequence[Frame]) -> list[Stack]:
    """The volumes of a series; one with a problem where no regular grid can be made of its frames."""
    notes: list[str] = []
    images = [frame for frame in frames if not frame.is_localizer] or list(frames)
    if len(images) < len(frames):
        notes.append(f"{len(frames) - len(images)} scout images were left out.")
    problem = _unplaced(images)
    if problem:
        return [Stack(series, tuple(images), notes=tuple(notes), problem=problem)]
    groups = _alike(images)
    volumes = [group for group in groups if len(group) > 1] or groups
    strays = len(groups) - len(volumes)
    if strays:
        notes.append(f"{strays} single images of another orientation or size were left out.")
    return [stack for group in volumes for stack in _stacks_of_one_orientation(series, group, notes, len(volumes) > 1)]


def _stacks_of_one_orientation(
    series: SeriesHeader, frames: Sequence[Frame], notes: Sequence[str], is_one_of_several: bool
) -> list[Stack]:
    size = f"{frames[0].columns}x{frames[0].rows} voxels" if is_one_of_several else ""
    whole = _regular(frames)
    if whole is not None:
        return [Stack(series, whole[0], size, (*notes, *whole[1]))]
    for place, name in phase_names():
        by_value: dict[str, list[Frame]] = defaultdict(list)
        for frame in frames:
            by_value[frame.phase[place]].append(frame)
        if 1 < len(by_value) < len(frames):
            parts = {value: _regular(group) for value, group in by_value.items() if len(group) > 1}
            if parts and len(parts) == len(by_value) and all(part is not None for part in parts.values()):
                return [
                    Stack(series, part[0], f"{name} {value or '-'}", (*notes, *part[1]))
                    for value, part in sorted(parts.items(), key=lambda item: _natural(item[0]))
                    if part is not None
                ]
    repeats = _repeats(frames)
    if repeats is not None:
        return [
            Stack(series, part[0], f"volume {number} of {len(repeats)}", (*notes, *part[1]))
            for number, part in enumerate(repeats, start=1)
        ]
    return [Stack(series, tuple(_sorted(frames)), size, tuple(notes), _why_irregular(frames))]


def _unplaced(frames: Sequence[Frame]) -> str:
    """What the frames lack of a place in the patient, or of HU; empty where they lack nothing."""
    many = len({frame.file for frame in frames}) < len(frames)
    if any(frame.position is None or frame.row is None or frame.column is None for frame in frames):
        whose = "of each of its frames " if many else ""
        return (
            f"does not say where its slices lie (no position and orientation {whose}in the patient); "
            "export the original CT series, with one file for each slice"
        )
    if any(frame.spacing is None or min(frame.spacing) <= 0 for frame in frames):
        return "does not say how large its voxels are (Pixel Spacing); export the original CT series"
    for frame in frames:
        axes = np.array([frame.row, frame.column])
        if not np.allclose(axes @ axes.T, np.eye(2), atol=ORTHOGONAL):
            return "has rows and columns that are not at right angles; export the original CT series"
    if not all(map(is_hu, frames)):
        return f"holds values in {frames[0].unit}, not in Hounsfield units; give the CT in Hounsfield units"
    return ""


def _alike(frames: Iterable[Frame]) -> list[list[Frame]]:
    """The frames by size, voxel and orientation, the most numerous first."""
    groups: list[list[Frame]] = []
    for frame in frames:
        for group in groups:
            first = group[0]
            if (
                (frame.rows, frame.columns) == (first.rows, first.columns)
                and np.allclose(frame.spacing or (), first.spacing or (), rtol=1e-3)
                and np.allclose((*frame.row, *frame.column), (*first.row, *first.column), atol=1e-3)  # type: ignore[misc]
            ):
                group.append(frame)
                break
        else:
            groups.append([frame])
    return sorted(groups, key=len, reverse=True)


def _regular(frames: Sequence[Frame]) -> tuple[tuple[Frame, ...], tuple[str, ...]] | None:
    """The frames as one even stack without copies, and what was left out; None where they are none."""
    ordered = _sorted(frames)
    kept, copies = [ordered[0]], 0
    for frame in ordered[1:]:
        if _distance(kept[-1], frame) > SAME_PLACE_MM:
            kept.append(frame)
        elif _is_copy(kept[-1], frame):
            copies += 1
        else:
            return None
    if len(kept) > 2 and _strays(kept).max() > _tolerance(kept):
        return None
    notes = (f"{copies} slices that were there twice, voxel for voxel, were taken once.",) if copies else ()
    return tuple(kept), notes


def _repeats(frames: Sequence[Frame]) -> list[tuple[tuple[Frame, ...], tuple[str, ...]]] | None:
    """Volumes that were taken one after the other at the same places, told apart by the order of their numbers."""
    places: list[list[Frame]] = []
    for frame in _sorted(frames):
        if places and _distance(places[-1][0], frame) <= SAME_PLACE_MM:
            places[-1].append(frame)
        else:
            places.append([frame])
    counts = {len(place) for place in places}
    if len(counts) != 1 or counts == {1} or len(places) < 2:
        return None
    by_number = [sorted(place, key=lambda frame: (frame.instance, frame.index)) for place in places]
    if any(len({(frame.instance, frame.index) for frame in place}) < len(place) for place in by_number):
        return None
    volumes = [_regular(volume) for volume in zip(*by_number, strict=True)]
    return [volume for volume in volumes if volume is not None] if all(volumes) else None


def _why_irregular(frames: Sequence[Frame]) -> str:
    ordered = _sorted(frames)
    gaps = np.array([_distance(a, b) for a, b in itertools.pairwise(ordered)])
    if gaps.min() <= SAME_PLACE_MM:
        return (
            "has several different slices at the same place and nothing that tells them apart; "
            "export the wanted phase alone"
        )
    usual = float(np.median(gaps))
    widest = int(gaps.argmax())
    missing = round(float(gaps[widest]) / usual) - 1
    near = ", ".join(f"{value:.1f}" for value in ordered[widest].position or ())
    if missing >= 1 and np.count_nonzero(np.abs(gaps - usual) > max(EVEN_MM, EVEN_SHARE * usual)) <= len(gaps) // 4:
        slices = "one slice is missing" if missing == 1 else f"{missing} slices are missing"
        return f"has a gap: {slices} after the slice at ({near}) mm; export all slices of the series again"
    return (
        f"has unevenly spaced slices ({gaps.min():.2f} to {gaps.max():.2f} mm apart); "
        "resample it to even slices, or export another reconstruction"
    )


def _sorted(frames: Sequence[Frame]) -> list[Frame]:
    normal = frames[0].normal
    return sorted(frames, key=lambda frame: (float(normal @ np.array(frame.position)), frame.instance, frame.index))


def _step(frames: Sequence[Frame]) -> NDArray[np.float64]:
    step: NDArray[np.float64] = np.subtract(frames[-1].position or (), frames[0].position or ()) / (len(frames) - 1)
    return step


def _strays(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """How far each slice lies from its even place, mm."""
    positions = np.array([frame.position for frame in frames])
    even = positions[0] + np.arange(len(frames))[:, None] * _step(frames)
    distances: NDArray[np.float64] = np.linalg.norm(positions - even, axis=1)
    return distances


def _tolerance(frames: Sequence[Frame]) -> float:
    return max(EVEN_MM, EVEN_SHARE * float(np.linalg.norm(_step(frames))))


def _distance(a: Frame, b: Frame) -> float:
    return float(np.linalg.norm(np.subtract(a.position or (), b.position or ())))


def _is_copy(a: Frame, b: Frame) -> bool:
    if a.phase != b.phase:  # another phase that happens to look the same is no copy
        return False
    try:
        first, second = hu_of([a, b])
    except VolumeError:
        return False
    return np.array_equal(first, second)


def _natural(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value

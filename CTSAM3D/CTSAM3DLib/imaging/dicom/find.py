"""The CT among DICOM files: in a study folder, on a CD, beside foreign files; of several, one is chosen."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from numpy import generic
from numpy.typing import NDArray

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.dicom.frame import Frame, SeriesHeader, frames_of, read_header, series_of
from CTSAM3DLib.imaging.dicom.pixels import hu_of
from CTSAM3DLib.imaging.dicom.stack import Stack, stacks_of
from CTSAM3DLib.imaging.geometry import Geometry

_FOREIGN = ("DICOMDIR", "Thumbs.db", ".DS_Store", "desktop.ini")
_FOREIGN_FOLDERS = ("__MACOSX",)


class SeveralSeriesError(VolumeError):
    """More than one CT could be meant; `choices` are those to choose from, counted from 1 in the message."""

    def __init__(self, where: str, choices: Sequence[Stack]) -> None:
        listed = "; ".join(f"{number}: {stack}" for number, stack in enumerate(choices, start=1))
        super().__init__(f"{where} holds {len(choices)} CTs, so choose one by its number (--series N): {listed}.")
        self.choices = tuple(choices)


def read_stack(stack: Stack) -> tuple[NDArray[generic], Geometry]:
    """HU (z, y, x) and geometry of a stack. Raises VolumeError where it has a problem or a file is damaged."""
    if stack.problem:
        raise VolumeError(f"The DICOM {stack} {stack.problem}.")
    return hu_of(stack.frames), stack.geometry


def choose(files: Iterable[Path], where: str, series: str | None = None) -> Stack:
    """The CT among these files.

    Args:
        files: any files; what is no DICOM image is passed over.
        where: what to call them in errors, such as the folder's name.
        series: which of several CTs: its number in the list that SeveralSeriesError gives, counted from 1, or its
            Series Instance UID.

    Raises:
        SeveralSeriesError: there are several, and `series` chooses none.
        VolumeError: there is no CT, or none of regular slices; `series` is not among them.

    """
    stacks, modalities = stacks_in(files)
    volumes = [stack for stack in stacks if not stack.problem and len(stack.frames) > 1]
    if series is not None:
        return _chosen(volumes or stacks, where, series)
    if len(volumes) == 1:
        return volumes[0]
    if volumes:
        raise SeveralSeriesError(where, volumes)
    if not modalities:
        raise VolumeError(f"{where} holds no DICOM images; give a CT, or the folder that its files are in.")
    if not stacks:
        raise VolumeError(f"{where} holds no CT, only {', '.join(sorted(modalities))}; give a CT series.")
    return max(stacks, key=lambda stack: len(stack.frames))


def stacks_in(files: Iterable[Path]) -> tuple[list[Stack], set[str]]:
    """All stacks of CTs among these files, in the order of series numbers, and all modalities that are there."""
    headers: dict[str, SeriesHeader] = {}
    frames: dict[str, list[Frame]] = {}
    modalities: set[str] = set()
    for file in files:
        dataset = read_header(file)
        if dataset is None:
            continue
        header = series_of(dataset)
        modalities.add(header.modality)
        if header.modality == "CT":
            headers.setdefault(header.uid, header)
            frames.setdefault(header.uid, []).extend(frames_of(dataset, file))
    ordered = sorted(headers.values(), key=lambda header: (header.date, _number(header.number), header.uid))
    return [stack for header in ordered for stack in stacks_of(header, frames[header.uid])], modalities


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and below, but for those that computers and CDs add."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _FOREIGN_FOLDERS)
        found += [Path(parent, name) for name in sorted(names) if name not in _FOREIGN and not name.startswith("._")]
    return found


def series_beside(file: Path) -> list[Path]:
    """The DICOM files in the folder of this one that belong to the same series."""
    own = read_header(file)
    if own is None:
        return [file]
    uid = own.get("SeriesInstanceUID")
    beside = []
    for other in sorted(file.parent.iterdir()):
        if other == file or (
            other.is_file() and (header := read_header(other)) is not None and header.get("SeriesInstanceUID") == uid
        ):
            beside.append(other)
    return beside


def _chosen(stacks: Sequence[Stack], where: str, series: str) -> Stack:
    if series.isdecimal() and 1 <= int(series) <= len(stacks):
        return stacks[int(series) - 1]
    named = [stack for stack in stacks if stack.series.uid == series]
    if len(named) == 1:
        return named[0]
    if named:
        raise SeveralSeriesError(f"Series {series}", named)
    listed = "; ".join(f"{number}: {stack}" for number, stack in enumerate(stacks, start=1)) or "none"
    raise VolumeError(f"{where} holds no CT number {series}; these are there: {listed}.")


def _number(text: str) -> int:
    return int(text) if text.lstrip("-").isdecimal() else 0

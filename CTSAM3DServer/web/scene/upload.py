"""From what a person drops on the page to a CT: files, folders and zips, as they come."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.image import imsave

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging import archive
from CTSAM3DLib.imaging.dicom.find import SeveralSeriesError
from CTSAM3DLib.imaging.dicom.pixels import hu_of
from CTSAM3DLib.imaging.dicom.stack import Stack
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.phantom.torso import torso

PICTURE_WINDOW = (-160.0, 240.0)
PICTURE_PIXELS = 128


@dataclass(frozen=True)
class SeriesChoice:
    """One of several CT series, as the page shows it: what it is, and its middle slice as an address of a PNG."""

    number: int
    title: str
    picture: str


def read_ct(path: Path, untrusted: bool = True, series: str | None = None) -> Volume:
    """Read a CT from a file or a folder, an uploaded one as untrusted (`Volume.read`).

    Raises:
        SeveralSeriesError: there are several CT series, and `series` names none.
        VolumeError: what is there is no CT.

    """
    try:
        volume = Volume.read(path, untrusted, series)
    except SeveralSeriesError:
        raise
    except VolumeError as error:  # where uploads lie is nobody's concern
        raise VolumeError(str(error).replace(str(path), path.name)) from error
    volume.check_ct()
    return volume


def choices_of(error: SeveralSeriesError) -> list[SeriesChoice]:
    """The series that a person can choose from."""
    return [SeriesChoice(n, str(stack), _picture(stack)) for n, stack in enumerate(error.choices, start=1)]


def find_ct(files: Sequence[Path]) -> Path:
    """What to read of dropped files: the one file, the folder that all are in, or that of an unpacked zip.

    Raises VolumeError for no file, and for a zip that cannot be unpacked.
    """
    if not files:
        raise VolumeError("There is no file in what was dropped; drop a CT, its DICOM folder, or a zip of it.")
    if len(files) == 1 and archive.is_zip(files[0]):
        folder = files[0].with_suffix("")
        archive.unpack(files[0], folder)
        files[0].unlink()
        folder.mkdir(exist_ok=True)  # of an empty zip
        return folder
    return files[0] if len(files) == 1 else _common_folder(files)


def name_of(files: Sequence[Path]) -> str:
    """What a CT in these files or this folder is called: what comes before the dot, where that is one name."""
    stems = {file.name.split(".")[0] for file in files}
    return (stems.pop() if len(stems) == 1 else "") or "CT"


def _picture(stack: Stack) -> str:
    low, high = PICTURE_WINDOW
    (plane,) = hu_of([stack.frames[len(stack.frames) // 2]])
    step = max(1, max(plane.shape) // PICTURE_PIXELS)
    content = io.BytesIO()
    imsave(content, plane[::step, ::step], cmap="gray", vmin=low, vmax=high, format="png")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def write_sample(path: Path) -> None:
    """Make the synthetic torso. Raises OutputError."""
    torso().ct.write(path)


def _common_folder(files: Sequence[Path]) -> Path:
    parents = [set(file.parents) for file in files]
    return max(set.intersection(*parents), key=lambda folder: len(folder.parts))

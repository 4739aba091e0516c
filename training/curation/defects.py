"""Defects of cases: the reason, and the file at fault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from CTSAM3DLib.errors import CTSAM3DError, VolumeError


class Defect(CTSAM3DError):  # noqa: N818 - of the data, not of the program
    """A case cannot be curated: one sentence of why, and the file that is to blame ("" for none)."""

    def __init__(self, reason: str, file: str = "") -> None:
        super().__init__(reason, file)  # both, so that it crosses processes
        self.reason, self.file = reason, file

    def __str__(self) -> str:
        return self.reason


@contextmanager
def blaming(file: Path) -> Iterator[None]:
    """Turn a VolumeError of the block into a Defect of this file."""
    try:
        yield
    except VolumeError as error:
        raise Defect(str(error), str(file)) from error

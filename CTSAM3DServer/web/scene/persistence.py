"""A workspace on disk: which CT, and the clicks of each segment. Masks are not saved: they follow from the clicks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.segmentation.growth import Reach

FILE = "workspace.json"


class SavedSegment(BaseModel):
    """A segment without its mask."""

    name: str
    color: tuple[float, float, float]
    terminology: str
    visible: bool
    clicks: list[dict[str, Any]]
    """As `Click.to_dict` gives them, LPS mm."""


class SavedWorkspace(BaseModel):
    """All that a workspace needs to be there again."""

    ct: str
    """The CT's file or folder."""
    series: str = ""
    """Which of several CT series in it, by its number; empty where there is one."""
    name: str
    reach: Reach
    backend: str
    model: str
    segments: list[SavedSegment]
    selected: int

    def write(self, folder: Path) -> None:
        """Save whole or not at all. Raises OutputError."""
        with atomic_write(folder / FILE) as temporary:
            temporary.write_text(self.model_dump_json(), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> SavedWorkspace | None:
        """What was saved in a folder, or None where nothing was, or nothing that can be read."""
        try:
            return cls.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            return None

"""Sources of the three curated tissues, one module each; `provider_for` chooses one."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.volume import Volume

CHOICES = "rules, totalsegmentator, or a folder of masks"


class TissueProvider(Protocol):
    """A source of tissues; holds settings only, since it is pickled for other processes."""

    @property
    def made_by(self) -> str:
        """What made the tissues, for data cards."""

    @property
    def notice(self) -> str:
        """What the licence of the tissues asks of those who use them; "" for nothing."""

    def file_for(self, case: str) -> Path | None:
        """The file that the tissues of a case are read from, if there is one. Raises Defect where it is missing."""

    def tissues(self, case: str, ct: Volume, labels: Volume) -> Volume:
        """Return TotalSegmentator's tissue types (uint8: 1 subcutaneous fat, 2 visceral fat, 3 skeletal muscle).

        `ct` (int16 HU) and `labels` (values of `anatomy.EXTENDED`) are in RAI, and so is the result, on their grid.
        Raises Defect.
        """


def provider_for(choice: str, license_number: str | None = None) -> TissueProvider:
    """Return the source that `--tissues` names. Raises CTSAM3DError where there is none such or it is not installed."""
    from training.curation.tissues.precomputed import PrecomputedTissues
    from training.curation.tissues.rules import RuleTissues
    from training.curation.tissues.totalsegmentator import TotalSegmentatorTissues

    if choice == "rules":
        return RuleTissues()
    if choice == "totalsegmentator":
        return TotalSegmentatorTissues(license_number)
    if Path(choice).is_dir():
        return PrecomputedTissues(Path(choice).resolve())
    raise CTSAM3DError(f"There are no tissues at {choice}; choose {CHOICES}.")

"""Tissues by TotalSegmentator's task `tissue_types`, which needs its package and a licence key.

The key is free of charge for non-commercial use (https://backend.totalsegmentator.com/license-academic/). The package
asks its server whether the key is valid, fetches the weights from there, and sends anonymous usage statistics unless
that is switched off in its own configuration.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.volume import Volume
from training.curation.defects import Defect, blaming
from training.data.datasets.records import read_labels

TASK = "tissue_types"
_PACKAGE = "TotalSegmentator"


@dataclass(frozen=True)
class TotalSegmentatorTissues:
    """The task at 1.5 mm, on a GPU where there is one. Raises CTSAM3DError where the package is not installed."""

    license_number: str | None = field(default=None, repr=False)
    notice: str = "tissues: non-commercial, unless the licence key of TotalSegmentator is a commercial one"

    def __post_init__(self) -> None:
        if importlib.util.find_spec("totalsegmentator") is None:
            raise CTSAM3DError(f"{_PACKAGE} is not installed; pip install {_PACKAGE}, or choose --tissues rules.")

    @property
    def made_by(self) -> str:
        """The task and the version of the package."""
        return f"{_PACKAGE} {importlib.metadata.version(_PACKAGE)}, {TASK}"

    def file_for(self, case: str) -> None:
        """None: the tissues are computed."""

    def tissues(self, case: str, ct: Volume, labels: Volume) -> Volume:
        """Return what the task finds in the CT. Raises Defect where the key is refused or the network fails."""
        from totalsegmentator.python_api import totalsegmentator

        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "ct.nii.gz"), Path(folder, "tissues.nii.gz")
            ct.write(source)
            said = io.StringIO()
            try:
                with contextlib.redirect_stdout(said):
                    totalsegmentator(source, target, ml=True, task=TASK, quiet=True, license_number=self.license_number)
            except SystemExit as error:  # how the package refuses a key, once it has printed why
                raise Defect(_refusal(said.getvalue())) from error
            except Exception as error:  # whatever a foreign network raises at one case must not end the others
                raise Defect(f"{_PACKAGE} failed at {case}: {type(error).__name__}: {error}") from error
            with blaming(target):
                return Volume(read_labels(target, ct).array, ct.geometry, case)


def _refusal(said: str) -> str:
    """The sentence for what the package printed before it gave up; it may have printed the key, so it is not quoted."""
    if "An Exception occurred" in said:
        why = f"{_PACKAGE} cannot ask its server whether its licence key is valid; go online"
    elif "It requires a license" in said:
        why = f"{_PACKAGE} has no licence key; set TOTALSEGMENTATOR_LICENSE to one"
    else:
        why = f"{_PACKAGE} refuses its licence key; set TOTALSEGMENTATOR_LICENSE to a valid one"
    return f"{why}, or choose --tissues rules."

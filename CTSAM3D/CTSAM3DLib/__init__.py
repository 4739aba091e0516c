"""CT-SAM3D: segment any structure in a CT by clicking on it.

    from CTSAM3DLib import Click, Segmenter, Volume

    session = Segmenter.load().open(Volume.read("ct.nii.gz"))
    result = session.segment([Click((-62.0, -18.0, 1104.5))])
    result.mask.write("mask.nii.gz")

Positions are LPS millimetres; arrays are z, y, x. Importing this package imports neither torch nor SimpleITK.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from CTSAM3DLib.clicks.click import Click
    from CTSAM3DLib.imaging.volume import Volume
    from CTSAM3DLib.remote.remote_segmenter import connect
    from CTSAM3DLib.segmentation.result import Result
    from CTSAM3DLib.segmentation.session import Segmenter, Session

# Waiting threads of PyTorch sleep. By default they spin, which makes a click many times slower while other programs use
# the processor (docs/speed.md). PyTorch reads the variable when it is loaded; a value set by the user is kept.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"
"""Stated here, since Slicer installs the files without package metadata."""

__all__ = ["Click", "Result", "Segmenter", "Session", "Volume", "connect"]

_HOME = {
    "Click": "clicks.click",
    "Result": "segmentation.result",
    "Segmenter": "segmentation.session",
    "Session": "segmentation.session",
    "Volume": "imaging.volume",
    "connect": "remote.remote_segmenter",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")

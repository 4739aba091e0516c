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
    from CTSAM3DLib.clicks import Click
    from CTSAM3DLib.remote import connect
    from CTSAM3DLib.result import Result
    from CTSAM3DLib.session import Segmenter, Session
    from CTSAM3DLib.volume import Volume

# Threads of PyTorch that wait for one another shall sleep. By default they spin, which makes a click many times slower
# as soon as other programs want the processor (docs/speed.md). Read when PyTorch is loaded; whoever has set it decides.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"
"""Lies here, since in Slicer the files are there without a distribution that could be asked."""

__all__ = ["Click", "Result", "Segmenter", "Session", "Volume", "connect"]

_HOME = {
    "Click": "clicks",
    "Result": "result",
    "Segmenter": "session",
    "Session": "session",
    "Volume": "volume",
    "connect": "remote",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")

"""Real CTs and golden numbers, which are not part of the project: `CTSAM3D_TEST_DATA` says where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("CTSAM3D_TEST_DATA", ROOT / ".." / "shared" / "data")).resolve()
"""A folder with a dataset.json, `ct/` and `label/`; by default beside the project."""
REFERENCE = DATA.with_name("reference")


def is_there(*names: str) -> bool:
    """Whether these files are in the folder of data; without names, whether the folder is there."""
    return DATA.is_dir() and all((DATA / name).exists() for name in names)


def needs_data(*names: str) -> pytest.MarkDecorator:
    """A test that needs real CTs, or these files of theirs; it is skipped where they are absent (`conftest.py`)."""
    return pytest.mark.data(*names)

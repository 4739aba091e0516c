"""Fixtures for tests that need Slicer's window: `from Testing.host.fixtures import slicer_host` in a conftest.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from Testing.host.host import Host, running


@pytest.fixture
def slicer_host(tmp_path: Path) -> Iterator[Host]:
    """A new host; skips, and says why, where Qt or slicer-core is missing."""
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    try:
        context = running(tmp_path)
        host = context.__enter__()
    except ImportError as error:
        pytest.skip(str(error))
    try:
        yield host
    finally:
        context.__exit__(None, None, None)

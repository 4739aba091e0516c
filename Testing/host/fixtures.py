"""Fixtures for tests that need Slicer's window: `from Testing.host.fixtures import slicer_host` in a conftest.py."""

import gc
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from Testing.host.host import Host, running


@pytest.fixture
def slicer_host(tmp_path: Path) -> Iterator[Host]:
    """A new host; skips, and says why, where Qt or slicer-core is missing."""
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    with ExitStack() as stack:
        try:
            host = stack.enter_context(running(tmp_path))
        except ImportError as error:
            pytest.skip(str(error))
        yield host
    del host
    gc.collect()

"""Real MRML without the application."""

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed; pip install '.[dev]'")


@pytest.fixture
def scene():
    """An empty scene, as Slicer makes it."""
    from Testing.support.mrml_scenes import scene_of_slicer

    with scene_of_slicer() as made:
        yield made

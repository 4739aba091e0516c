"""Real MRML without the application: a scene with the logics that its nodes need."""

from types import SimpleNamespace

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed; pip install '.[dev]'")


@pytest.fixture
def scene():
    """A scene as Slicer makes it; `slicer.util` finds it while the test runs."""
    made = slicer.vtkMRMLScene()
    # Registers the conversion rules of segmentations and the storage of markups. They are kept alive by the tuple.
    logics = (
        slicer.vtkSlicerApplicationLogic(),
        slicer.vtkSlicerSegmentationsModuleLogic(),
        slicer.vtkSlicerMarkupsLogic(),
        slicer.vtkSlicerVolumesLogic(),
    )
    for logic in logics:
        logic.SetMRMLScene(made)
    application, segmentations, _, volumes = logics
    colors = application.GetColorLogic()  # label maps, which masks are exported through, look for their color table
    colors.SetMRMLScene(made)
    colors.AddDefaultColorNodes()
    application.SetModuleLogic("Colors", colors)
    before = {name: getattr(slicer, name, None) for name in ("mrmlScene", "modules")}
    slicer.mrmlScene = made
    slicer.modules = SimpleNamespace(
        segmentations=SimpleNamespace(logic=lambda: segmentations), volumes=SimpleNamespace(logic=lambda: volumes)
    )
    yield made
    made.Clear(1)
    for name, value in before.items():
        setattr(slicer, name, value)

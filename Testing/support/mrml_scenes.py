"""Scenes of slicer-core as Slicer would make them."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import slicer
import slicer.util

_LOGICS = (
    slicer.vtkSlicerApplicationLogic,
    slicer.vtkSlicerSegmentationsModuleLogic,
    slicer.vtkSlicerVolumesLogic,
    slicer.vtkSlicerMarkupsLogic,
)


@contextmanager
def scene_of_slicer() -> Iterator:
    """A scene with the logics that its nodes need, which `slicer.util` finds meanwhile; nested ones are possible."""
    scene = slicer.vtkMRMLScene()
    # They register the conversion rules of segmentations and the storage of markups, as long as they live.
    application, segmentations, volumes, _ = logics = [logic() for logic in _LOGICS]
    for logic in logics:
        logic.SetMRMLScene(scene)
    colors = application.GetColorLogic()  # label maps, which masks are exported through, look for their color table
    colors.SetMRMLScene(scene)
    colors.AddDefaultColorNodes()
    application.SetModuleLogic("Colors", colors)
    modules = SimpleNamespace(
        segmentations=SimpleNamespace(logic=lambda: segmentations), volumes=SimpleNamespace(logic=lambda: volumes)
    )
    names = {"mrmlScene": scene, "modules": modules}
    before = {name: getattr(slicer, name) for name in names if hasattr(slicer, name)}
    for name, value in names.items():
        setattr(slicer, name, value)
    try:
        yield scene
    finally:
        scene.Clear(1)
        for name in names:
            delattr(slicer, name)
        for name, value in before.items():
            setattr(slicer, name, value)

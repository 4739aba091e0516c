"""A case as 3D Slicer opens it: a segmentation with names and colours, and a scene that shows it on its CT.

The scene names both files by relative paths, so that the curated folder can be moved and no CT is stored twice.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import slicer

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.errors import OutputError
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.output.seg_nrrd import Segment, write_segmentation
from training import anatomy
from training.curation.colors import color_of

WINDOW = (-160.0, 240.0)
"""HU that the CT is shown with."""


def write_scene(labels: Volume, ct_file: Path, segmentation_file: Path, scene_file: Path) -> None:
    """Write the labels (values of `anatomy.EXTENDED`) as a .seg.nrrd, and a .mrml of it and the CT.

    Raises OutputError.
    """
    segments = [
        Segment(anatomy.EXTENDED[value], value, color_of(value)) for value in np.unique(labels.array).tolist() if value
    ]
    write_segmentation(labels, segmentation_file, segments)
    with atomic_write(scene_file) as temporary:

        def seen_from_scene(file: Path) -> str:
            # MRML makes paths relative to the file that it writes, which is moved afterwards.
            return os.path.abspath(temporary.parent / os.path.relpath(file, scene_file.parent))

        scene = slicer.vtkMRMLScene()
        volume = _add(scene, "ScalarVolume", labels.name, "VolumeArchetype", seen_from_scene(ct_file))
        of_labels = f"{labels.name} labels"
        segmentation = _add(scene, "Segmentation", of_labels, "Segmentation", seen_from_scene(segmentation_file))
        segmentation.SetNodeReferenceID(segmentation.GetReferenceImageGeometryReferenceRole(), volume.GetID())
        _show(scene, volume, segmentation)
        scene.Commit(str(temporary))
        if not temporary.is_file():
            raise OutputError(f"{scene_file} cannot be written; look whether the disk is full.")


def _show(scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode, segmentation: slicer.vtkMRMLNode) -> None:
    """Have the slice views show the CT, and the Segment Editor ready to edit."""
    display = volume.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(*WINDOW)
    for view in ("Red", "Green", "Yellow"):
        composite = _add_singleton(scene, slicer.vtkMRMLSliceCompositeNode(), view)
        composite.SetLayoutName(view)
        composite.SetBackgroundVolumeID(volume.GetID())
    editor = _add_singleton(scene, slicer.vtkMRMLSegmentEditorNode(), "SegmentEditor")
    editor.SetAndObserveSegmentationNode(segmentation)
    editor.SetAndObserveSourceVolumeNode(volume)


def _add_singleton(scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLNode, tag: str) -> slicer.vtkMRMLNode:
    """Add a node of which Slicer has one already, which then takes the contents of this one."""
    node.SetSingletonTag(tag)
    return scene.AddNode(node)


def _add(scene: slicer.vtkMRMLScene, kind: str, name: str, storage_kind: str, file: str) -> slicer.vtkMRMLStorableNode:
    """Add a node that is read from a file when the scene is opened; nothing is read now."""
    node = scene.AddNewNodeByClass(f"vtkMRML{kind}Node", name)
    storage = scene.AddNewNodeByClass(f"vtkMRML{storage_kind}StorageNode")
    storage.SetFileName(file)
    node.SetAndObserveStorageNodeID(storage.GetID())
    node.CreateDefaultDisplayNodes()
    return node

"""Segmentation nodes to and from .seg.nrrd files, without the application."""

from __future__ import annotations

import os
from pathlib import Path

import slicer

from CTSAM3DLib.atomic import atomic_write, check_output
from CTSAM3DLib.errors import CTSAM3DError, OutputError

ENDING = ".seg.nrrd"


def write_segmentation_node(segmentation_node: slicer.vtkMRMLSegmentationNode, path: str | os.PathLike[str]) -> None:
    """Write the segments with names, colours and tags, whole or not at all. Raises OutputError.

    Positions are those of the local frame: harden a transform first if the file is to have it.
    """
    path = Path(path)
    check_output(path, (ENDING,))
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetUseCompression(True)
    with atomic_write(path) as temporary:
        storage.SetFileName(str(temporary))
        if not storage.WriteData(segmentation_node) or not temporary.is_file():
            raise OutputError(f"{path} cannot be written; look whether the disk is full.")


def read_segmentation_node(scene: slicer.vtkMRMLScene, path: str | os.PathLike[str]) -> slicer.vtkMRMLSegmentationNode:
    """Add the segmentation in a .seg.nrrd file to the scene. Raises CTSAM3DError."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", Path(path).name.removesuffix(ENDING))
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    if not Path(path).is_file() or not storage.ReadData(node):
        scene.RemoveNode(node)
        raise CTSAM3DError(f"{path} is not a segmentation that can be read; give a {ENDING} file.")
    node.CreateDefaultDisplayNodes()
    return node

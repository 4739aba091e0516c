"""What is seen: the MRML scene of a workspace with its CT and the four views on it.

Positions are world RAS mm, as in all of MRML; the scene holds no transforms, so that the library's LPS differs from it
by two signs alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import slicer
import vtk
from trame_server import Server
from trame_slicer.core import LayoutManager, SlicerApp, VolumeWindowLevel
from trame_slicer.rca_view import register_rca_factories
from trame_slicer.views import AbstractView, Layout, LayoutDirection, SliceView, ThreeDView, ViewLayoutDefinition

from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.mrml.frames import matrix_array
from CTSAM3DLib.mrml.volumes import add_volume_node

WINDOWS: dict[str, tuple[float, float]] = {
    "Soft tissue": (-160.0, 240.0),
    "Lung": (-1350.0, 150.0),
    "Bone": (-500.0, 1300.0),
    "Whole range": (-1024.0, 1500.0),
}
"""HU shown as black and as white."""

AXIAL = ViewLayoutDefinition.axial_view()
CORONAL = ViewLayoutDefinition.coronal_view()
SAGITTAL = ViewLayoutDefinition.sagittal_view()
SURFACES = ViewLayoutDefinition.threed_view(background_color=("#10151c", "#2b3542"))
SLICES = (AXIAL, CORONAL, SAGITTAL)

_BESIDE = Layout(LayoutDirection.Vertical, [SURFACES, CORONAL, SAGITTAL])
LAYOUTS = {
    "Axial": Layout(LayoutDirection.Horizontal, [AXIAL, _BESIDE], ["2", "1"]),
    "Four": Layout(
        LayoutDirection.Horizontal,
        [
            Layout(LayoutDirection.Vertical, [AXIAL, CORONAL]),
            Layout(LayoutDirection.Vertical, [SURFACES, SAGITTAL]),
        ],
    ),
    "3D": Layout(LayoutDirection.Horizontal, [SURFACES, Layout(LayoutDirection.Vertical, list(SLICES))], ["2", "1"]),
}

BEFORE_THE_VIEW = 10.0
"""Priority of observers that hear an event even where the view takes it for its own."""

ViewDecorator = Callable[[Server, str, AbstractView], None]


class Scene:
    """The scene, its CT and its views. `on_slice` and `on_surfaces` draw HTML over a view when it is made."""

    def __init__(self, server: Server, on_slice: ViewDecorator, on_surfaces: ViewDecorator) -> None:
        self.app = SlicerApp()
        self.mrml: slicer.vtkMRMLScene = self.app.scene
        self.editor = self.app.segmentation_editor
        self.ct: slicer.vtkMRMLScalarVolumeNode | None = None
        register_rca_factories(
            self.app.view_manager,
            server,
            slice_view_ui_f=on_slice,
            three_d_view_ui_f=on_surfaces,
            interactive_quality=75,
        )
        self.layouts = LayoutManager(self.mrml, self.app.view_manager, server)
        self.layouts.register_layout_dict(LAYOUTS)
        self.layouts.set_layout("Axial")
        for view in (*self.slice_views(), *self.surface_views()):
            view.render_window().SetMultiSamples(0)  # without a GPU, a slice takes four times as long with them
        for view in self.surface_views():
            view.renderer().SetUseFXAA(True)

    def show_ct(self, volume: Volume, name: str) -> slicer.vtkMRMLScalarVolumeNode:
        """Put a CT in place of the one that there is. Raises VolumeError."""
        node = add_volume_node(self.mrml, volume, name)
        before, self.ct = self.ct, node
        node.CreateDefaultDisplayNodes()
        for view in self.slice_views():
            view.set_background_volume_id(node.GetID())
        if before is not None:
            self.mrml.RemoveNode(before)
        self.fit()
        return node

    def fit(self) -> None:
        """Show all of the CT in every view."""
        for view in (*self.slice_views(), *self.surface_views()):
            view.reset_view()

    def set_window(self, low: float, high: float) -> None:
        """HU that are black and white."""
        if self.ct is not None:
            VolumeWindowLevel.set_volume_node_display_min_max_range(self.ct, low, high)

    def centre_on(self, world: tuple[float, float, float]) -> None:
        """Let all slices go through a point."""
        for view in self.slice_views():
            view.get_view_node().JumpSliceByCentering(*world)

    def slice_views(self) -> list[SliceView]:
        """The axial, coronal and sagittal view."""
        return self.app.view_manager.get_slice_views()

    def surface_views(self) -> list[ThreeDView]:
        """The view in 3D."""
        return self.app.view_manager.get_threed_views()

    def hold_surfaces(self) -> None:
        """Let the view in 3D keep its picture, whatever happens, until `release_surfaces`."""
        for view in self.surface_views():
            view.set_render_blocked(True)

    def release_surfaces(self) -> None:
        """Let the view in 3D show what there is."""
        for view in self.surface_views():
            view.set_render_blocked(False)

    def hu(self, world: tuple[float, float, float]) -> float | None:
        """The CT's value at a point, None outside."""
        if self.ct is None:
            return None
        to_ijk = vtk.vtkMatrix4x4()
        self.ct.GetRASToIJKMatrix(to_ijk)
        i, j, k = (round(n) for n in (matrix_array(to_ijk) @ (*world, 1.0))[:3])
        image = self.ct.GetImageData()
        if not all(0 <= n < size for n, size in zip((i, j, k), image.GetDimensions(), strict=True)):
            return None
        return float(image.GetScalarComponentAsDouble(i, j, k, 0))


def letters(view: SliceView) -> dict[str, str]:
    """The patient's side at each edge of a slice view: "R", "L", "A", "P", "S" or "I", two where it is oblique."""
    to_ras = matrix_array(view.get_view_node().GetSliceToRAS())
    right, up = to_ras[:3, 0], to_ras[:3, 1]
    return {"left": _side(-right), "right": _side(right), "top": _side(up), "bottom": _side(-up)}


def _side(direction: np.ndarray) -> str:
    """The letters of a direction in RAS, the strongest first."""
    names = ["LR"[int(direction[0] > 0)], "PA"[int(direction[1] > 0)], "IS"[int(direction[2] > 0)]]
    strongest = np.argsort(-np.abs(direction))
    return "".join(names[axis] for axis in strongest if abs(direction[axis]) > 0.25)[:2]

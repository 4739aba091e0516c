"""A workspace: what a person does on its page, and what becomes of it.

    a click in a view -> Clicking -> the segment's mask -> `refresh` -> the page

The clicks and the masks live in the segments; the page's state is a picture of them, drawn anew by `refresh`. Whatever
goes wrong is one sentence on the page, with everything that the user made still there.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from trame_server.state import State

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.dicom.find import SeveralSeriesError
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.interaction.backends import THIS_COMPUTER, BackendChoice
from CTSAM3DLib.mrml.frames import to_world
from CTSAM3DLib.segmentation.growth import Reach
from CTSAM3DServer.web.scene.persistence import SavedWorkspace
from CTSAM3DServer.web.scene.scene import WINDOWS, Scene
from CTSAM3DServer.web.scene.terminology import anatomy
from CTSAM3DServer.web.scene.upload import choices_of, read_ct, write_sample
from CTSAM3DServer.web.workspace.backends import Backends
from CTSAM3DServer.web.workspace.clicking import Clicking
from CTSAM3DServer.web.workspace.messages import Messages
from CTSAM3DServer.web.workspace.segments import Segments, rgb_color

SURFACES_AFTER_S = 0.3
"""Surfaces are made once no click has come for so long."""


class Workspace:
    """One CT with its segments. `folder` is where its uploads lie, and where it is saved after every change."""

    def __init__(self, state: State, scene: Scene, backends: Backends, folder: Path) -> None:
        self.state = state
        self.scene = scene
        self.backends = backends
        self.folder = folder
        self.uploads = folder / "uploads"
        self.terms = anatomy()
        self.messages = Messages(state)
        self.clicking = Clicking(scene, self.messages, self._choice, self.refresh)
        self.segments: Segments | None = None
        self._ct_file: Path | None = None
        self._ct_series = ""
        self._choosing: tuple[Path, str] | None = None
        self._saved: SavedWorkspace | None = None
        self._surfaces: asyncio.TimerHandle | None = None
        state.update(first_state() | {"terms": list(self.terms)})
        state.change("swapped")(self._on_swapped)
        self._show_backends()

    # Opening

    async def open_ct(self, path: Path, name: str, saved: SavedWorkspace | None = None, series: str = "") -> bool:
        """Open a CT in place of the one that there is, with segments that were saved; whether it could be opened.

        Where several CT series are there, the page asks which one; what is wrong is told on the page.
        """
        self._choosing = None
        with self.messages.busy(f"Opening {name}…"):
            try:
                volume = await asyncio.to_thread(read_ct, path, self._is_uploaded(path), series or None)
            except SeveralSeriesError as several:
                choices = await asyncio.to_thread(choices_of, several)
                self._choosing = path, name
                with self.state as state:
                    state.series = [asdict(choice) for choice in choices]
                    state.series_dialog = True
                return False
            self._ct_series = series
            self._show(volume, name, path, saved)
            self.messages.say(" ".join((*volume.notes, "Click inside a structure.")))
            return True
        return False

    async def choose_series(self, number: int) -> None:
        """Open the series of this number in the list that the page has shown."""
        choosing = self._choosing
        with self.state as state:
            state.series_dialog = False
        if choosing is not None:
            await self.open_ct(*choosing, series=str(number))
            self.tidy_uploads()

    def choose_no_series(self) -> None:
        """Open none of them; what is open stays open."""
        self._choosing = None
        with self.state as state:
            state.series_dialog = False
        self.tidy_uploads()

    def tidy_uploads(self) -> None:
        """Delete what was uploaded, but for the CT that is open and the one whose series is being chosen."""
        needed = [path for path in (self._ct_file, self._choosing and self._choosing[0]) if path is not None]
        for folder in self.uploads.iterdir() if self.uploads.is_dir() else ():
            if not any(path.is_relative_to(folder) for path in needed):
                shutil.rmtree(folder, ignore_errors=True)

    async def open_sample(self) -> None:
        """Open the synthetic torso."""
        path = self.folder / "sample.nii.gz"
        with self.messages.busy("Making the sample CT…"):
            if not path.exists():
                await asyncio.to_thread(write_sample, path)
        if path.exists():
            await self.open_ct(path, "Sample torso")

    async def begin(self, ct: Path | None) -> None:
        """Open what was saved here before, else this CT, if any; masks are made anew from their clicks."""
        saved = SavedWorkspace.read(self.folder)
        if saved is None and ct is not None:
            await self.open_ct(ct, ct.name.split(".")[0])
        if (
            saved is None
            or not await self.open_ct(Path(saved.ct), saved.name, saved, saved.series)
            or self.segments is None
        ):
            return
        self.backends.know(saved.backend, saved.model)
        self.state.reach, self.state.backend, self.state.model = saved.reach, saved.backend, saved.model
        self._show_backends()
        self.clicking.ask_waiting()

    def _is_uploaded(self, path: Path) -> bool:
        """Whether a CT lies in this workspace; only the first one can lie elsewhere, where its owner has put it."""
        return path.is_relative_to(self.folder)

    def _show(self, volume: Volume, name: str, path: Path, saved: SavedWorkspace | None) -> None:
        node = self.scene.show_ct(volume, name)
        before, self.segments = self.segments, Segments(self.scene, node)
        if saved is not None:
            self.segments.restore(saved.segments, saved.selected)
        self.clicking.begin(self.segments)
        if before is not None:
            before.close()
        self._ct_file = path
        x, y, z = volume.geometry.spacing
        size = " by ".join(str(n) for n in volume.geometry.shape[::-1])
        self.state.ct_name = name
        self.state.ct_size = f"{size} voxels of {x:.3g}, {y:.3g}, {z:.3g} mm"
        self.choose_window(self.state.window)
        self.refresh()

    # Choices

    def choose_window(self, name: str) -> None:
        """Show the CT in one of `WINDOWS`."""
        with self.state as state:
            state.window = name
        self.scene.set_window(*WINDOWS[name])

    def choose_next_window(self) -> None:
        """Show the CT in the next of `WINDOWS`."""
        names = list(WINDOWS)
        self.choose_window(names[(names.index(self.state.window) + 1) % len(names)])

    def choose_layout(self, name: str) -> None:
        """Arrange the views in another way."""
        with self.state as state:
            state.layout = name
        self.scene.layouts.set_layout(name)

    def toggle_surfaces(self) -> None:
        """Show the segments as surfaces in 3D, or no longer."""
        with self.state as state:
            state.surfaces = not state.surfaces
        self.refresh()

    def choose_backend(self, address: str) -> None:
        """Compute masks there; a server that the user has not agreed to asks for that first."""
        with self.state as state:
            if self.backends.has_agreed(address):
                state.backend = address
            else:
                state.server_address, state.server_key, state.server_dialog = address, "", True
        self._show_backends()

    async def agree_to_server(self, address: str, key: str) -> None:
        """The user agrees to send to a server, which is chosen once it has answered."""
        with self.messages.busy(f"Asking {address}…"):
            agreed = await self.backends.agree(address, key or None)
            self.state.server_dialog = False
            self.state.backend = agreed
            self.messages.say(f"Masks are computed at {agreed} from now on.")
        self._show_backends()

    def swap(self, swapped: bool) -> None:
        """Whether a left click means outside."""
        self.state.swapped = swapped

    def _on_swapped(self, swapped: bool, **_: object) -> None:
        self.clicking.swapped = swapped

    def go_to_click(self, number: int) -> None:
        """Let the slices go through a click of the selected segment; the first is number 0."""
        clicks = self.clicking.clicks()
        if self.segments is not None and number < len(clicks):
            self.scene.centre_on(to_world(clicks[number].position, self.segments.node))

    def _choice(self) -> tuple[BackendChoice, Reach]:
        return self.backends.choice(self.state.backend, self.state.model), self.state.reach

    def _show_backends(self) -> None:
        with self.state as state:
            state.backends = self.backends.addresses()
            state.models = self.backends.models(state.backend)
            if state.model not in state.models:
                state.model = state.models[0]

    # The page

    def refresh(self) -> None:
        """Bring the views and the page in line with the segments, and save them."""
        segments = self.segments
        if segments is None:
            return
        with self.state as state:
            state.has_ct = True
            state.segments, state.selected = segments.described(), segments.selected()
            state.predicting = self.clicking.busy()
            try:
                state.can_undo, state.can_redo = self.clicking.can_undo(), self.clicking.can_redo()
                self.clicking.show()
                state.waits = self.clicking.waits()
                state.clicks = [{"positive": click.positive} for click in self.clicking.clicks()]
            except CTSAM3DError as error:  # a tag that something else wrote; the next click replaces it
                state.clicks = []
                self.messages.problem(str(error))
        self._show_surfaces_soon()
        self._save(segments)

    def _show_surfaces_soon(self) -> None:
        if self._surfaces is not None:
            self._surfaces.cancel()
        self._surfaces = asyncio.get_running_loop().call_later(SURFACES_AFTER_S, self._show_surfaces)

    def _show_surfaces(self) -> None:
        if self.segments is None or self.clicking.busy():
            return
        if self.state.surfaces:
            self.segments.show_surfaces()
        else:
            self.segments.drop_surfaces()

    def _save(self, segments: Segments) -> None:
        try:
            state = self.state
            saved = SavedWorkspace(
                ct=str(self._ct_file),
                series=self._ct_series,
                name=state.ct_name,
                reach=state.reach,
                backend=state.backend,
                model=state.model,
                segments=segments.saved(),
                selected=segments.ids().index(segments.selected()),
            )
            if saved != self._saved:
                saved.write(self.folder)
                self._saved = saved
        except CTSAM3DError as error:
            self.messages.problem(f"Your clicks are not saved: {error}")

    # Segments

    def add_segment(self) -> None:
        """Add a segment and choose it."""
        if self.segments is not None:
            self.clicking.do(self.segments.add)

    def select(self, segment_id: str) -> None:
        """Let clicks belong to this segment."""
        if self.segments is not None and segment_id in self.segments.ids():
            self.segments.select(segment_id)
            self.refresh()

    def select_number(self, number: int) -> None:
        """Let clicks belong to the segment in this place of the list; the first is number 1."""
        if self.segments is not None and number <= len(self.segments.ids()):
            self.select(self.segments.ids()[number - 1])

    def toggle_selected(self) -> None:
        """Show or hide the selected segment."""
        for segment in self.state.segments:
            if segment["id"] == self.state.selected:
                self.set_visible(segment["id"], not segment["visible"])

    def remove(self, segment_id: str) -> None:
        """Delete a segment."""
        self._edit(segment_id, lambda segments: segments.remove(segment_id))

    def rename(self, segment_id: str, name: str) -> None:
        """Call a segment otherwise."""
        self._edit(segment_id, lambda segments: segments.rename(segment_id, name))

    def recolor(self, segment_id: str, color: str) -> None:
        """Give a segment another colour, #rrggbb."""
        self._edit(segment_id, lambda segments: segments.recolor(segment_id, rgb_color(color)))

    def set_visible(self, segment_id: str, visible: bool) -> None:
        """Show or hide a segment."""
        self._edit(segment_id, lambda segments: segments.set_visible(segment_id, visible))

    def set_term(self, name: str | None) -> None:
        """Say by a standard term what the selected segment is."""
        if name in self.terms:
            term = self.terms[name]
            selected = self.state.selected
            self._edit(selected, lambda segments: segments.set_term(selected, term))

    def _edit(self, segment_id: str, edit: Callable[[Segments], object]) -> None:
        segments = self.segments
        if segments is not None and segment_id in segments.ids():
            self.clicking.do(lambda: edit(segments))


def first_state() -> dict[str, object]:
    """What the page shows at first. All of it follows the workspace, but for what the user chooses on the page."""
    return {
        # What is open, and how it is looked at.
        **{"has_ct": False, "ct_name": "", "ct_size": "", "windows": list(WINDOWS), "window": next(iter(WINDOWS))},
        **{"layout": "Axial", "surfaces": True},
        # The segments, and the clicks of the selected one.
        **{"segments": [], "selected": "", "clicks": [], "swapped": False},
        **{"predicting": False, "waits": False, "can_undo": False, "can_redo": False},
        # How masks are made, and where.
        **{"reach": "structure", "model": "", "backend": THIS_COMPUTER},
        **{"server_dialog": False, "server_address": "", "server_key": ""},
        # Several CT series to choose from.
        **{"series_dialog": False, "series": []},
    }

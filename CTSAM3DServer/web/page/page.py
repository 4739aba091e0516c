"""The page: toolbar, side panel, views, and what lies over them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trame.ui.vuetify3 import VAppLayout
from trame.widgets import html
from trame.widgets import vuetify3 as v3
from trame_server import Server

from CTSAM3DServer.web.page.panel import side_panel
from CTSAM3DServer.web.page.shortcuts import Shortcut, shortcuts
from CTSAM3DServer.web.workspace.workspace import Workspace

STATIC = Path(__file__).with_name("static")

MOUSE = (
    ("Left click", "inside the structure"),
    ("Ctrl + left click, or right click", "outside: this does not belong to it"),
    ("Drag a point", "move a click; right-click on it to delete it"),
    ("Wheel", "through the slices"),
    ("Right drag", "zoom"),
    ("Middle drag, or Shift + left drag", "move the picture; in 3D, left drag turns it"),
    ("Shift + move", "let the other views follow the mouse"),
)


def build_page(server: Server, workspace: Workspace) -> VAppLayout:
    """Lay the page out; everything on it calls a method of the workspace or shows its state."""
    server.enable_module(
        {
            "serve": {"ctsam3d": str(STATIC)},
            "scripts": ["ctsam3d/page.js"],
            "styles": ["ctsam3d/page.css"],
            "vue_use": ["ctsam3dPage"],
        }
    )
    state = server.state
    state.trame__title = "CT-SAM3D"
    state.trame__favicon = None
    state.trame__template_error = "<ctsam3d-lost></ctsam3d-lost>"
    state.update({"help": False, "upload": -1, "dropping": False})
    keys = shortcuts(workspace)
    actions = {name: key.action for key in keys for name in key.keys}
    state.keys = list(actions)
    server.controller.trigger("sample")(workspace.open_sample)
    server.controller.trigger("key")(lambda name: actions[name]() if name in actions else None)
    with VAppLayout(server, theme="dark", full_height=True) as layout:
        _toolbar(workspace)
        side_panel(workspace)
        with v3.VMain(classes="ctsam3d-views"):
            workspace.scene.layouts.initialize_layout_grid(layout)
            _welcome(workspace)
        _help(keys)
        _server_dialog(workspace)
        _series_dialog(workspace)
        _busy()
        _problem()
    return layout


def _button(icon: str, tip: str, **kwargs: object) -> None:
    with v3.VBtn(icon=True, size="small", raw_attrs=[f'aria-label="{tip}"'], **kwargs):
        v3.VIcon(icon)
        v3.VTooltip(tip, activator="parent", location="bottom")


def _one_of(name: str, choose: Callable[[str], None]) -> v3.VBtnToggle:
    """Buttons of which one is down: that of the state's value of this name."""
    return v3.VBtnToggle(
        model_value=(name,),
        update_modelValue=(choose, "[$event]"),
        mandatory=True,
        density="compact",
        variant="outlined",
        divided=True,
    )


def _toolbar(workspace: Workspace) -> None:
    with v3.VAppBar(density="compact", flat=True, classes="px-2"):
        html.Span("CT-SAM3D", classes="ctsam3d-title")
        with (
            v3.VBtn("Open", prepend_icon="mdi-folder-open-outline", variant="tonal", size="small", classes="mx-2"),
            v3.VMenu(activator="parent"),
            v3.VList(density="compact"),
        ):
            v3.VListItem(title="CT file or DICOM zip…", prepend_icon="mdi-file-outline", click="ctsam3d.pick(false)")
            v3.VListItem(title="DICOM folder…", prepend_icon="mdi-folder-outline", click="ctsam3d.pick(true)")
            v3.VListItem(title="Sample CT", prepend_icon="mdi-human", click="ctsam3d.sample()")
        with (
            v3.VBtn(
                "Save",
                prepend_icon="mdi-download",
                variant="tonal",
                size="small",
                classes="mr-2",
                disabled=("!has_ct",),
            ),
            v3.VMenu(activator="parent"),
            v3.VList(density="compact"),
        ):
            for kind, title in (
                ("seg.nrrd", "Segments, .seg.nrrd"),
                ("nii.gz", "Segments as label map, .nii.gz"),
                ("mrk.json", "Clicks, .mrk.json"),
            ):
                v3.VListItem(title=title, click=f"ctsam3d.download('{kind}')")
        _button("mdi-undo", "Undo (U)", click=workspace.clicking.undo, disabled=("!can_undo",))
        _button("mdi-redo", "Redo (Shift+U)", click=workspace.clicking.redo, disabled=("!can_redo",))
        v3.VDivider(vertical=True, classes="mx-2")
        with _one_of("window", workspace.choose_window):
            v3.VBtn("{{ name }}", v_for="name in windows", key="name", value=("name",), size="small")
        v3.VSpacer()
        with _one_of("layout", workspace.choose_layout):
            for name, icon, tip in (
                ("Axial", "mdi-view-split-vertical", "Axial slices large"),
                ("Four", "mdi-view-grid-outline", "Four views of one size"),
                ("3D", "mdi-cube-outline", "3D large"),
            ):
                with v3.VBtn(value=name, size="small", min_width=36, classes="px-0"):
                    v3.VIcon(icon)
                    v3.VTooltip(tip, activator="parent", location="bottom")
        _button("mdi-rotate-3d", "Surfaces in 3D (S)", click=workspace.toggle_surfaces, active=("surfaces",))
        _button("mdi-help-circle-outline", "Help and keys (?)", click="help = true")


def _welcome(workspace: Workspace) -> None:
    with html.Div(classes="ctsam3d-welcome", v_if="!has_ct && !busy"):
        html.H2("Segment any structure in a CT by clicking on it")
        html.P("Drop a CT here: NIfTI, NRRD, MetaImage, a DICOM folder, or a zip of it.")
        with html.Div(classes="d-flex ga-3 justify-center my-4"):
            v3.VBtn("Open a file", prepend_icon="mdi-file-outline", color="primary", click="ctsam3d.pick(false)")
            v3.VBtn("Open a DICOM folder", prepend_icon="mdi-folder-outline", click="ctsam3d.pick(true)")
            v3.VBtn("Try the sample CT", prepend_icon="mdi-human", click="ctsam3d.sample()")
        html.P("Not a medical device; not for clinical use.", classes="text-medium-emphasis")
    html.Div("Drop the CT to open it", classes="ctsam3d-drop", v_if="dropping")


def _help(keys_of_page: list[Shortcut]) -> None:
    with v3.VDialog(v_model=("help",), max_width=640), v3.VCard(title="How to", classes="ctsam3d-help"):
        with v3.VCardText():
            with html.Table():
                for keys, meaning in (*MOUSE, *((key.shown, key.meaning) for key in keys_of_page if key.shown)):
                    with html.Tr():
                        html.Td(keys, classes="ctsam3d-keys")
                        html.Td(meaning)
            html.P(
                "Every further click mends the mask. Clicks belong to their segment and can be moved and deleted at "
                "any time. Not a medical device; not for clinical use.",
                classes="mt-3 text-medium-emphasis",
            )
        with v3.VCardActions():
            v3.VSpacer()
            v3.VBtn("Close", click="help = false")


def _server_dialog(workspace: Workspace) -> None:
    with v3.VDialog(v_model=("server_dialog",), max_width=520), v3.VCard(title="Compute at a server"):
        with v3.VCardText():
            html.P(
                "The parts of the CT around your clicks, and the clicks, are sent to this server. Names and other "
                "headers of the file are not.",
                classes="mb-3",
            )
            v3.VTextField(v_model=("server_address",), label="Address, such as https://gpu:8900", density="compact")
            v3.VTextField(v_model=("server_key",), label="Key, if it asks for one", type="password", density="compact")
        with v3.VCardActions():
            v3.VSpacer()
            v3.VBtn("Cancel", click="server_dialog = false")
            v3.VBtn(
                "Agree and use it",
                color="primary",
                disabled=("!server_address || !!busy",),
                click=(workspace.agree_to_server, "[server_address, server_key]"),
            )


def _series_dialog(workspace: Workspace) -> None:
    with (
        v3.VDialog(v_model=("series_dialog",), max_width=720, persistent=True, scrollable=True),
        v3.VCard(title="Which CT?", subtitle="There are several series; one is opened.", classes="ctsam3d-series"),
    ):
        with (
            v3.VList(lines="three"),
            v3.VListItem(
                v_for="choice in series",
                key="choice.number",
                title=("choice.title",),
                click=(workspace.choose_series, "[choice.number]"),
            ),
            html.Template(v_slot_prepend=True),
        ):
            html.Img(src=("choice.picture",), alt="Its middle slice", width=96, height=96, classes="mr-4")
        with v3.VCardActions():
            v3.VSpacer()
            v3.VBtn("Cancel", click=workspace.choose_no_series)


def _busy() -> None:
    with html.Div(classes="ctsam3d-busy", v_if="busy || upload >= 0"), v3.VCard(classes="pa-4", min_width=280):
        html.Div("{{ upload >= 0 ? 'Reading the files…' : busy }}", classes="mb-3")
        v3.VProgressLinear(indeterminate=("upload < 0",), model_value=("upload",), color="primary")
        v3.VBtn("Cancel", v_if="upload >= 0", size="small", classes="mt-3", click="ctsam3d.cancelUpload()")


def _problem() -> None:
    with v3.VSnackbar(
        model_value=("!!problem",),
        update_modelValue="problem = ''",
        timeout=-1,
        color="error",
        location="bottom right",
        classes="ctsam3d-problem",
    ):
        html.Span("{{ problem }}")
        with html.Template(v_slot_actions=True):
            v3.VBtn("Close", variant="text", click="problem = ''")

"""The side panel: segments, the clicks of the chosen one, where and how masks are made, and how it goes."""

from __future__ import annotations

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from CTSAM3DLib.interaction.controls import REACH_LABELS
from CTSAM3DServer.web.workspace.workspace import Workspace

WIDTH = 300


def side_panel(workspace: Workspace) -> None:
    """Lay the panel out."""
    with v3.VNavigationDrawer(permanent=True, width=WIDTH, classes="ctsam3d-panel"):
        with html.Div(classes="pa-3", v_if="has_ct"):
            html.Div("{{ ct_name }}", classes="ctsam3d-ct", title=("ct_size",))
            html.Div("{{ ct_size }}", classes="ctsam3d-small mb-2")
            _segments(workspace)
            _clicks(workspace)
            _options(workspace)
        with html.Template(v_slot_append=True):
            _status(workspace)


def _segments(workspace: Workspace) -> None:
    with html.Div(classes="d-flex align-center"):
        html.Span("Segments", classes="ctsam3d-heading")
        v3.VSpacer()
        v3.VBtn("Add", prepend_icon="mdi-plus", size="x-small", variant="tonal", click=workspace.add_segment)
    with (
        html.Div(classes="ctsam3d-segments"),
        html.Div(
            v_for="(segment, number) in segments",
            key="segment.id",
            classes=("['ctsam3d-segment', segment.id === selected ? 'ctsam3d-selected' : '']",),
            click=(workspace.select, "[segment.id]"),
        ),
    ):
        html.Input(
            type="color",
            value=("segment.color",),
            title="Colour",
            change=(workspace.recolor, "[segment.id, $event.target.value]"),
        )
        html.Input(
            type="text",
            value=("segment.name",),
            title="Name",
            maxlength=64,
            change=(workspace.rename, "[segment.id, $event.target.value]"),
        )
        html.Span("{{ segment.ml }} mL", classes="ctsam3d-small")
        _row_button(
            ("segment.visible ? 'mdi-eye-outline' : 'mdi-eye-off-outline'",),
            "Show or hide (V)",
            (workspace.set_visible, "[segment.id, !segment.visible]"),
        )
        _row_button("mdi-delete-outline", "Delete the segment", (workspace.remove, "[segment.id]"))
    v3.VAutocomplete(
        label="Standard term",
        items=("terms",),
        model_value=(None,),
        update_modelValue=(workspace.set_term, "[$event]"),
        density="compact",
        hide_details=True,
        classes="mt-2",
        variant="outlined",
    )


def _row_button(icon: str | tuple[str], tip: str, click: object) -> None:
    with v3.VBtn(icon=True, size="x-small", variant="text", title=tip, raw_attrs=[f'aria-label="{tip}"'], click=click):
        v3.VIcon(icon=icon, size="small")


def _clicks(workspace: Workspace) -> None:
    with html.Div(classes="d-flex align-center mt-3"):
        html.Span("Clicks", classes="ctsam3d-heading")
        v3.VSpacer()
        v3.VBtn(
            "Clear",
            size="x-small",
            variant="tonal",
            disabled=("clicks.length === 0",),
            click=workspace.clicking.clear,
        )
    with v3.VBtnToggle(
        model_value=("swapped",),
        update_modelValue=(workspace.swap, "[$event]"),  # shown when the server knows, so that no click is before it
        mandatory=True,
        density="compact",
        variant="outlined",
        divided=True,
        classes="my-2 w-100",
    ):
        v3.VBtn("Inside", value=("false",), size="small", classes="flex-grow-1", base_color="success")
        v3.VBtn("Outside", value=("true",), size="small", classes="flex-grow-1", base_color="error")
    with html.Div(classes="ctsam3d-clicks"):
        v3.VChip(
            "{{ (click.positive ? '+' : '-') + (number + 1) }}",
            v_for="(click, number) in clicks",
            key="number",
            size="small",
            color=("click.positive ? 'success' : 'error'",),
            closable=True,
            model_value=("true",),  # else a chip hides itself, and stays hidden when it stands for the next click
            update_modelValue="void 0",
            title="Go there; the cross deletes it",
            click=(workspace.go_to_click, "[number]"),
            click_close=(workspace.clicking.remove, "[number]"),
        )
        html.Span("None yet: click inside a structure.", v_if="clicks.length === 0", classes="ctsam3d-small")
    v3.VBtn(
        "Try again", v_if="waits", size="small", color="primary", classes="mt-2", click=workspace.clicking.try_again
    )


def _options(workspace: Workspace) -> None:
    select = {"density": "compact", "hide_details": True, "variant": "outlined", "classes": "mt-3"}
    reaches = [{"title": text, "value": reach} for reach, text in REACH_LABELS.items()]
    v3.VSelect(label="Reach", v_model=("reach",), items=("reaches", reaches), **select)
    v3.VSelect(label="Model", v_model=("model",), items=("models",), **select)
    with html.Div(classes="d-flex align-center"):
        v3.VSelect(
            label="Computed at",
            model_value=("backend",),
            items=("backends",),
            update_modelValue=(workspace.choose_backend, "[$event]"),
            **select,
        )
        _row_button("mdi-server-plus", "Use a server", "server_dialog = true")


def _status(workspace: Workspace) -> None:
    with html.Div(classes="pa-3 ctsam3d-status"):
        html.Div("{{ pointer || ' ' }}", classes="ctsam3d-small ctsam3d-pointer")
        with html.Div(classes="d-flex align-center"):
            html.Span("{{ status }}", classes="flex-grow-1")
            v3.VBtn("Cancel", v_if="predicting", size="x-small", variant="tonal", click=workspace.clicking.cancel)
        v3.VProgressLinear(
            indeterminate=True, color="primary", classes="mt-1", style=("{opacity: predicting ? 1 : 0}",)
        )
        html.Div("Not a medical device.", classes="ctsam3d-small mt-1")

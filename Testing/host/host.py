"""Starts the host for a test: its modules where code imports them, and what a user has: mouse, keys, a screen."""

from __future__ import annotations

import gc
import inspect
import os
import sys
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from Testing.host.loading import SubmoduleFinder, load_file

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = ROOT / "CTSAM3D"


@contextmanager
def running(folder: Path, main_window: bool = True) -> Iterator[Host]:
    """A host with a new scene; `qt`, `ctk` and the desktop names of `slicer` can be imported inside.

    Raises ImportError, with a sentence, where Qt cannot start.
    """
    names = dict(_modules())
    import slicer

    # Submodules are not there before they are imported, as in Slicer: `import slicer` alone does not bring them.
    submodules = SubmoduleFinder({name: names.pop(name) for name in list(names) if name.startswith("slicer.")})
    before = {name: sys.modules.get(name) for name in names}
    attributes = dict(slicer.__dict__)
    path = list(sys.path)
    sys.modules.update(names)
    sys.meta_path.insert(0, submodules)
    sys.path.insert(0, str(EXTENSION))
    hook = sys.excepthook
    gc.collect()
    gc.disable()  # it may run in a thread of the code under test, and widgets that are freed there crash Qt
    host = Host(folder, main_window)
    sys.excepthook = host._keep_error
    try:
        yield host
        host.raise_errors()
    finally:
        host._close()
        del host
        gc.collect()
        gc.enable()
        sys.excepthook = hook
        sys.path[:] = path
        sys.meta_path.remove(submodules)
        # A submodule that was imported stays, as the code does that imported it.
        imported = {name: value for name, value in vars(slicer).items() if f"slicer.{name}" in submodules.modules}
        slicer.__dict__.clear()
        slicer.__dict__.update(attributes | imported)
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class Host:
    """One running Slicer without a window."""

    def __init__(self, folder: Path, main_window: bool) -> None:
        import slicer

        from Testing.host import application, mrml_widgets, scripted_module, segment_editor, segment_effect, views

        slicer.app = self.app = application.application()
        self.app._start(folder, main_window)
        for module in (application, mrml_widgets, scripted_module, segment_editor, segment_effect, views):
            for name, value in vars(module).items():
                if name.startswith("q") and inspect.isclass(value):
                    setattr(slicer, name, value)
        slicer.mrmlScene = self.scene = self.app.mrmlScene()
        slicer.modules = self.app._modules
        self._errors: list[BaseException] = []
        self._module_widgets: list[Any] = []

    # Errors

    def raise_errors(self) -> None:
        """Raise the first error of a slot or an observer: VTK and Qt print such errors and go on."""
        if self._errors:
            error, *_others = self._errors
            self._errors.clear()
            raise error

    def _keep_error(self, _kind: type, error: BaseException, _traceback: Any) -> None:
        self._errors.append(error)

    # Modules and editors

    def load_module(self, name: str) -> Any:
        """Load `CTSAM3D/<name>.py` as Slicer does at its start; returns the module's Python object."""
        import slicer

        from Testing.host.scripted_module import qSlicerScriptedLoadableModule

        path = EXTENSION / f"{name}.py"
        module = load_file(name, path)
        parent = qSlicerScriptedLoadableModule(name, str(path))
        instance = getattr(module, name)(parent)
        setattr(slicer.modules, name.lower(), parent)
        setattr(slicer.modules, f"{name}Instance", instance)
        if hasattr(instance, "setup"):
            instance.setup()
        return instance

    def module_widget(self, name: str) -> Any:
        """The panel of a loaded module, set up with the scene; its Python object is `.self()`."""
        import slicer

        from Testing.host.scripted_module import qSlicerScriptedLoadableModuleWidget

        panel = qSlicerScriptedLoadableModuleWidget()
        panel._python = getattr(sys.modules[name], f"{name}Widget")(panel)
        panel._python.setup()
        panel.setMRMLScene(slicer.mrmlScene)
        getattr(slicer.modules, name.lower())._widget = panel
        setattr(slicer.modules, f"{name}Widget", panel._python)
        self._module_widgets.append(panel)
        return panel

    def startup_completed(self) -> None:
        """What Slicer announces once all modules are loaded."""
        self.app.startupCompleted.emit()

    def segment_editor(self) -> Any:
        """A qMRMLSegmentEditorWidget on the scene's Segment Editor node: all registered effects, watching the views."""
        import slicer

        editor = slicer.qMRMLSegmentEditorWidget()
        editor.setMRMLScene(self.scene)
        node = self.scene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.vtkMRMLSegmentEditorNode()
            node.SetSingletonTag("SegmentEditor")
            node = self.scene.AddNode(node)
        editor.setMRMLSegmentEditorNode(node)
        return editor

    # The user's hands

    def process_events(self, seconds: float = 0.0, until: Any = None) -> bool:
        """Let timers and events run for so long, or until the condition holds; returns whether it does."""
        end = time.monotonic() + seconds
        while True:
            self.app.processEvents()
            self.raise_errors()
            if until is not None and until():
                return True
            if time.monotonic() >= end:
                return until is None
            time.sleep(0.005)

    def click(
        self, view_widget: Any, ras: Any, control: bool = False, shift: bool = False, button: str = "Left"
    ) -> bool:
        """Press and release a mouse button at RAS (mm); returns whether the effect took the press for itself.

        A slice view is moved to the slice through the point first.
        """
        self.move(view_widget, ras, control, shift)
        pressed = self._send(view_widget, f"{button}ButtonPressEvent")
        self._send(view_widget, f"{button}ButtonReleaseEvent")
        return pressed

    def move(self, view_widget: Any, ras: Any, control: bool = False, shift: bool = False) -> bool:
        """Move the mouse to RAS (mm)."""
        from Testing.host.segment_effect import ras_to_xyz
        from Testing.host.views import ras_to_display

        if view_widget.className() == "qMRMLSliceWidget":
            view_widget.mrmlSliceNode().JumpSliceByOffsetting(*ras)
            x, y, _ = ras_to_xyz(ras, view_widget)
        else:
            x, y = ras_to_display(ras, view_widget)
        interactor = view_widget.viewWidget().interactor()
        interactor.SetEventInformation(round(x), round(y), int(control), int(shift), "\0", 0, None)
        return self._send(view_widget, "MouseMoveEvent")

    def press_key(self, view_widget: Any, key: str, control: bool = False, shift: bool = False) -> bool:
        """Press and release a key, by its key symbol, over a view."""
        interactor = view_widget.viewWidget().interactor()
        interactor.SetControlKey(int(control))
        interactor.SetShiftKey(int(shift))
        interactor.SetKeySym(key)
        pressed = self._send(view_widget, "KeyPressEvent")
        self._send(view_widget, "KeyReleaseEvent")
        return pressed

    def _send(self, view_widget: Any, event: str) -> bool:
        view = view_widget.viewWidget()
        view._handled = False
        view.interactor().InvokeEvent(event)
        self.raise_errors()
        return view._handled

    # The screen

    def render(self, widget: Any, path: Path, dark: bool = False, width: int = 420) -> Path:
        """Draw a widget, in the colours of Slicer's light or dark style, into a PNG of the height it asks for."""
        from Testing.host.palettes import palette

        previous = self.app.palette()
        self.app.setPalette(palette(dark))
        widget.setFixedWidth(width)
        widget.show()
        for _ in range(3):  # texts that wrap ask for their height once they know the width
            self.app.processEvents()
            widget.resize(width, max(widget.minimumSizeHint.height(), widget.sizeHint.height()))
        path.parent.mkdir(parents=True, exist_ok=True)
        widget.grab().save(str(path))
        widget.hide()
        self.app.setPalette(previous)
        return path

    def _close(self) -> None:
        """End as Slicer ends: panels are cleaned up, widgets deleted, the scene cleared."""
        for panel in self._module_widgets:
            panel._python.cleanup()
        self.app._delete_widgets()
        self.scene.Clear(1)
        self.app._stop()


@cache
def _modules() -> dict[str, types.ModuleType]:
    """`qt`, `ctk` and Slicer's Python modules. Raises ImportError where Qt or slicer-core cannot be loaded."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    try:
        import PySide6.QtWidgets  # noqa: F401
    except ImportError as error:
        raise ImportError(f"Qt cannot start here ({error}); .ci/run names the libraries that it needs.") from error
    from Testing.host import application, ctk, pythonqt

    application.application()
    ctk_module = types.ModuleType("ctk", ctk.__doc__)
    for name, value in vars(ctk).items():
        if name.startswith("ctk"):
            setattr(ctk_module, name, value)
    return {"qt": pythonqt.make_qt_module(), "ctk": ctk_module, **application.python_modules()}

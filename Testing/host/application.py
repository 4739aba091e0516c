"""`slicer.app`, `slicer.modules`, and the modules that desktop Slicer adds to the package `slicer`."""

from __future__ import annotations

import types
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from Testing.host import scripted_module
from Testing.host.pythonqt import wrapper
from Testing.host.segment_effect import (
    AbstractScriptedSegmentEditorEffect,
    qSlicerSegmentEditorEffectFactory,
    qSlicerSegmentEditorScriptedEffect,
)
from Testing.host.views import qSlicerLayoutManager

_MODULES = {
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "volumes": "vtkSlicerVolumesLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
}


class qSlicerExtensionsManagerModel(wrapper(QtCore.QObject)):
    """Which extensions are installed; `_installed` is the test's to set."""

    def __init__(self) -> None:
        super().__init__()
        self._installed: set[str] = set()
        self._interactive = True

    interactive = property(lambda self: self._interactive, lambda self, value: setattr(self, "_interactive", value))

    def isExtensionInstalled(self, name: str) -> bool:
        return name in self._installed

    def installExtensionFromServer(self, name: str, *_options: bool) -> bool:
        raise AssertionError(f"The code under test wants to download the extension {name}.")


class qSlicerSubjectHierarchyPluginLogic(wrapper(QtCore.QObject)):
    """What the context menu in a view may offer for an item."""

    def __init__(self) -> None:
        super().__init__()
        self._allowed: dict[int, tuple[str, ...]] = {}

    def setAllowedViewContextMenuActionNamesForItem(self, item: int, names: Any) -> None:
        self._allowed[item] = tuple(names)

    def allowedViewContextMenuActionNamesForItem(self, item: int) -> tuple[str, ...]:
        return self._allowed.get(item, ())


class qSlicerSubjectHierarchyPluginHandler(wrapper(QtCore.QObject)):
    """Holds the plugin logic."""

    def __init__(self) -> None:
        super().__init__()
        self._logic = qSlicerSubjectHierarchyPluginLogic()

    @staticmethod
    def instance() -> qSlicerSubjectHierarchyPluginHandler:
        return slicer.app._plugin_handler

    def pluginLogic(self) -> Any:
        return self._logic


class qSlicerLoadableModule(wrapper(QtCore.QObject)):
    """A module of C++: its logic."""

    def __init__(self, name: str, logic: Any) -> None:
        QtCore.QObject.__init__(self)
        self._name, self._logic = name, logic

    name = property(lambda self: self._name)

    def logic(self) -> Any:
        return self._logic


class qSlicerApplication(wrapper(QtWidgets.QApplication)):
    """The application: what a test needs of it. `_start` gives it a new scene, as at Slicer's start."""

    startupCompleted = QtCore.Signal()

    def __init__(self) -> None:
        QtWidgets.QApplication.__init__(self, ["Slicer"])
        QtWidgets.QApplication.setStyle("fusion")  # Slicer's style
        QtCore.QCoreApplication.setApplicationName("Slicer")
        QtCore.QCoreApplication.setOrganizationName("slicer.org")

    def _start(self, folder: Path, main_window: bool) -> None:
        """A new scene with its logics; `folder` takes settings, caches and temporary files."""
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
        for scope in (QtCore.QSettings.Scope.UserScope, QtCore.QSettings.Scope.SystemScope):
            QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, scope, str(folder / "settings"))
        self._folder = folder
        self._testing = True
        self._scene = slicer.vtkMRMLScene()
        self._application_logic = slicer.vtkSlicerApplicationLogic()
        self._application_logic.SetMRMLScene(self._scene)
        color_logic = self._application_logic.GetColorLogic()
        color_logic.SetMRMLScene(self._scene)
        color_logic.AddDefaultColorNodes()
        self._application_logic.SetModuleLogic("Colors", color_logic)
        self._modules = types.SimpleNamespace()
        for name, class_name in _MODULES.items():
            logic = getattr(slicer, class_name)()
            logic.SetMRMLApplicationLogic(self._application_logic)
            logic.SetMRMLScene(self._scene)
            setattr(self._modules, name, qSlicerLoadableModule(name, logic))
        self._scene_followers: weakref.WeakSet[Any] = weakref.WeakSet()  # widgets with observers
        self._effect_factory = qSlicerSegmentEditorEffectFactory()
        self._plugin_handler = qSlicerSubjectHierarchyPluginHandler()
        self._extensions = qSlicerExtensionsManagerModel()
        self._layout_manager = qSlicerLayoutManager(self._scene) if main_window else None

    def _delete_widgets(self) -> None:
        for follower in self._scene_followers:
            follower._forget_scene()
        for widget in QtWidgets.QApplication.topLevelWidgets():
            QtCore.QObject.deleteLater(widget)
        QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)

    def _stop(self) -> None:
        """Let go of the scene, of what belongs to it, and of whoever waited for the start."""
        self.disconnect("startupCompleted()")
        self._held_slots = {}
        QtCore.QCoreApplication.processEvents()
        self._effect_factory = self._plugin_handler = self._extensions = self._layout_manager = None
        self._modules = self._application_logic = self._scene = None

    temporaryPath = property(lambda self: str(self._folder / "temporary"))
    cachePath = property(lambda self: str(self._folder / "cache"))
    slicerHome = property(lambda self: str(self._folder / "home"))
    majorVersion = property(lambda self: 5)
    minorVersion = property(lambda self: 12)
    revision = property(lambda self: "0")

    def testingEnabled(self) -> bool:
        return self._testing

    def processEvents(self) -> None:
        QtCore.QCoreApplication.processEvents()

    def mrmlScene(self) -> Any:
        return self._scene

    def applicationLogic(self) -> Any:
        return self._application_logic

    def moduleLogic(self, name: str) -> Any:
        return getattr(self._modules, name.lower()).logic()

    def layoutManager(self) -> Any:
        return self._layout_manager

    def extensionsManagerModel(self) -> Any:
        return self._extensions

    def settings(self) -> Any:
        return wrapper(QtCore.QSettings)()

    def userSettings(self) -> Any:
        return wrapper(QtCore.QSettings)()

    def pauseRender(self) -> None:
        """Nothing is drawn here."""

    def resumeRender(self) -> None:
        """Nothing is drawn here."""


def python_modules() -> dict[str, types.ModuleType]:
    """The modules that code imports by name in Slicer: effects, i18n, packaging, ScriptedLoadableModule, SampleData."""
    effects = _module(
        "SegmentEditorEffects", AbstractScriptedSegmentEditorEffect=AbstractScriptedSegmentEditorEffect, __path__=[]
    )
    cpp_effects = _module(
        "qSlicerSegmentationsEditorEffectsPythonQt",
        qSlicerSegmentEditorScriptedEffect=qSlicerSegmentEditorScriptedEffect,
    )
    i18n = _module(
        "slicer.i18n",
        tr=lambda text: text,
        translate=lambda context, text: text,
        getContext=lambda source_file: Path(source_file).stem,
    )
    sample_data = _module("SampleData", SampleDataLogic=scripted_module.SampleDataLogic)
    return {
        "SegmentEditorEffects": effects,
        "qSlicerSegmentationsEditorEffectsPythonQt": cpp_effects,
        "slicer.i18n": i18n,
        "slicer.packaging": scripted_module.packaging(),
        "slicer.ScriptedLoadableModule": _module(
            "slicer.ScriptedLoadableModule",
            **{name: getattr(scripted_module, name) for name in scripted_module.BASE_CLASSES},
            __all__=list(scripted_module.BASE_CLASSES),
        ),
        "SampleData": sample_data,
    }


def _module(name: str, **members: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(members)
    return module


@cache
def application() -> qSlicerApplication:
    """The one application of this process; it lives as long as the process does."""
    return qSlicerApplication()

"""Base classes of Slicer's scripted modules, `slicer.packaging` and Sample Data, with the names that Slicer's have."""

from __future__ import annotations

import importlib.metadata
import sys
import types
import unittest
from pathlib import Path
from typing import Any

import slicer
from packaging.requirements import Requirement
from PySide6 import QtCore, QtWidgets

from Testing.host.mrml_widgets import qSlicerWidget
from Testing.host.pythonqt import wrapper

BASE_CLASSES = (
    "ScriptedLoadableModule",
    "ScriptedLoadableModuleWidget",
    "ScriptedLoadableModuleLogic",
    "ScriptedLoadableModuleTest",
)
_MODULE_PROPERTIES = {
    "title": "",
    "categories": (),
    "contributors": (),
    "associatedNodeTypes": (),
    "helpText": "",
    "acknowledgementText": "",
    "icon": None,
    "hidden": False,
    "dependencies": (),
    "index": -1,
}


class qSlicerScriptedLoadableModule(wrapper(QtCore.QObject)):
    """The C++ side of a scripted module: its metadata."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__()
        self._name, self._path = name, path
        self._metadata = dict(_MODULE_PROPERTIES)
        self._widget: Any = None

    name = property(lambda self: self._name)
    path = property(lambda self: self._path)

    def widgetRepresentation(self) -> Any:
        return self._widget


def _metadata(name: str) -> property:
    return property(lambda self: self._metadata[name], lambda self, value: self._metadata.__setitem__(name, value))


for _name in _MODULE_PROPERTIES:
    setattr(qSlicerScriptedLoadableModule, _name, _metadata(_name))


class qSlicerScriptedLoadableModuleWidget(qSlicerWidget):
    """The panel of a scripted module; `_python` is the module's widget class."""

    def __init__(self) -> None:
        super().__init__()
        self._python: Any = None
        wrapper(QtWidgets.QVBoxLayout)(self)

    def self(this) -> Any:
        return this._python

    def enter(self) -> None:
        if hasattr(self._python, "enter"):
            self._python.enter()

    def exit(self) -> None:
        if hasattr(self._python, "exit"):
            self._python.exit()


class _ResourceFinder:
    """What module and widget share."""

    moduleName: str

    def resourcePath(self, filename: str) -> str:
        """A file of the module's folder Resources."""
        folder = Path(sys.modules[type(self).__module__].__file__ or "").parent
        return str(folder / "Resources" / filename)


class ScriptedLoadableModule(_ResourceFinder):
    """A module: metadata and no more."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__

    def runTest(self, msec: int = 100, **kwargs: Any) -> None:
        """Run the class `<module>Test` of the module's file."""
        test_class = getattr(sys.modules[type(self).__module__], f"{self.moduleName}Test")
        test_class().runTest(**kwargs)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        return f"<p>{docPage or self.moduleName}</p>"


class ScriptedLoadableModuleWidget(_ResourceFinder):
    """A module's panel; `parent` is the C++ widget."""

    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent = parent
        self.layout = parent.layout() if parent is not None else None

    def setup(self) -> None:
        """Slicer adds its buttons for developers here; there are none without developer mode."""

    def cleanup(self) -> None:
        """Called before the panel goes away."""


class ScriptedLoadableModuleLogic:
    """A module's logic with its parameter node."""

    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        return (
            slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            or self.createParameterNode()
        )

    def createParameterNode(self) -> Any:
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        node.SetSingletonTag(self.moduleName)
        node.SetModuleName(self.moduleName)
        return slicer.mrmlScene.AddNode(node)


class ScriptedLoadableModuleTest(unittest.TestCase):
    """A module's test, started with `runTest`."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """To be overridden."""

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        """Slicer shows the message for a while."""


class SampleDataLogic:
    """Remembers what modules offer in Sample Data: `slicer.modules.sampleDataSources`, by category."""

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        loadFiles: Any = None,
        loadFileProperties: Any = None,
        checksums: Any = None,
        loadFileType: Any = None,
    ) -> None:
        source = types.SimpleNamespace(**locals())
        if isinstance(uris, str):
            source.uris, source.fileNames = [uris], [fileNames]
        # As in Slicer: None has no length, a function that downloads or not.
        if len(source.uris) != len(source.fileNames):
            raise ValueError(f"{sampleName} has {len(source.uris)} addresses for {len(source.fileNames)} files")
        if not hasattr(slicer.modules, "sampleDataSources"):
            slicer.modules.sampleDataSources = {}
        slicer.modules.sampleDataSources.setdefault(category, []).append(source)


def packaging() -> types.ModuleType:
    """`slicer.packaging`: reads and checks requirements, and never installs anything."""
    module = types.ModuleType("slicer.packaging")

    def load_requirements(path: Any) -> list[Requirement]:
        lines = (line.partition("#")[0].strip() for line in Path(path).read_text().splitlines())
        return [Requirement(line) for line in lines if line and not line.startswith("-")]

    def pip_check(req: Any, _seen: Any = None) -> bool:
        requirement = Requirement(str(req))
        try:
            return requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True)
        except importlib.metadata.PackageNotFoundError:
            return False

    def pip_ensure(
        requirements: Any,
        constraints: Any = None,
        skip_packages: Any = None,
        prompt_install: bool = True,
        prompt_restart: bool = True,
        requester: str | None = None,
        skip_in_testing: bool = True,
        show_progress: bool = True,
    ) -> None:
        if skip_in_testing and slicer.app.testingEnabled():
            return
        missing = [str(requirement) for requirement in requirements if not pip_check(requirement)]
        if missing:
            raise RuntimeError(f"The user was asked to install {', '.join(missing)}; the host for tests says no.")

    def isPipInstallInProgress() -> bool:
        return False

    module.__dict__.update(
        load_requirements=load_requirements,
        pip_check=pip_check,
        pip_ensure=pip_ensure,
        isPipInstallInProgress=isPipInstallInProgress,
    )
    return module

"""What an expression stands for, as far as it can be told from the text: an object or a class of Slicer, Qt or VTK.

A kind answers one question: what is the member of this name? Where there is none, the code under check would fail in
Slicer. Slicer's and CTK's classes are read from `Testing/host/slicer_api.json`, VTK's and MRML's by looking into
slicer-core, and Qt's own by looking into PySide6, whose names are Qt's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets

from Testing.host import api

BROUGHT_MODULES = ("util", "cli")
"""Modules of the package `slicer` that are there once it is imported: the application imports them at its start."""
IMPORTED_MODULES = ("packaging", "i18n", "testing", "ScriptedLoadableModule", "parameterNodeWrapper")
"""Those that are not there before somebody imports them by name."""


@dataclass(frozen=True)
class Signature:
    """How a member may be called. `keywords` is None where arguments are positional only, `...` where any name goes."""

    arities: tuple[tuple[int, float], ...]
    keywords: tuple[str, ...] | Any | None = None

    def complaint(self, positional: int, keywords: Iterable[str]) -> str | None:
        """What is wrong with a call, or None."""
        keywords = list(keywords)
        if keywords and self.keywords is None:
            return "takes positional arguments only"
        unknown = [name for name in keywords if self.keywords is not ... and name not in self.keywords]
        if unknown:
            return f"has no argument '{unknown[0]}'"
        if not any(least <= positional + len(keywords) <= most for least, most in self.arities):
            counts = " or ".join(f"{least}-{most:g}" if least != most else str(least) for least, most in self.arities)
            return f"takes {counts} arguments, not {positional + len(keywords)}"
        return None


ANYTHING = Signature(((0, float("inf")),), keywords=...)


@dataclass(frozen=True)
class Member:
    """A member of a kind: how it is called (None: it is not), whether it can be set, and what it stands for."""

    signature: Signature | None = ANYTHING
    writable: bool = True
    result: Kind | None = None


class Kind:
    """Base of all kinds."""

    def member(self, name: str) -> Member | None:
        """The member of this name, or None."""
        raise NotImplementedError

    def called(self) -> Member:
        """What calling it gives."""
        return Member()

    def has_signal(self, signature: str) -> bool | None:
        """Whether objects of this kind have a signal; None where that is not known."""
        return None


@dataclass(frozen=True)
class VtkKind(Kind):
    """A class of VTK or MRML, or an object of it: of that very class where `exact`, else perhaps of one below."""

    cls: type
    is_class: bool = False
    exact: bool = False

    def __str__(self) -> str:
        return self.cls.__name__

    def member(self, name: str) -> Member | None:
        classes = [self.cls] if self.exact or self.is_class else [self.cls, *_subclasses(self.cls)]
        cls = next((cls for cls in classes if hasattr(cls, name)), None)
        if cls is None:
            return None
        value = getattr(cls, name)
        if not callable(value) or isinstance(value, type):
            return Member(signature=None, writable=False)
        return vtk_member(cls, name)

    def called(self) -> Member:
        is_object = issubclass(self.cls, vtk.vtkObjectBase)  # vtkVector3d and its like take arguments
        return Member(Signature(((0, 0),)) if is_object else ANYTHING, result=VtkKind(self.cls, exact=True))


@cache
def _subclasses(cls: type) -> tuple[type, ...]:
    candidates = {value for module in (slicer, vtk) for value in vars(module).values() if isinstance(value, type)}
    return tuple(sorted((found for found in candidates if issubclass(found, cls)), key=lambda found: found.__name__))


@cache
def vtk_member(cls: type, name: str) -> Member:
    """A method by the overloads that its docstring lists, one after another, each before its line in C++."""
    text = getattr(cls, name).__doc__ or ""
    arities, result = [], None
    overload = rf"^{name}\((.*?)\)(?:\s+->\s+([^\n]*(?:\n    [^\n]*)*))?\nC\+\+:"
    for arguments, returned in re.findall(overload, text, re.MULTILINE | re.DOTALL):
        parameters = _split(arguments)
        if parameters[:1] == ["self"]:
            parameters = parameters[1:]
        arities.append((sum("=" not in parameter for parameter in parameters), len(parameters)))
        result = vtk_class(returned.strip()) if returned else None
    return Member(Signature(tuple(arities)) if arities else ANYTHING, False, result)


def _split(arguments: str) -> list[str]:
    """Arguments between commas that no bracket holds."""
    parts, depth = [""], 0
    for character in arguments:
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def vtk_class(name: str) -> VtkKind | None:
    """Objects of a class of MRML or VTK."""
    cls = getattr(slicer, name, None) or getattr(vtk, name, None)
    return VtkKind(cls) if name.startswith("vtk") and isinstance(cls, type) else None


@dataclass(frozen=True)
class SlicerClassKind(Kind):
    """A class of Slicer's or CTK's that is described in slicer_api.json, or an object of it."""

    name: str
    is_class: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def description(self) -> api.ClassApi:
        return api.class_api(self.name)

    def member(self, name: str) -> Member | None:
        described = self.description
        if name in described.properties and not self.is_class:
            return Member(signature=None, writable=described.properties[name])
        if name in described.methods:
            arities = tuple((least, most) for least, most in described.methods[name])
            return Member(Signature(arities), False, object_of(described.returns.get(name, "")))
        if name in api.load()["every_object"]:
            arities = tuple((least, most) for least, most in api.load()["every_object"][name])
            return Member(Signature(arities), False)
        if name in described.names:
            return Member(writable=False)
        for below in () if self.is_class else _described_below(self.name):  # PythonQt knows what an object really is
            if name in api.class_api(below).names:
                return SlicerClassKind(below, is_class=False).member(name)
        return QtKind(described.qt_base).member(name) if is_of_qt(described.qt_base) else Member()

    def called(self) -> Member:
        if self.description.constructor is None:
            return Member(signature=None)
        return Member(Signature((tuple(self.description.constructor),)), result=SlicerClassKind(self.name))

    def has_signal(self, signature: str) -> bool | None:
        normal = _normalised(signature)
        return normal in self.description.signals or QtKind(self.description.qt_base).has_signal(signature)


def _described_below(name: str) -> list[str]:
    classes = api.load()["classes"]
    return [below for below, entry in classes.items() if below != name and name in entry["chain"]]


@dataclass(frozen=True)
class QtKind(Kind):
    """A class of Qt's own, or an object of it."""

    name: str
    is_class: bool = False

    def __str__(self) -> str:
        return self.name

    def member(self, name: str) -> Member | None:
        if not self.is_class and name in QT_PROPERTIES.get(self.name, {}):
            return Member(signature=None, writable=QT_PROPERTIES[self.name][name])
        every_object = {"exec_", *api.load()["every_object"]} if self.name in QT_SIGNALS else ()
        if name in every_object or hasattr(_of_qt_modules(self.name), name):
            return Member(Signature(((0, float("inf")),)), writable=False)
        return None

    def called(self) -> Member:
        return Member(Signature(((0, float("inf")),)), result=QtKind(self.name))

    def has_signal(self, signature: str) -> bool | None:
        return _normalised(signature) in QT_SIGNALS[self.name] if self.name in QT_SIGNALS else None


_QT_MODULES = (QtCore, QtGui, QtWidgets, QtNetwork, QtUiTools)


def _of_qt_modules(name: str) -> Any:
    return next((getattr(module, name) for module in _QT_MODULES if hasattr(module, name)), None)


def is_of_qt(name: str) -> bool:
    """Whether a class is one of Qt's own."""
    return name.startswith("Q") and _of_qt_modules(name) is not None


def _read_meta_objects() -> tuple[dict[str, dict[str, bool]], dict[str, frozenset[str]]]:
    properties, signals = {}, {}
    for name in {name for module in _QT_MODULES for name in dir(module)}:
        cls = _of_qt_modules(name)
        if isinstance(cls, type) and issubclass(cls, QtCore.QObject):
            meta = cls.staticMetaObject
            of_class = [meta.property(index) for index in range(meta.propertyCount())]
            methods = [meta.method(index) for index in range(meta.methodCount())]
            properties[name] = {found.name(): found.isWritable() for found in of_class}
            signals[name] = frozenset(
                bytes(method.methodSignature().data()).decode()
                for method in methods
                if method.methodType() == QtCore.QMetaMethod.MethodType.Signal
            )
    return properties, signals


# Read once, at import: PySide6 loses a class's meta-object with the first object of it that is deleted.
QT_PROPERTIES, QT_SIGNALS = _read_meta_objects()


def _normalised(signature: str) -> str:
    return bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()


@dataclass(frozen=True)
class EitherKind(Kind):
    """One of several kinds: a member has to be one of any of them."""

    kinds: tuple[Kind, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.kinds))

    def member(self, name: str) -> Member | None:
        found = [member for kind in self.kinds if (member := kind.member(name)) is not None]
        return found[0] if found else None


@dataclass(frozen=True)
class PythonModuleKind(Kind):
    """A Python module of Slicer's, such as slicer.util."""

    name: str

    def __str__(self) -> str:
        return self.name

    def member(self, name: str) -> Member | None:
        described = api.load()["modules"][self.name]
        if name in described["functions"]:
            return Member(python_signature(described["functions"][name]), False)
        if name in described["classes"]:
            return Member(result=PythonClassKind(self.name, name))
        return Member() if name in described["constants"] else None


@dataclass(frozen=True)
class PythonClassKind(Kind):
    """A Python class of Slicer's, such as ScriptedLoadableModuleLogic."""

    module: str
    name: str

    def __str__(self) -> str:
        return self.name

    def member(self, name: str) -> Member | None:
        described = api.load()["modules"][self.module]["classes"][self.name]
        if name in described["methods"]:
            return Member(python_signature(described["methods"][name]), False)
        return Member() if name in described["attributes"] or described["bases"] else None

    def called(self) -> Member:
        constructor = api.load()["modules"][self.module]["classes"][self.name]["methods"].get("__init__")
        return Member(python_signature(constructor) if constructor else ANYTHING)


def python_signature(described: dict[str, Any]) -> Signature:
    """How a function of Slicer's Python modules may be called."""
    names = (*described["required"], *described["optional"])
    most = float("inf") if described["any_positional"] or described["any_keyword"] else len(names)
    keywords = ... if described["any_keyword"] else names
    return Signature(((len(described["required"]), most),), keywords)


@dataclass(frozen=True)
class PackageKind(Kind):
    """One of the packages that code imports: slicer, vtk, qt or ctk; `submodules` are imported of it by name."""

    name: str
    submodules: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name

    def member(self, name: str) -> Member | None:
        if self.name == "slicer" and name in IMPORTED_MODULES and name not in self.submodules:
            return None
        found = {"slicer": _of_slicer, "vtk": _of_vtk, "qt": _of_qt, "ctk": _of_ctk}[self.name](name)
        return None if found is None else found if isinstance(found, Member) else Member(result=found)


def _of_slicer(name: str) -> Kind | Member | None:
    if name in (*BROUGHT_MODULES, *IMPORTED_MODULES):
        return PythonModuleKind(f"slicer.{name}") if f"slicer.{name}" in api.load()["modules"] else Member()
    if name == "app":
        return SlicerClassKind("qSlicerApplication")
    if name == "mrmlScene":
        return VtkKind(slicer.vtkMRMLScene)
    if name in ("modules", "moduleNames", "logic"):
        return Member()
    if name.startswith("vtk"):
        return VtkKind(getattr(slicer, name), True) if hasattr(slicer, name) else None
    return SlicerClassKind(name, True) if api.knows(name) else None


def _of_vtk(name: str) -> Kind | Member | None:
    value = getattr(vtk, name, None)
    if isinstance(value, type):
        return VtkKind(value, True)
    return None if value is None else Member()


def _of_qt(name: str) -> Kind | Member | None:
    return QtKind(name, True) if name == "Qt" or is_of_qt(name) else None


def _of_ctk(name: str) -> Kind | Member | None:
    return SlicerClassKind(name, True) if api.knows(name) else None


def object_of(name: str) -> Kind | None:
    """Objects of a class by its name in C++; None where nothing is known of it."""
    if api.knows(name):
        return SlicerClassKind(name)
    return QtKind(name) if is_of_qt(name) else vtk_class(name)

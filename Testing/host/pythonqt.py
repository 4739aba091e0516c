"""Qt as Slicer's Python sees it: PySide6 classes that behave as PythonQt's wrappers do.

PythonQt and PySide6 wrap the same Qt in different ways. Every class of `qt` here is a subclass of PySide6's that takes
over PythonQt's ways:

- a property is read and set without a call: `label.text`, `button.enabled = False`; `label.text()` fails;
- signals are connected by their C++ signature, `button.connect("clicked(bool)", f)`, or `button.clicked.connect(f)`;
- arguments are positional only; unknown attributes cannot be set on an object of Qt;
- `exec_`; children by their object name.

What blocks for an answer (modal dialogs, menus) raises `ModalDialogOpenedError` instead: a test replaces that call to
give its answer. Not emulated: enumerators are PySide6's, not integers, and value classes (QSize, QIcon …) are
PySide6's own.
"""

from __future__ import annotations

import functools
import re
import types
import warnings
from typing import Any

from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets

from Testing.host import api

_QT_MODULES = (QtCore, QtGui, QtWidgets, QtNetwork, QtUiTools)
_ObjectType = type(QtCore.QObject)
_BLOCKING = ("exec", "exec_")
_BLOCKING_STATIC = {
    "QMessageBox": ("about", "critical", "information", "question", "warning"),
    "QInputDialog": ("getDouble", "getInt", "getItem", "getMultiLineText", "getText"),
    "QFileDialog": ("getExistingDirectory", "getOpenFileName", "getOpenFileNames", "getSaveFileName"),
    "QColorDialog": ("getColor",),
    "QFontDialog": ("getFont",),
}


class ModalDialogOpenedError(AssertionError):
    """A dialog that waits for the user was opened, and the test gave no answer."""


class _WrapperType(_ObjectType):
    """Makes `isinstance(widget, qt.QWidget)` true for each widget: the wrappers are not each other's bases."""

    def __instancecheck__(cls, instance: object) -> bool:
        native = cls.__dict__.get("_native")
        return isinstance(_plain(instance), native) if native else super().__instancecheck__(instance)


class PythonQtObject:
    """What PythonQt adds to every QObject, and takes away. Mixed in before PySide6's class."""

    def __init__(self, *arguments: Any) -> None:
        chain = _chain_of(type(self))
        if chain and api.class_api(chain).constructor is None:
            raise TypeError(f"Python cannot construct a {chain}.")
        super().__init__(*map(_plain, arguments))
        for name in ("sizeHint", "minimumSizeHint"):
            owner = _owner(type(self), name)
            if owner is not None and _is_of_the_host(owner):  # a property to Python; Qt looks for its override here
                object.__getattribute__(self, "__dict__")[name] = types.MethodType(vars(owner)[name], self)

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_"):
            return object.__getattribute__(self, name)
        owner = _owner(type(self), name)
        if owner is None:
            return _dynamic_attribute(self, name)
        value = object.__getattribute__(self, name)
        if _meta_property(self, name) is not None:
            if _is_native(owner):
                return adopt(_read(self, name))
            if isinstance(value, types.MethodType) and _is_of_the_host(owner):
                return adopt(value())  # a getter that the host overrides, such as sizeHint
        if isinstance(value, QtCore.SignalInstance):
            return _Signal(self, value)
        if isinstance(value, types.MethodType) and _is_of_the_host(owner):
            return types.MethodType(_override(value.__func__), self)  # Qt takes only a method for an override
        if (_is_native(owner) or _is_of_the_host(owner)) and callable(value) and not isinstance(value, type):
            return _positional_only(value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        owner = _owner(type(self), name)
        if owner is not None and not _is_native(owner):
            super().__setattr__(name, value)
        elif _set_property(self, name, value):
            pass
        elif owner is None and (not _is_of_the_host(type(self)) or name.startswith("_")):
            super().__setattr__(name, value)  # a class of the code under test, or the host's own state
        else:
            raise AttributeError(f"{_unknown(type(self), name)} C++ objects take no new attributes.")

    def connect(self, signal: str, *target: Any) -> bool:
        """`connect(signal, callable)` or `connect(signal, receiver, slot)`; the signal by its C++ signature."""
        native_signal = _native_signal(self, signal)
        if len(target) == 2 and isinstance(target[1], str):
            receiver, slot = target
            target = (getattr(receiver, slot.partition("(")[0]),)
        (callable_,) = target
        return bool(QtCore.QObject.connect(self, QtCore.SIGNAL(native_signal), _held_slot(self, callable_)))

    def disconnect(self, signal: str, *target: Any) -> bool:
        """`disconnect(signal)` or `disconnect(signal, callable)`. False where nothing was connected."""
        native_signal = _native_signal(self, signal)
        if target:
            return bool(QtCore.QObject.disconnect(self, QtCore.SIGNAL(native_signal), _held_slot(self, *target)))
        with warnings.catch_warnings(record=True) as complaints:
            warnings.simplefilter("always")
            object.__getattribute__(self, signal.partition("(")[0]).disconnect()
        return not complaints  # PySide6 warns where there was nothing to disconnect

    def className(self) -> str:
        """The name of the C++ class."""
        return _chain_of(type(self)) or _native_class(type(self)).__name__

    def inherits(self, class_name: str) -> bool:
        """Whether the C++ class is that class or one below it."""
        chain = _chain_of(type(self))
        return bool(chain and class_name in api.load()["classes"][chain]["chain"]) or QtCore.QObject.inherits(
            self, class_name
        )

    def delete(self) -> None:
        """Delete the C++ object now."""
        QtCore.QObject.deleteLater(self)
        QtCore.QCoreApplication.sendPostedEvents(self, QtCore.QEvent.Type.DeferredDelete)

    def findChild(self, kind: Any, name: str = "") -> Any:
        """The first child of a class, given or named, with an object name where one is given."""
        found = PythonQtObject.findChildren(self, kind, name)
        return found[0] if found else None

    def findChildren(self, kind: Any, name: str = "") -> list[Any]:
        """All children of a class, given or named, with an object name where one is given."""
        children = [adopt(child) for child in QtCore.QObject.findChildren(self, QtCore.QObject)]
        return [
            child
            for child in children
            if (child.inherits(kind) if isinstance(kind, str) else isinstance(child, kind))
            and (not name or child.objectName == name)
        ]


class _Adopted:
    """An object that Qt made itself, such as a form's label: PythonQt's ways around PySide6's object."""

    __slots__ = ("_object",)

    def __init__(self, native_object: QtCore.QObject) -> None:
        object.__setattr__(self, "_object", native_object)

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_"):
            return object.__getattribute__(self, name)
        native_object = object.__getattribute__(self, "_object")
        if name in vars(PythonQtObject):
            return _positional_only(types.MethodType(vars(PythonQtObject)[name], native_object))
        if _meta_property(native_object, name) is not None:
            return adopt(_read(native_object, name))
        if not hasattr(native_object, name):
            return _dynamic_attribute(native_object, name)
        value = getattr(native_object, name)
        return _Signal(native_object, value) if isinstance(value, QtCore.SignalInstance) else _positional_only(value)

    def __setattr__(self, name: str, value: Any) -> None:
        if not _set_property(self._object, name, value):
            raise AttributeError(f"{_unknown(type(self._object), name)} C++ objects take no new attributes.")

    def __eq__(self, other: object) -> bool:
        return self._object is _plain(other)

    def __hash__(self) -> int:
        return hash(self._object)


class _Signal:
    """A signal of an object: `widget.clicked.connect(slot)`, `.disconnect(slot)`, `.emit(…)`, or called to emit."""

    def __init__(self, sender: QtCore.QObject, native: Any) -> None:
        self._sender, self._native = sender, native

    def __getitem__(self, overload: Any) -> _Signal:
        return _Signal(self._sender, self._native[overload])

    def connect(self, slot: Any) -> bool:
        return bool(self._native.connect(_held_slot(self._sender, slot)))

    def disconnect(self, *slot: Any) -> bool:
        return bool(self._native.disconnect(*(_held_slot(self._sender, function) for function in slot)))

    def emit(self, *arguments: Any) -> None:
        self._native.emit(*arguments)

    __call__ = emit


def adopt(value: Any) -> Any:
    """What Qt answers, with PythonQt's ways for the objects that it made itself."""
    if isinstance(value, QtCore.QObject) and not isinstance(value, PythonQtObject):
        return _Adopted(value)
    if isinstance(value, (list, tuple)) and any(isinstance(item, QtCore.QObject) for item in value):
        return type(value)(adopt(item) for item in value)
    return value


def _plain(value: Any) -> Any:
    """What PySide6 is to be given for a value."""
    return value._object if type(value) is _Adopted else value


@functools.cache
def wrapper(native: type) -> type:
    """The class of `qt` that stands for a class of PySide6."""
    members: dict[str, Any] = {"_native": native, "__module__": "qt"}
    if issubclass(native, QtCore.QCoreApplication):
        members["exec_"] = native.exec
    for name in _BLOCKING:
        if hasattr(native, "exec") and issubclass(native, (QtWidgets.QDialog, QtWidgets.QMenu)):
            members[name] = _refuse_to_wait(native.__name__, name)
    for name in _BLOCKING_STATIC.get(native.__name__, ()):
        members[name] = staticmethod(_refuse_to_wait(native.__name__, name))
    return _WrapperType(native.__name__, (PythonQtObject, native), members)


def make_qt_module() -> types.ModuleType:
    """The module that Slicer's code imports as `qt`; its classes are made as they are asked for."""
    module = types.ModuleType("qt", __doc__)

    def attribute(name: str) -> Any:
        for source in _QT_MODULES:
            if name.startswith(("Q", "q")) and hasattr(source, name):
                value = getattr(source, name)
                if isinstance(value, type) and issubclass(value, QtCore.QObject):
                    value = wrapper(value)
                setattr(module, name, value)
                return value
        raise AttributeError(f"Slicer's qt has no '{name}'.")

    module.__getattr__ = attribute
    return module


def _held_slot(sender: Any, function: Any) -> Any:
    """The slot to connect for a callable, kept alive by the sender as in PythonQt (PySide6 holds bound methods weakly).

    PySide6 calls what is not written in Python (`list.append`) without the signal's arguments; PythonQt with them.
    """
    held = object.__getattribute__(sender, "__dict__").setdefault("_held_slots", {})
    if function not in held:
        is_python = isinstance(function, (types.FunctionType, types.MethodType))
        held[function] = function if is_python else lambda *arguments: function(*arguments)
    return held[function]


def _refuse_to_wait(class_name: str, name: str) -> Any:
    def call(*arguments: Any) -> None:
        texts = [argument for argument in arguments if isinstance(argument, str)]
        if arguments and isinstance(arguments[0], QtWidgets.QMessageBox):
            texts = [QtWidgets.QMessageBox.text(arguments[0])]
        raise ModalDialogOpenedError(f"{class_name}.{name} waits for the user: {' | '.join(texts) or 'no text'}")

    return call


def _positional_only(function: Any) -> Any:
    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if keywords:
            raise TypeError(f"{function.__name__} takes positional arguments only, as all of PythonQt does.")
        return adopt(function(*map(_plain, arguments)))

    return call


_override = functools.cache(_positional_only)
"""The same, always the same object for a function of a class: Qt remembers an override without holding it."""


def _read(instance: Any, name: str) -> Any:
    """A property by its C++ getter, which PySide6 converts better than the meta-object's variant."""
    for getter in (name, f"is{name[0].upper()}{name[1:]}", f"has{name[0].upper()}{name[1:]}"):
        function = getattr(_native_class(type(instance)), getter, None)
        if callable(function):
            try:
                return function(instance)
            except TypeError:
                continue
    return QtCore.QObject.property(instance, name)


def _set_property(instance: Any, name: str, value: Any) -> bool:
    """Set a property by its C++ setter; False where there is none. Raises AttributeError for one that is read only."""
    meta_property = _meta_property(instance, name)
    if meta_property is None and name not in _dynamic_properties(instance):
        return False
    if meta_property is not None and not meta_property.isWritable():
        raise AttributeError(f"'{name}' of {type(instance).__name__} cannot be set.")
    setter = getattr(_native_class(type(instance)), f"set{name[0].upper()}{name[1:]}", None)
    if setter is None:
        QtCore.QObject.setProperty(instance, name, value)
    else:
        setter(instance, _plain(value))
    return True


def _dynamic_attribute(instance: Any, name: str) -> Any:
    """What is on no class: the instance's own, a property without a getter of its name, a child by its object name."""
    own = object.__getattribute__(instance, "__dict__")
    if name in own:
        return own[name]
    if _meta_property(instance, name) is not None:
        return adopt(_read(instance, name))
    if name in _dynamic_properties(instance):
        return QtCore.QObject.property(instance, name)
    for child in QtCore.QObject.children(instance):
        if QtCore.QObject.objectName(child) == name:
            return adopt(child)
    raise AttributeError(_unknown(type(instance), name))


def _unknown(cls: type, name: str) -> str:
    chain = _chain_of(cls)
    if chain and name in api.class_api(chain).names:
        return f"Slicer's {chain} has '{name}', but the host for tests does not hold it yet."
    return f"'{chain or cls.__name__}' has no attribute '{name}' in Slicer."


def _native_signal(instance: Any, signature: str) -> str:
    """The signature under which Qt knows the signal here. Raises AttributeError where the class has no such signal."""
    normal = bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()
    chain = _chain_of(type(instance))
    inherited = {name.partition("(")[0] for name in api.class_api(chain).signals} if chain else frozenset()
    if normal.partition("(")[0] in inherited and normal not in api.class_api(chain).signals:
        raise AttributeError(f"{chain} has no signal '{normal}' in Slicer.")
    # A signal that carries a node or another VTK object carries a Python object here.
    here = re.sub(r"vtk\w+\*", "PyObject", normal)
    if QtCore.QObject.metaObject(instance).indexOfSignal(here) < 0:
        raise AttributeError(f"{chain or type(instance).__name__} has no signal '{normal}'.")
    return here


def _dynamic_properties(instance: Any) -> list[str]:
    return [bytes(name.data()).decode() for name in QtCore.QObject.dynamicPropertyNames(instance)]


def _meta_property(instance: Any, name: str) -> QtCore.QMetaProperty | None:
    meta_object = QtCore.QObject.metaObject(instance)
    index = meta_object.indexOfProperty(name)
    return meta_object.property(index) if index >= 0 else None


def _owner(cls: type, name: str) -> type | None:
    return next((base for base in cls.__mro__ if name in base.__dict__), None)


def _is_native(cls: type) -> bool:
    return cls.__module__.startswith(("PySide6", "Shiboken", "shiboken6"))


def _is_of_the_host(cls: type) -> bool:
    return cls.__module__ == "qt" or (
        cls.__module__.startswith("Testing.host.") and not cls.__module__.startswith("Testing.host.test_")
    )


def _native_class(cls: type) -> type:
    return next(base for base in cls.__mro__ if _is_native(base))


@functools.cache
def _chain_of(cls: type) -> str | None:
    """The class of Slicer or CTK that a class of the host stands for, None for one of Qt's own."""
    return next((base.__name__ for base in cls.__mro__ if api.knows(base.__name__)), None)

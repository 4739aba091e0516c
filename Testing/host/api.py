"""What the Python API of desktop Slicer holds, as read from its headers (`slicer_api.json`)."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@cache
def load() -> dict[str, Any]:
    """The whole file; treat it as read-only."""
    return json.loads(Path(__file__).with_name("slicer_api.json").read_text())


def knows(class_name: str) -> bool:
    """Whether the file describes this class of Slicer or CTK."""
    return class_name in load()["classes"]


@dataclass(frozen=True)
class ClassApi:
    """The members that Python sees of one class of Slicer or CTK, inherited ones included, Qt's own left out."""

    name: str
    properties: dict[str, bool]  # name -> can be set
    signals: frozenset[str]  # normalised signatures, such as "valueChanged(double)"
    methods: dict[str, list[list[int]]]  # name -> [fewest, most] arguments of each overload
    returns: dict[str, str]  # name -> class, of methods that return an object of Slicer, CTK or VTK
    enums: dict[str, list[str]]
    constructor: list[int] | None  # [fewest, most] arguments; None where Python cannot make one
    qt_base: str  # the first class of Qt's own above it

    @property
    def names(self) -> frozenset[str]:
        """Every member by name, enumerators and `every_object` included."""
        signals = {signal.partition("(")[0] for signal in self.signals}
        enumerators = {value for values in self.enums.values() for value in values}
        every_object = load()["every_object"].keys()
        return frozenset().union(self.properties, signals, self.methods, self.enums, enumerators, every_object)


@cache
def class_api(name: str) -> ClassApi:
    """The members of a class, walked up its chain. Raises KeyError for a class that is not described."""
    classes = load()["classes"]
    own = classes[name]
    chain = [classes[base] for base in own["chain"] if base in classes]
    merged: dict[str, dict[str, Any]] = {"properties": {}, "methods": {}, "returns": {}, "enums": {}}
    for entry in reversed(chain):
        for kind, members in merged.items():
            members.update(entry[kind])
    return ClassApi(
        name=name,
        signals=frozenset(signal for entry in chain for signal in entry["signals"]),
        constructor=own["constructor"],
        qt_base=next(base for base in own["chain"] if base not in classes),
        **merged,
    )

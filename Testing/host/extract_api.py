"""Make `slicer_api.json` here from the extract of Slicer's headers: names, kinds and argument counts only.

python -m Testing.host.extract_api PATH/slicer_api.json
"""

import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("slicer_api.json")


def compact(api: dict[str, Any]) -> dict[str, Any]:
    """The part of the extract that the host and the contract test ask for, in a form that fits the repository."""
    return {
        "about": {"slicer_version": api["about"]["slicer_version"], "commits": api["about"]["commits"]},
        "every_object": {
            **{name: [[0, 1]] for name in api["every_QObject"]["instance_methods"]},
            **_callables(api["every_QObject"]["decorators"]),
        },
        "classes": {name: _class(entry) for name, entry in sorted(api["qt_classes"].items())},
        "modules": {name: _module(entry) for name, entry in sorted(api["python_modules"].items())},
        "effect_callbacks": {
            name: len(entry["python_args"])
            for name, entry in api["effect_callbacks"]["qSlicerSegmentEditorScriptedEffect"].items()
        },
        "module_macros": {
            name: sorted(macro["options"] + macro["one_value"] + macro["multi_value"])
            for name, macro in api["module_macros"].items()
        },
        "extension_checks": {
            "categories": api["extension_checks"]["constants"]["accepted_extension_categories"],
            "license_file_names": api["extension_checks"]["constants"]["license_file_names"],
            "size_limit_mb": api["extension_checks"]["constants"]["size_limit_mb"],
            "schemas": {
                url: {"required": schema["required"], "properties": schema["properties"]}
                for url, schema in api["extension_checks"]["schemas"].items()
            },
        },
    }


def _class(entry: dict[str, Any]) -> dict[str, Any]:
    constructor = entry["constructor"]
    decorators = [member for member in entry.get("decorators") or [] if member["name"] != "__init__"]
    return {
        "chain": entry["meta_chain"],
        "constructor": None if constructor is None else _arity(constructor),
        "properties": {member["name"]: member["writable"] for member in entry["properties"]},
        "signals": sorted(_signature(member) for member in entry["signals"]),
        "methods": _callables(entry["slots"] + entry["invokables"] + decorators),
        "returns": _returned_classes(entry["slots"] + entry["invokables"] + decorators),
        "enums": {enum["name"]: sorted(enum["values"]) for enum in entry["enums"] if enum["exposed"]},
    }


def _module(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "functions": {name: _parameters(function) for name, function in entry["functions"].items()},
        "constants": entry["constants"],
        "classes": {
            name: {
                "bases": cls["bases"],
                "attributes": cls.get("instance_attributes", []),
                "methods": {
                    method: _parameters(function, bound="staticmethod" not in function.get("decorators", []))
                    for method, function in cls["methods"].items()
                },
            }
            for name, cls in entry["classes"].items()
        },
    }


def _callables(members: list[dict[str, Any]]) -> dict[str, list[list[int]]]:
    """Argument counts [least, most] of every overload by name."""
    counts: dict[str, list[list[int]]] = {}
    for member in members:
        arity = _arity(member["params"])
        if arity not in counts.setdefault(member["name"], []):
            counts[member["name"]].append(arity)
    return counts


def _returned_classes(members: list[dict[str, Any]]) -> dict[str, str]:
    """The class of what a method returns, where that is a pointer to an object of Slicer, CTK or VTK."""
    returned = {}
    for member in members:
        name = member["return"].removeprefix("const ").strip()
        if name.endswith("*") and name.startswith(("q", "ctk", "vtk")):
            returned[member["name"]] = name.rstrip("* ")
    return returned


def _arity(parameters: list[dict[str, Any]]) -> list[int]:
    return [sum("default" not in parameter for parameter in parameters), len(parameters)]


def _signature(member: dict[str, Any]) -> str:
    """A signal as Qt normalises it: no `const`, no `&`, no spaces."""
    types = (
        parameter["type"].replace("const ", "").replace("&", "").replace(" ", "") for parameter in member["params"]
    )
    return f"{member['name']}({','.join(types)})"


def _parameters(function: dict[str, Any], bound: bool = False) -> dict[str, Any]:
    parameters = function["params"][1:] if bound else function["params"]
    plain = [parameter for parameter in parameters if not parameter["kind"].startswith("var-")]
    kinds = {parameter["kind"] for parameter in parameters}
    return {
        "required": [parameter["name"] for parameter in plain if "default" not in parameter],
        "optional": [parameter["name"] for parameter in plain if "default" in parameter],
        "any_positional": "var-positional" in kinds,
        "any_keyword": "var-keyword" in kinds,
    }


def main() -> None:
    """Write the compact file, one class or module a line, so that a change of Slicer shows as a readable difference."""
    extract = compact(json.loads(Path(sys.argv[1]).read_text()))
    sections = []
    for section, entries in extract.items():
        lines = ",\n".join(f"{json.dumps(name)}:{_dense(entry)}" for name, entry in entries.items())
        sections.append(f"{json.dumps(section)}:{{\n{lines}\n}}")
    TARGET.write_text("{\n" + ",\n".join(sections) + "\n}\n")


def _dense(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


if __name__ == "__main__":
    main()

"""The HU window of the published model, from the `config.py` beside its weights."""

from __future__ import annotations

import ast
from pathlib import Path

from CTSAM3DLib.errors import ModelError


def read_window(config_file: Path) -> tuple[float, float]:
    """The HU window (low, high) in the published `config.py`, which is parsed and never executed.

    Looks for the numbers `min_value` and `max_value` as keywords, dictionary entries or assignments. Raises ModelError.
    """
    try:
        tree = ast.parse(config_file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise ModelError(
            f"The model's HU window cannot be read from {config_file}; give it, for example --window -1000 1000."
        ) from error
    found: dict[str, float] = {}
    for node in ast.walk(tree):
        for name, value in _named_values(node):
            if name in ("min_value", "max_value"):
                number = _number(value)
                if number is not None:
                    found[name] = number
    if len(found) < 2 or found["min_value"] >= found["max_value"]:
        raise ModelError(f"{config_file} holds no HU window (min_value, max_value); give it, e.g. --window -1000 1000.")
    return found["min_value"], found["max_value"]


def _named_values(node: ast.AST) -> list[tuple[str, ast.expr]]:
    if isinstance(node, ast.keyword) and node.arg:
        return [(node.arg, node.value)]
    if isinstance(node, ast.Dict):
        return [
            (key.value, value)
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant) and isinstance(key.value, str)
        ]
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
        if isinstance(target, ast.Attribute):
            return [(target.attr, node.value)]
        if isinstance(target, ast.Name):
            return [(target.id, node.value)]
        if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
            return [(str(target.slice.value), node.value)]
    return []


def _number(value: ast.expr) -> float | None:
    try:
        number = ast.literal_eval(value)
    except ValueError:
        return None
    return float(number) if isinstance(number, int | float) and not isinstance(number, bool) else None

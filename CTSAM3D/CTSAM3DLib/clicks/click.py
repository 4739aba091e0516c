"""A click in the patient, and the forms it is kept in: JSON, the command line, Slicer's .mrk.json."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.clicks.sign import is_negative
from CTSAM3DLib.errors import ClickError
from CTSAM3DLib.imaging.geometry import Geometry

Position = tuple[float, float, float]

_MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_IS_RAS = {"LPS": False, "1": False, "RAS": True, "0": True}  # numbers in files of early Slicer 4.11


@dataclass(frozen=True)
class Click:
    """A point in LPS mm that belongs to the wanted structure (positive) or does not. Raises ClickError."""

    position: Position
    positive: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "position", _position(self.position))

    def to_dict(self) -> dict[str, Any]:
        """Return {"position": [l, p, s], "positive": bool}."""
        return {"position": list(self.position), "positive": self.positive}

    @classmethod
    def from_dict(cls, data: Any) -> Click:
        """Return the click of `to_dict`; without "positive" it is positive. Raises ClickError."""
        if not isinstance(data, dict) or not isinstance(data.get("positive", True), bool):
            raise ClickError(f'{data!r} is not a click; write {{"position": [L, P, S], "positive": true}}.')
        return cls(data.get("position"), data.get("positive", True))  # type: ignore[arg-type] # checked by Click


def clicks_to_json(clicks: Iterable[Click]) -> str:
    """Return the clicks as one line of JSON in LPS mm."""
    return json.dumps([click.to_dict() for click in clicks], separators=(",", ":"))


def clicks_to_tag(clicks: Iterable[Click]) -> str:
    """Return the clicks as a segment's tag: one line of JSON in RAS mm, as everything of a segment, without `|`."""
    items = [Click(_flipped(click.position), click.positive).to_dict() for click in clicks]
    return json.dumps({"coordinateSystem": "RAS", "clicks": items}, separators=(",", ":"))


def clicks_from_json(text: str) -> list[Click]:
    """Return the clicks of `clicks_to_json` or of `clicks_to_tag`, in LPS. Raises ClickError."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ClickError(f"The clicks are not valid JSON ({error}); write a list of clicks.") from error
    is_ras = isinstance(content, dict) and content.get("coordinateSystem") == "RAS"
    items = content.get("clicks") if is_ras else content
    if not isinstance(items, list):
        raise ClickError("The clicks are not a JSON list; write a list of clicks.")
    clicks = [Click.from_dict(item) for item in items]
    return [Click(_flipped(click.position), click.positive) for click in clicks] if is_ras else clicks


def parse_click(text: str) -> tuple[Position, bool]:
    """Return the position and sign of "X,Y,Z", "X,Y,Z,+" or "X,Y,Z,-", in the text's own units. Raises ClickError."""
    parts = [part.strip() for part in text.split(",")]
    sign = parts.pop() if len(parts) == 4 else "+"
    try:
        if sign not in ("+", "-"):
            raise ValueError(sign)
        return _position([float(part) for part in parts]), sign == "+"
    except (ValueError, ClickError) as error:
        raise ClickError(
            f'"{text}" is not a click; write three numbers and perhaps a sign, like "-62,-18,1104.5" or "12,40,33,-".'
        ) from error


def to_lps(position: Sequence[float], coordinates: str, geometry: Geometry) -> Position:
    """Return in LPS mm a position given as "LPS" mm, "RAS" mm or "IJK" voxels of `geometry`. Raises ClickError."""
    x, y, z = _position(position)
    match coordinates.upper():
        case "LPS":
            return x, y, z
        case "RAS":
            return -x, -y, z
        case "IJK":
            return _position(geometry.to_lps((x, y, z)))
    raise ClickError(f'Coordinates "{coordinates}" are unknown; choose LPS, RAS or IJK.')


def read_markups(path: str | os.PathLike[str]) -> list[Click]:
    """Return the placed points of all lists in a Slicer .mrk.json file, in order. Raises ClickError.

    `CTSAM3DLib.clicks.sign.is_negative` says which points are negative.
    """
    try:
        markups = json.loads(Path(path).read_text(encoding="utf-8"))["markups"]
        return [click for markup in markups for click in _clicks_of(markup)]
    except OSError as error:
        raise ClickError(f"{path} cannot be read ({error.strerror}); give a .mrk.json file of Slicer.") from error
    except ClickError as error:
        raise ClickError(f"{path} holds a point that cannot be used: {error}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ClickError(f"{path} is not a markups file of Slicer; save the points as .mrk.json.") from error


def write_markups(path: str | os.PathLike[str], clicks: Sequence[Click], labels: Sequence[str] | None = None) -> None:
    """Write the clicks as a point list for Slicer (.mrk.json, LPS), labelled +1, -2, ... unless `labels` say otherwise.

    Raises OutputError.
    """
    if labels is None:
        labels = [f"{'+' if click.positive else '-'}{number}" for number, click in enumerate(clicks, start=1)]
    points = [
        {
            "id": str(number),
            "label": label,
            "description": "positive" if click.positive else "negative",
            "position": list(click.position),
            "positionStatus": "defined",
        }
        for number, (click, label) in enumerate(zip(clicks, labels, strict=True), start=1)
    ]
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": points}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps({"@schema": _MARKUPS_SCHEMA, "markups": [markup]}, indent=2), encoding="utf-8")


class CheckedClicks(tuple[Click, ...]):
    """Clicks that `check_clicks` has found right for `geometry`; on their further way they need no other check."""

    geometry: Geometry

    def __new__(cls, clicks: Sequence[Click], geometry: Geometry) -> CheckedClicks:
        """The clicks, marked."""
        checked = super().__new__(cls, clicks)
        checked.geometry = geometry
        return checked


def check_clicks(clicks: Sequence[Click], geometry: Geometry) -> CheckedClicks:
    """The clicks, checked once. Raises ClickError unless one is positive and every one lies in the volume."""
    if isinstance(clicks, CheckedClicks) and clicks.geometry == geometry:
        return clicks
    if not clicks:
        raise ClickError("There is no click; give at least one inside the structure.")
    if not any(click.positive for click in clicks):
        raise ClickError("All clicks are negative; give at least one positive click inside the structure.")
    for number, click in enumerate(clicks, start=1):
        if not geometry.contains(click.position):
            raise ClickError(_outside(number, click.position, geometry))
    return CheckedClicks(clicks, geometry)


def _outside(number: int, position: Position, geometry: Geometry) -> str:
    corners = geometry.corners(margin=0.5)
    ranges = zip("LPS", corners.min(axis=0), corners.max(axis=0), strict=True)
    extent = ", ".join(f"{axis} {low:.1f} to {high:.1f}" for axis, low, high in ranges)
    l, p, s = position  # noqa: E741 - the axes' names
    mirrored = geometry.contains((-l, -p, s))
    mend = "it would lie inside if it were meant as RAS" if mirrored else "move it inside"
    return f"Click {number} at LPS ({l:g}, {p:g}, {s:g}) mm is outside the volume, which spans {extent} mm; {mend}."


def _clicks_of(markup: dict[str, Any]) -> list[Click]:
    is_ras = _IS_RAS[str(markup.get("coordinateSystem", "LPS")).upper()]
    clicks = []
    for point in markup.get("controlPoints", []):
        if point.get("positionStatus", "defined") != "defined":
            continue
        x, y, z = _position(point["position"])
        negative = is_negative(point.get("label", ""), point.get("description", ""), markup.get("name", ""))
        clicks.append(Click((-x, -y, z) if is_ras else (x, y, z), not negative))
    return clicks


def _flipped(position: Position) -> Position:
    """From LPS to RAS or back."""
    x, y, z = position
    return 0.0 - x, 0.0 - y, z  # no -0.0, which would be written otherwise than 0.0


def _position(numbers: Any) -> Position:
    try:
        x, y, z = (float(number) for number in numbers)
    except (TypeError, ValueError) as error:
        raise ClickError(f"{numbers!r} is not a position; give three numbers in mm.") from error
    if not all(math.isfinite(number) for number in (x, y, z)):
        raise ClickError(f"The position ({x:g}, {y:g}, {z:g}) is not finite; give three numbers in mm.")
    return x, y, z

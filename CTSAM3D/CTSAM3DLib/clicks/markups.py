"""Point lists of Slicer in .mrk.json files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.clicks.click import Click, position_of
from CTSAM3DLib.clicks.sign import is_negative, segment_named
from CTSAM3DLib.clicks.tables import ClicksBySegment
from CTSAM3DLib.errors import ClickError

_MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_IS_RAS = {"LPS": False, "1": False, "RAS": True, "0": True}  # numbers in files of early Slicer 4.11
_POINT_LIST = "Fiducial"
_ENDINGS = (".mrk.json", ".json")


def read_markups(path: str | os.PathLike[str]) -> ClicksBySegment:
    """The placed points of all point lists in a Slicer .mrk.json file, by segment, LPS in mm.

    A point's label names its segment, else its list does (`sign.segment_named`); a list without a name is called as
    the file is. Points of a list that is only called "negative" belong to the file's only other segment.

    Raises:
        ClickError: the file cannot be read, holds no placed point, only other markups than point lists (lines,
            curves, planes, ROIs), a point that is none, or negative points of nobody knows which segment.

    """
    path = Path(path)
    try:
        markups = json.loads(path.read_text(encoding="utf-8-sig"))["markups"]
        lists = [markup for markup in markups if markup.get("type", _POINT_LIST) == _POINT_LIST]
        clicks = _clicks_of_lists(lists, _stem(path))
    except OSError as error:
        raise ClickError(f"{path} cannot be read ({error.strerror}); give a .mrk.json file of Slicer.") from error
    except ClickError as error:
        raise ClickError(f"{path} holds a point that cannot be used: {error}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ClickError(f"{path} is not a markups file of Slicer; save the points as .mrk.json.") from error
    if not clicks:
        others = sorted({str(markup.get("type", _POINT_LIST)) for markup in markups} - {_POINT_LIST})
        what = f"only {', '.join(others)}, whose points are no clicks" if others else "no point that has been placed"
        raise ClickError(f"{path} holds {what}; save a point list of Slicer (Markups, Point List).")
    return _with_negative_lists(clicks, path)


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


def _clicks_of_lists(lists: Sequence[dict[str, Any]], file_name: str) -> ClicksBySegment:
    clicks: ClicksBySegment = {}
    for markup in lists:
        is_ras = _IS_RAS[str(markup.get("coordinateSystem") or "LPS").upper()]
        list_name = str(markup.get("name") or file_name)
        for point in markup.get("controlPoints") or []:
            if (point.get("positionStatus") or "defined") != "defined":
                continue
            x, y, z = position_of(point["position"])
            label, description = str(point.get("label") or ""), str(point.get("description") or "")
            positive = not is_negative(label, description, list_name)
            click = Click((-x, -y, z) if is_ras else (x, y, z), positive)
            clicks.setdefault(segment_named(label, list_name), []).append(click)
    return clicks


def _with_negative_lists(clicks: ClicksBySegment, path: Path) -> ClicksBySegment:
    """The clicks with those of lists that are only called "negative" given to the one segment that there is."""
    nameless = clicks.pop("", [])
    if not nameless:
        return clicks
    if not clicks:
        return {_stem(path): nameless}
    if len(clicks) > 1:
        raise ClickError(
            f"{path} holds negative points that name no segment; label each with its segment, such as -liver."
        )
    ((name, own),) = clicks.items()
    return {name: [*own, *nameless]}


def _stem(path: Path) -> str:
    """The file's name without its ending, by which Slicer calls the list."""
    lower = path.name.lower()
    ending = next((ending for ending in _ENDINGS if lower.endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)]

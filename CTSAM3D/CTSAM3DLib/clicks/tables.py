"""Clicks for many segments at once: out of a table, or by the labels of points."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.clicks.sign import is_negative, without_sign
from CTSAM3DLib.errors import ClickError

SEGMENT_COLUMN = "segment"
SIGN_COLUMN = "sign"
_AXES = {("r", "a", "s"): (-1, -1, 1), ("l", "p", "s"): (1, 1, 1)}
"""Columns of the position, and the signs that make it LPS."""
_SIGNS = ("", "+", "positive", "pos", "-", "negative", "neg")

ClicksBySegment = dict[str, list[Click]]


def read_table(path: str | os.PathLike[str]) -> ClicksBySegment:
    """The clicks of each segment, LPS, from a table of comma- or tab-separated text. Raises ClickError.

    See `clicks_of_rows` for its columns.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            delimiter = "\t" if "\t" in file.readline() else ","
            file.seek(0)
            return clicks_of_rows(list(csv.DictReader(file, delimiter=delimiter)))
    except OSError as error:
        raise ClickError(
            f"{path} cannot be read ({error.strerror}); give a table of clicks as .csv or .tsv."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ClickError(f"{path} is not a table of text; save it as .csv with UTF-8.") from error
    except ClickError as error:
        raise ClickError(f"{path} cannot be used: {error}") from error


def clicks_of_rows(rows: Sequence[Mapping[str, str | None]]) -> ClicksBySegment:
    """The clicks of each segment, LPS, in the order of the rows. Raises ClickError.

    Columns, whatever their order and case: `segment`, a name; `r`, `a`, `s` or `l`, `p`, `s`, the position in mm,
    whose names say the coordinate system; and perhaps `sign`, `+` or `-`.
    """
    if not rows:
        raise ClickError("The table has no row; write one click in each.")
    clicks: ClicksBySegment = {}
    for number, raw in enumerate(rows, start=1):
        row = {str(name).strip().lower(): (value or "").strip() for name, value in raw.items() if name}
        name = row.get(SEGMENT_COLUMN, "")
        if not name:
            raise ClickError(f"Row {number} of the table names no segment; fill its column '{SEGMENT_COLUMN}'.")
        clicks.setdefault(name, []).append(_click(row, number))
    return clicks


def split_label(label: str, description: str = "", list_name: str = "") -> tuple[str, bool]:
    """The segment that a point's label names, and whether the point is positive: "liver", "+liver" or "-liver"."""
    return without_sign(label), not is_negative(label, description, list_name)


def _click(row: Mapping[str, str], number: int) -> Click:
    axes = next((axes for axes in _AXES if all(name in row for name in axes)), None)
    if axes is None:
        raise ClickError("The table has no position; name its columns r, a, s or l, p, s.")
    sign = row.get(SIGN_COLUMN, "").lower()
    if sign not in _SIGNS:
        raise ClickError(f"Row {number} of the table has the sign '{sign}'; write + or -.")
    try:
        x, y, z = (to_lps * float(row[axis]) for axis, to_lps in zip(axes, _AXES[axes], strict=True))
    except ValueError as error:
        raise ClickError(f"Row {number} of the table has no position; write three numbers in mm.") from error
    return Click((x, y, z), not is_negative(sign))

"""Whether a click is positive or negative, by the words that people and programs write beside its position.

One rule for every source: points of .mrk.json files, rows of tables, and control points of markups nodes.
"""

from __future__ import annotations

import re

_WORD = r"neg(?:ative)?s?(?![^\W\d_])"
"""A word ends at anything but a letter: "neg_2" and "negative 3" are negative, "neglected" is a name."""
_NEGATIVE_LIST = re.compile(rf"\s*{_WORD}", re.IGNORECASE)
_NEGATIVE_LABEL = re.compile(rf"\s*(?:[-−]|{_WORD})", re.IGNORECASE)  # noqa: RUF001 - a minus sign
_NEGATIVE_DESCRIPTIONS = ("-", "neg", "negative")


def is_negative(label: str, description: str = "", list_name: str = "") -> bool:
    """Whether a point does not belong to the wanted structure.

    It does not where its label begins with "-" or with the word "neg" or "negative" ("-1", "-liver", "neg-liver",
    "Negative 3"), or its description is one of these ("not negative" is not), or the name of its list begins with
    such a word ("negative", "Negative points"). Case does not matter.
    """
    return (
        _NEGATIVE_LABEL.match(label) is not None
        or description.strip().lower() in _NEGATIVE_DESCRIPTIONS
        or _NEGATIVE_LIST.match(list_name) is not None
    )


def without_sign(label: str) -> str:
    """The name that a label gives beside its sign: "liver" for "liver", "+liver", "- liver" and "neg-liver"."""
    sign = _NEGATIVE_LABEL.match(label)
    return label[sign.end() if sign else 0 :].strip().lstrip("+-−_").strip()  # noqa: RUF001 - a minus sign

"""Which points are negative: one rule, whatever the clicks come from."""

import json

import pytest

from CTSAM3DLib.clicks.markups import read_markups
from CTSAM3DLib.clicks.sign import is_negative, segment_named, without_sign
from CTSAM3DLib.clicks.tables import clicks_of_rows
from CTSAM3DLib.errors import ClickError
from Testing.support.signs import SIGNS


@pytest.mark.parametrize(("label", "description", "list_name", "negative"), SIGNS)
def test_the_rule(label, description, list_name, negative):
    assert is_negative(label, description, list_name) == negative


@pytest.mark.parametrize(("label", "description", "list_name", "negative"), SIGNS)
def test_points_of_a_file_follow_it(tmp_path, label, description, list_name, negative):
    point = {"position": [1, 2, 3], "label": label, "description": description}
    path = tmp_path / "a.mrk.json"
    path.write_text(json.dumps({"markups": [{"name": list_name, "controlPoints": [point]}]}), encoding="utf-8")
    ((click,),) = read_markups(path).values()
    assert click.positive != negative


@pytest.mark.parametrize("sign", ["-", "neg", "negative", "Negative", "", "+", "pos", "positive"])
def test_signs_of_rows_follow_it(sign):
    ((click,),) = clicks_of_rows([{"segment": "liver", "l": "1", "p": "2", "s": "3", "sign": sign}]).values()
    assert click.positive != is_negative(sign)


@pytest.mark.parametrize("sign", ["neglected", "neg liver", "minus"])
def test_other_signs_of_rows_are_refused(sign):
    with pytest.raises(ClickError, match="write \\+ or -"):
        clicks_of_rows([{"segment": "liver", "l": "1", "p": "2", "s": "3", "sign": sign}])


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("liver", "liver"),
        ("+liver", "liver"),
        ("- liver", "liver"),
        ("neg-liver", "liver"),
        ("Negative liver", "liver"),
        ("neglected", "neglected"),
        ("left-kidney", "left-kidney"),
        ("negative", ""),
        ("-", ""),
    ],
)
def test_the_name_beside_the_sign(label, name):
    assert without_sign(label) == name


@pytest.mark.parametrize(
    ("label", "list_name", "segment"),
    [
        ("liver", "F", "liver"),
        ("-liver", "F", "liver"),
        ("F-3", "F", "F"),
        ("F-3", "spleen", "spleen"),
        ("spleen_2", "spleen", "spleen"),
        ("MarkupsFiducial-12", "spleen", "spleen"),
        ("+1", "spleen", "spleen"),
        ("-2", "spleen", "spleen"),
        ("", "spleen", "spleen"),
        ("L3", "spine", "L3"),
        ("", "negative liver", "liver"),
        ("", "Negative", ""),
        ("1", "negative points", ""),
        ("liver", "negative", "liver"),
    ],
)
def test_the_segment_of_a_point(label, list_name, segment):
    assert segment_named(label, list_name) == segment

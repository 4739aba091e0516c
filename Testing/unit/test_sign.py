"""Which points are negative: one rule, whatever the clicks come from."""

import json

import pytest

from CTSAM3DLib.clicks.click import read_markups
from CTSAM3DLib.clicks.sign import is_negative, without_sign
from CTSAM3DLib.clicks.tables import clicks_of_rows, split_label
from CTSAM3DLib.errors import ClickError
from Testing.support.signs import SIGNS


@pytest.mark.parametrize(("label", "description", "list_name", "negative"), SIGNS)
def test_the_rule(label, description, list_name, negative):
    assert is_negative(label, description, list_name) == negative


@pytest.mark.parametrize(("label", "description", "list_name", "negative"), SIGNS)
def test_points_of_a_file_and_labels_of_segments_follow_it(tmp_path, label, description, list_name, negative):
    point = {"position": [1, 2, 3], "label": label, "description": description}
    path = tmp_path / "a.mrk.json"
    path.write_text(json.dumps({"markups": [{"name": list_name, "controlPoints": [point]}]}), encoding="utf-8")
    (click,) = read_markups(path)
    assert click.positive != negative
    assert split_label(label, description, list_name)[1] != negative


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

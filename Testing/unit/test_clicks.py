"""Clicks: their JSON, the command line's form, Slicer's markups, and what is said of unusable ones."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from CTSAM3DLib.clicks.click import (
    Click,
    check_clicks,
    clicks_from_json,
    clicks_to_json,
    parse_click,
    read_markups,
    to_lps,
    write_markups,
)
from CTSAM3DLib.errors import ClickError, OutputError
from CTSAM3DLib.imaging.volume import Geometry

GEOMETRY = Geometry((20, 40, 30), (10.0, 20.0, -50.0), (1.0, 2.0, 2.5), (0, -1, 0, 1, 0, 0, 0, 0, 1))
CLICKS = [Click((-62.0, -18.25, 1104.5)), Click((-40, 2, 1101), positive=False), Click((0.1, 1e-7, -3.0))]

coordinate = st.floats(-1e4, 1e4)
any_clicks = st.lists(st.builds(Click, st.tuples(coordinate, coordinate, coordinate), st.booleans()))


def save(path, *markups):
    path.write_text(json.dumps({"markups": list(markups)}))
    return path


class TestJson:
    @given(any_clicks)
    def test_comes_back_bit_by_bit_and_fits_a_tag(self, clicks):
        text = clicks_to_json(clicks)
        assert clicks_from_json(text) == clicks
        assert "|" not in text
        assert "\n" not in text

    def test_a_click_without_a_sign_is_positive(self):
        assert Click.from_dict({"position": [1, 2, 3]}) == Click((1.0, 2.0, 3.0))

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[{", "not valid JSON"),
            ("{}", "not a JSON list"),
            ("[7]", "not a click"),
            ('[{"position": [1, 2]}]', "not a position"),
            ("[{}]", "not a position"),
            ('[{"position": [1, 2, "a"]}]', "not a position"),
            ('[{"position": [1, 2, NaN]}]', "not finite"),
            ('[{"position": [1, 2, 3], "positive": "no"}]', "not a click"),
        ],
    )
    def test_says_what_is_wrong(self, text, said):
        with pytest.raises(ClickError, match=said):
            clicks_from_json(text)

    def test_a_position_is_finite(self):
        with pytest.raises(ClickError, match="not finite"):
            Click((0.0, float("inf"), 0.0))


class TestCommandLine:
    @pytest.mark.parametrize(
        ("text", "click"),
        [
            ("-62,-18,1104.5", ((-62, -18, 1104.5), True)),
            (" 1, 2 ,3 ,+", ((1, 2, 3), True)),
            ("1,2,3e1,-", ((1, 2, 30), False)),
        ],
    )
    def test_parses(self, text, click):
        assert parse_click(text) == click

    @pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4", "1,2,x", "1,2,nan", "1,2,3,+,-", "1;2;3"])
    def test_says_what_a_click_looks_like(self, text):
        with pytest.raises(ClickError, match="write three numbers and perhaps a sign"):
            parse_click(text)

    def test_coordinates(self):
        assert to_lps((1, 2, 3), "LPS", GEOMETRY) == (1, 2, 3)
        assert to_lps((1, 2, 3), "ras", GEOMETRY) == (-1, -2, 3)
        assert to_lps((1, 2, 3), "IJK", GEOMETRY) == pytest.approx((10 - 4, 20 + 1, -50 + 7.5))
        with pytest.raises(ClickError, match="choose LPS, RAS or IJK"):
            to_lps((1, 2, 3), "XYZ", GEOMETRY)


class TestMarkups:
    @given(clicks=any_clicks)
    def test_comes_back_as_written(self, tmp_path_factory, clicks):
        path = tmp_path_factory.mktemp("markups") / "clicks.mrk.json"
        write_markups(path, clicks)
        assert read_markups(path) == clicks

    def test_looks_well_in_slicer(self, tmp_path):
        write_markups(tmp_path / "clicks.mrk.json", CLICKS)
        document = json.loads((tmp_path / "clicks.mrk.json").read_text())
        (markup,) = document["markups"]
        assert markup["type"] == "Fiducial"
        assert markup["coordinateSystem"] == "LPS"
        assert "markups-schema" in document["@schema"]
        assert [point["label"] for point in markup["controlPoints"]] == ["+1", "-2", "+3"]
        assert [point["description"] for point in markup["controlPoints"]] == ["positive", "negative", "positive"]

    @pytest.mark.parametrize(
        ("system", "position"),
        [
            ("LPS", (1, 2, 3)),
            ("1", (1, 2, 3)),
            (1, (1, 2, 3)),
            ("RAS", (-1, -2, 3)),
            ("0", (-1, -2, 3)),
            (None, (1, 2, 3)),
        ],
    )
    def test_coordinate_systems(self, tmp_path, system, position):
        markup = {"coordinateSystem": system, "controlPoints": [{"position": [1, 2, 3]}]}
        if system is None:
            del markup["coordinateSystem"]
        assert read_markups(save(tmp_path / "a.mrk.json", markup)) == [Click(position)]

    @pytest.mark.parametrize(
        ("point", "positive"),
        [
            ({"label": "F-1"}, True),
            ({"label": "-1"}, False),
            ({"label": "Negative 3"}, False),
            ({"label": "NEG_2"}, False),
            ({"label": "liver", "description": "Negative"}, False),
            ({"label": "liver", "description": "not negative"}, True),
            ({}, True),
        ],
    )
    def test_signs(self, tmp_path, point, positive):
        markup = {"coordinateSystem": "LPS", "controlPoints": [{"position": [1, 2, 3], **point}]}
        assert read_markups(save(tmp_path / "a.mrk.json", markup)) == [Click((1, 2, 3), positive)]

    def test_several_lists_and_points_not_yet_placed(self, tmp_path):
        first = {
            "coordinateSystem": "LPS",
            "controlPoints": [
                {"position": [1, 1, 1], "positionStatus": "defined"},
                {"position": [2, 2, 2], "positionStatus": "preview"},
                {"positionStatus": "undefined"},
            ],
        }
        second = {"name": "Negative points", "coordinateSystem": "RAS", "controlPoints": [{"position": [3, 3, 3]}]}
        path = save(tmp_path / "a.mrk.json", first, {"name": "empty"}, second)
        assert read_markups(path) == [Click((1, 1, 1)), Click((-3, -3, 3), False)]

    @pytest.mark.parametrize(
        "text",
        [
            "no json",
            "[]",
            "{}",
            '{"markups": 7}',
            '{"markups": [{"coordinateSystem": "IJK"}]}',
            '{"markups": [{"controlPoints": [{}]}]}',
            '{"markups": [{"controlPoints": [{"position": [1, 2, 3], "label": 7}]}]}',
        ],
    )
    def test_not_a_markups_file(self, tmp_path, text):
        (tmp_path / "a.mrk.json").write_text(text)
        with pytest.raises(ClickError, match="is not a markups file of Slicer"):
            read_markups(tmp_path / "a.mrk.json")

    def test_unusable_point_missing_file_and_missing_folder(self, tmp_path):
        path = save(tmp_path / "a.mrk.json", {"controlPoints": [{"position": [1, 2]}]})
        with pytest.raises(ClickError, match="holds a point that cannot be used"):
            read_markups(path)
        with pytest.raises(ClickError, match="cannot be read"):
            read_markups(tmp_path / "b.mrk.json")
        with pytest.raises(OutputError, match="does not exist"):
            write_markups(tmp_path / "nowhere" / "a.mrk.json", CLICKS)


class TestCheck:
    def test_accepts_clicks_inside(self):
        clicks = [Click((-50, 30, -20)), Click((10, 20, -50), positive=False)]
        assert check_clicks(clicks, GEOMETRY) == tuple(clicks)

    def test_clicks_are_checked_once_for_each_volume(self):
        checked = check_clicks([Click((-50, 30, -20))], GEOMETRY)
        assert check_clicks(checked, GEOMETRY) is checked
        elsewhere = dataclasses.replace(GEOMETRY, origin=(1000, 1000, 1000))
        with pytest.raises(ClickError, match="outside the volume"):
            check_clicks(checked, elsewhere)

    def test_no_click_and_only_negative_ones(self):
        with pytest.raises(ClickError, match="There is no click"):
            check_clicks([], GEOMETRY)
        with pytest.raises(ClickError, match="All clicks are negative"):
            check_clicks([Click((-50, 30, -20), positive=False)], GEOMETRY)

    def test_names_the_click_outside_and_the_extent(self):
        with pytest.raises(ClickError) as raised:
            check_clicks([Click((-50, 30, -20)), Click((-50, 30.5, 99), positive=False)], GEOMETRY)
        assert str(raised.value) == (
            "Click 2 at LPS (-50, 30.5, 99) mm is outside the volume, which spans "
            "L -69.0 to 11.0, P 19.5 to 49.5, S -51.2 to -1.2 mm; move it inside."
        )

    def test_hints_at_ras(self):
        with pytest.raises(ClickError, match="if it were meant as RAS"):
            check_clicks([Click((50, -30, -20))], GEOMETRY)

"""Clicks in tags and in control points: the same clicks wherever they have been."""

import json

import numpy as np
import pytest
import slicer
import vtk
from hypothesis import given
from hypothesis import strategies as st

from CTSAM3DLib.clicks.click import Click, clicks_from_json, clicks_to_json, clicks_to_tag, write_markups
from CTSAM3DLib.errors import ClickError
from CTSAM3DLib.imaging.volume import Geometry, Volume
from CTSAM3DLib.mrml.clicks import (
    clicks_of,
    drop_pending_clicks,
    mask_clicks,
    pending_clicks,
    read_labelled_points,
    read_points,
    read_table_node,
    set_pending_clicks,
    waits_for,
    write_points,
)
from CTSAM3DLib.mrml.files import read_segmentation_node
from CTSAM3DLib.output.seg_nrrd import Segment, write_segmentation
from Testing.support.mrml_nodes import add_linear_transform, add_segmentation, add_volume, bright_boxes, rotation
from Testing.support.signs import SIGNS

CLICKS = [Click((-12.345, 0.0, 7.001)), Click((31.5, -2.25, 48.0), positive=False)]

millimetres = st.integers(-400_000, 400_000).map(lambda micrometres: micrometres / 1000)


@pytest.fixture
def segmentation(scene):
    node, _ = add_segmentation(scene, add_volume(scene, bright_boxes()), "a")
    return node


@pytest.fixture
def points(scene):
    return scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "liver")


@given(st.lists(st.builds(Click, st.tuples(millimetres, millimetres, millimetres), st.booleans()), max_size=5))
def test_a_tag_gives_its_clicks_back_and_is_in_ras(clicks):
    tag = clicks_to_tag(clicks)
    assert clicks_from_json(tag) == clicks
    assert clicks_to_tag(clicks_from_json(tag)) == tag
    assert "|" not in tag
    content = json.loads(tag)
    assert content["coordinateSystem"] == "RAS"
    for item, click in zip(content["clicks"], clicks, strict=True):
        assert item["position"] == [-click.position[0], -click.position[1], click.position[2]]


def test_a_list_of_clicks_as_scripts_write_it_is_read_too():
    assert clicks_from_json(clicks_to_json(CLICKS)) == CLICKS


def test_pending_clicks_come_before_those_of_the_mask():
    segment = slicer.vtkSegment()
    assert clicks_of(segment) == []
    assert pending_clicks(segment) is None
    segment.SetTag("CTSAM3D.Clicks", clicks_to_tag(CLICKS[:1]))
    set_pending_clicks(segment, CLICKS)
    assert clicks_of(segment) == CLICKS
    assert mask_clicks(segment) == CLICKS[:1]
    assert waits_for(segment, CLICKS)
    assert not waits_for(segment, CLICKS[:1])
    drop_pending_clicks(segment)
    assert clicks_of(segment) == CLICKS[:1]
    assert not waits_for(segment, CLICKS)


def test_a_tag_of_something_else_is_refused_in_one_sentence():
    segment = slicer.vtkSegment()
    segment.SetTag("CTSAM3D.Clicks", "no json")
    with pytest.raises(ClickError, match="not valid JSON"):
        clicks_of(segment)


def test_the_clicks_of_a_file_made_by_the_command_line_are_found(scene, tmp_path):
    geometry = Geometry((8, 9, 10), (0, 0, 0), (1, 1, 1), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    mask = Volume(np.ones(geometry.shape, np.uint8), geometry)
    for number, text in enumerate((clicks_to_tag(CLICKS), clicks_to_json(CLICKS))):
        path = tmp_path / f"{number}.seg.nrrd"
        write_segmentation(mask, path, [Segment("liver", 1, (1.0, 0.0, 0.0), {"CTSAM3D.Clicks": text})])
        node = read_segmentation_node(scene, path)
        segmentation = node.GetSegmentation()
        assert clicks_of(segmentation.GetSegment(segmentation.GetNthSegmentID(0))) == CLICKS


def test_points_give_their_clicks_back_under_any_transform(scene, segmentation, points):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        turned = add_linear_transform(scene, rotation(rng.uniform(-180, 180, 3), rng.uniform(-500, 500, 3)))
        own = add_linear_transform(scene, rotation(rng.uniform(-180, 180, 3), rng.uniform(-500, 500, 3)))
        segmentation.SetAndObserveTransformNodeID(turned.GetID())
        points.SetAndObserveTransformNodeID(own.GetID())
        clicks = [Click(tuple(rng.integers(-400_000, 400_000, 3) / 1000), bool(rng.random() > 0.5)) for _ in range(3)]
        write_points(clicks, points, segmentation)
        assert read_points(points, segmentation) == clicks


def test_only_placed_points_count_and_labels_or_descriptions_say_the_sign(segmentation, points):
    for label, description in (("F-1", ""), ("-2", ""), ("negative", ""), ("liver", "negative"), ("+5", "positive")):
        index = points.AddControlPoint(vtk.vtkVector3d(1, 2, 3), label)
        points.SetNthControlPointDescription(index, description)
    points.UnsetNthControlPointPosition(points.AddControlPoint(vtk.vtkVector3d(9, 9, 9), "skipped"))
    clicks = read_points(points, segmentation)
    assert [click.positive for click in clicks] == [True, False, False, False, True]
    assert {click.position for click in clicks} == {(-1, -2, 3)}


def test_control_points_follow_the_one_rule_of_signs(segmentation, points):
    for label, description, list_name, negative in SIGNS:
        points.RemoveAllControlPoints()
        points.SetName(list_name)
        points.SetNthControlPointDescription(points.AddControlPoint(vtk.vtkVector3d(1, 2, 3), label), description)
        (click,) = read_points(points, segmentation)
        assert click.positive != negative, (label, description, list_name)
        if label.strip("+-0123456789") and list_name:
            ((labelled,),) = read_labelled_points(points, segmentation).values()
            assert labelled.positive != negative, (label, description, list_name)


def test_points_of_a_file_are_the_clicks_of_the_command_line(scene, segmentation, points, tmp_path):
    path = tmp_path / "clicks.mrk.json"
    write_markups(path, CLICKS)
    storage = slicer.vtkMRMLMarkupsJsonStorageNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(points)
    assert read_points(points, segmentation) == CLICKS


def test_labels_name_segments(segmentation, points):
    for label in ("liver", "kidney", "-liver", "+kidney", "-1x", "-"):
        points.AddControlPoint(vtk.vtkVector3d(1, 2, 3), label)
    clicks = read_labelled_points(points, segmentation)
    signs = {name: [click.positive for click in of_segment] for name, of_segment in clicks.items()}
    assert signs == {"liver": [True, False, False], "kidney": [True, True], "1x": [False]}


def test_a_table_node_gives_clicks_by_segment(scene, segmentation):
    segmentation.SetAndObserveTransformNodeID(add_linear_transform(scene, rotation((0, 0, 90.0), (0, 0, 0))).GetID())
    table = scene.AddNewNodeByClass("vtkMRMLTableNode")
    for name in ("Segment", "R", "A", "S", "Sign"):
        table.AddColumn().SetName(name)
    for row in (("liver", "10", "20", "30", "+"), ("liver", "1", "2", "3", "-")):
        index = table.AddEmptyRow()
        for column, text in enumerate(row):
            table.SetCellText(index, column, text)
    clicks = read_table_node(table, segmentation)
    # A quarter turn about S: world (10, 20, 30) is local RAS (20, -10, 30).
    assert clicks == {"liver": [Click((-20, 10, 30)), Click((-2, 1, 3), positive=False)]}

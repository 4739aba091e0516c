"""Clicks on the surface of a segment in a 3D view: picked by VTK, against the real displayable manager."""

import numpy as np
import pytest

from Testing.effect.places import INSIDE


@pytest.fixture
def surface(workplace):
    """The workplace with a segmented box whose surface is seen in the 3D view."""
    workplace.click(INSIDE)
    workplace.settle()
    workplace.segmentation.CreateClosedSurfaceRepresentation()
    layout = workplace.host.app.layoutManager()
    layout.resetThreeDViews()
    workplace.view = layout.threeDWidget(0)
    return workplace


def test_a_click_on_a_surface_takes_away_there(surface):
    before = surface.mask()
    taken = surface.host.click(surface.view, INSIDE, control=True)
    assert not taken  # the view needs the press: a drag turns the scene
    surface.settle()
    _first, second = surface.clicks()
    assert not second.positive
    outside = np.argwhere(before == 0) * 1.5
    place = np.array([-second.position[0], -second.position[1], second.position[2]])[::-1]
    depth = np.linalg.norm(outside - place, axis=1).min()
    assert depth < 4  # just below the surface, not in the middle
    assert surface.mask().sum() < before.sum()


def test_a_click_beside_the_surface_is_none(surface):
    surface.host.click(surface.view, (2000.0, 2000.0, 2000.0))
    surface.host.process_events(0.05)
    assert len(surface.clicks()) == 1


def test_a_drag_turns_the_scene_and_is_no_click(surface):
    surface.host.move(surface.view, INSIDE)
    surface.host._send(surface.view, "LeftButtonPressEvent")
    surface.host.move(surface.view, (60.0, 60.0, 60.0))
    surface.host._send(surface.view, "LeftButtonReleaseEvent")
    surface.host.process_events(0.05)
    assert len(surface.clicks()) == 1


def test_the_surface_of_another_segmentation_is_left_alone(surface):
    from Testing.support.mrml_nodes import add_segmentation

    other, _ = add_segmentation(surface.host.scene, surface.volume, "other")
    surface.editor.setSegmentationNode(other)
    surface.editor.setCurrentSegmentID("other")
    surface.editor.setActiveEffectByName("CTSAM3D")
    surface.host.click(surface.view, INSIDE)
    surface.host.process_events(0.05)
    from CTSAM3DLib.mrml.clicks import clicks_of

    assert clicks_of(other.GetSegmentation().GetSegment("other")) == []

"""A model with a random walk gives the same masks on a server, for which it sends nothing more."""

from __future__ import annotations

from CTSAM3DLib import connect
from CTSAM3DLib.execution.engine import Engine
from CTSAM3DLib.segmentation.session import Segmenter
from CTSAM3DServer.settings import MIN_MEMORY, Settings
from Testing.server.conftest import same, serving
from Testing.unit.test_walk import walking_model


def test_masks_are_those_of_a_local_session_bit_for_bit(bent_tube, bent_clicks):
    model = walking_model(places=True)
    local = Segmenter(Engine(model, "cpu")).open(bent_tube)
    with serving(models=[model]) as server:
        there = connect(server.address).open(bent_tube)
        for count in (1, 2, 3, 2, 1):  # the last two are undos
            assert same(there.segment(bent_clicks[:count]), local.segment(bent_clicks[:count]))


def test_a_server_that_forgets_gives_the_same_masks(bent_tube, bent_clicks):
    model = walking_model(places=False)
    local = Segmenter(Engine(model, "cpu")).open(bent_tube)
    with serving(Settings(port=0, memory=MIN_MEMORY), models=[model]) as server:
        there = connect(server.address).open(bent_tube)
        for count in (3, 1, 3):
            assert same(there.segment(bent_clicks[:count]), local.segment(bent_clicks[:count]))

"""A walk around the clicks as a session's last step: what it weighs, what it obeys, and that masks stay functions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from CTSAM3DLib.cache import Cache
from CTSAM3DLib.checkpoints import checkpoint as checkpoints
from CTSAM3DLib.checkpoints.checkpoint import TrainedModel
from CTSAM3DLib.checkpoints.model_info import ModelInfo
from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import ModelError
from CTSAM3DLib.execution.engine import Engine
from CTSAM3DLib.imaging.volume import Geometry, Volume
from CTSAM3DLib.model.configs import SMALL
from CTSAM3DLib.model.network import CTSAM3D
from CTSAM3DLib.model.small.walk import CLICKS, EDGES, VOXELS, Walk
from CTSAM3DLib.segmentation import walk as walking
from CTSAM3DLib.segmentation.patch_grid import TileSampler
from CTSAM3DLib.segmentation.session import Segmenter, Session
from CTSAM3DLib.segmentation.walk import Weights

INFO = ModelInfo("walking", (-1000.0, 800.0), 3.0, cross_patch=False)


def walking_model(places: bool) -> TrainedModel:
    """An untrained small network whose walk follows edges of the CT and keeps off the clicks' other side."""
    torch.manual_seed(0)
    network = CTSAM3D(replace(SMALL, walk_width=8, semantic_places=places)).eval()
    with torch.no_grad():
        network.walk.edge_costs.fill_(-6.0)
        network.walk.edge_costs[EDGES.index("level")] = 1.0
        network.walk.straight.weight.zero_()
        network.walk.straight.bias.copy_(torch.tensor([-8.0, -7.0]))
    return TrainedModel(network, INFO, "1" * 64)


@pytest.fixture(scope="module", params=[False, True], ids=["vectors", "places"])
def segmenter(request) -> Segmenter:
    return Segmenter(Engine(walking_model(request.param), "cpu"))


@pytest.fixture(scope="module")
def ball() -> Volume:
    """A ball of 15 mm and a larger one of the same intensity, in noisy soft tissue; voxels of 2 x 2 x 2.5 mm."""
    z, y, x = np.mgrid[0:60, 0:90, 0:90]
    near = (2.5 * (z - 20)) ** 2 + (2 * (y - 40)) ** 2 + (2 * (x - 40)) ** 2 < 15**2
    far = (2.5 * (z - 40)) ** 2 + (2 * (y - 60)) ** 2 + (2 * (x - 60)) ** 2 < 25**2
    array = np.where(near | far, 120, 30) + np.random.default_rng(0).normal(0, 5, near.shape)
    array[:, :4] = -1000
    return Volume(array.astype(np.int16), Geometry(near.shape, (5, 6, 7), (2, 2, 2.5), (1, 0, 0, 0, 1, 0, 0, 0, 1)))


def click_at(volume: Volume, z: int, y: int, x: int, positive: bool = True) -> Click:
    (l, p, s) = volume.geometry.to_lps([(x, y, z)])[0]  # noqa: E741
    return Click((float(l), float(p), float(s)), positive)


@pytest.fixture(scope="module")
def clicks(ball) -> list[Click]:
    return [
        click_at(ball, 20, 40, 40),
        click_at(ball, 21, 55, 41, False),
        click_at(ball, 20, 43, 38),
        click_at(ball, 40, 60, 60, False),
        click_at(ball, 24, 40, 42),
    ]


def test_the_mask_follows_the_edges_of_the_ct(segmenter, ball, clicks):
    mask = segmenter.open(ball).segment(clicks[:4]).mask.array > 0
    z, y, x = np.mgrid[0:60, 0:90, 0:90]
    near = (2.5 * (z - 20)) ** 2 + (2 * (y - 40)) ** 2 + (2 * (x - 40)) ** 2 < 15**2
    assert 2 * (mask & near).sum() / (mask.sum() + near.sum()) > 0.85


def test_every_click_is_obeyed(segmenter, ball):
    """Also clicks that contradict what is around them, and lie between the voxels of the model's grid."""
    rng = np.random.default_rng(4)
    clicks = [click_at(ball, 20, 40, 40)]
    for count in range(12):
        z, y, x = rng.integers((4, 20, 20), (50, 75, 75))
        clicks.append(click_at(ball, int(z), int(y), int(x), bool(count % 2)))
    mask = segmenter.open(ball).segment(clicks).mask
    for click in clicks:
        x, y, z = np.rint(ball.geometry.to_ijk(click.position)).astype(int).ravel()
        assert mask.array[z, y, x] == click.positive


def test_undo_edit_and_replay_are_bit_identical(segmenter, ball, clicks):
    session = segmenter.open(ball)
    one_by_one = [session.segment(clicks[:count]).mask.content_hash for count in range(1, 6)]
    assert len(set(one_by_one)) == 5
    assert session.segment(clicks[:2]).mask.content_hash == one_by_one[1]
    without = session.segment([clicks[0], *clicks[2:]]).mask.content_hash
    assert without not in one_by_one
    assert segmenter.open(ball).segment(clicks).mask.content_hash == one_by_one[-1]
    assert segmenter.open(ball).segment([clicks[0], *clicks[2:]]).mask.content_hash == without


def test_a_session_that_can_keep_nothing_gives_the_same_masks(segmenter, ball, clicks):
    forgetful = Session(segmenter.engine, TileSampler(ball, 3.0), ball.geometry, Cache(0))
    expected = segmenter.open(ball).segment(clicks).mask.content_hash
    assert forgetful.segment(clicks).mask.content_hash == expected


def test_larger_voxels_in_a_larger_box_give_much_the_same_mask(segmenter, ball, monkeypatch):
    clicks = [click_at(ball, 40, 60, 60), click_at(ball, 40, 36, 60, False), click_at(ball, 42, 66, 62)]
    fine = segmenter.open(ball).segment(clicks).mask.array > 0
    monkeypatch.setattr(walking, "MAX_VOXELS", 10_000)
    coarse = segmenter.open(ball).segment(clicks).mask.array > 0
    assert not np.array_equal(coarse, fine)
    assert 2 * (coarse & fine).sum() / (coarse.sum() + fine.sum()) > 0.85


def test_numpy_weighs_as_the_module_does():
    torch.manual_seed(1)
    walk = Walk(8)
    clicks, voxels = torch.rand(len(CLICKS)), torch.rand(len(VOXELS), 5, 6, 7)
    edges = torch.rand(len(EDGES), 5, 6, 6)
    weights = Weights.of(walk)
    pulls = walk.pulls(clicks, voxels.flatten(1)).detach().numpy().reshape(2, 5, 6, 7)
    np.testing.assert_allclose(weights.pulls(clicks.numpy(), voxels.numpy()), pulls, rtol=1e-4)
    np.testing.assert_allclose(weights.conductances(edges.numpy()), walk.conductances(edges).detach(), rtol=1e-4)


def test_a_walk_is_kept_in_a_model_file(tmp_path):
    model = walking_model(places=False)
    checkpoints.save(tmp_path / "walking.safetensors", model.network, INFO)
    loaded = checkpoints.load(tmp_path / "walking.safetensors").network
    assert loaded.config.walk_width == 8
    assert torch.equal(loaded.walk.edge_costs, model.network.walk.edge_costs.half().float())


def test_a_walk_asks_for_semantics():
    with pytest.raises(ModelError, match="semantic_width"):
        replace(SMALL, walk_width=8, semantic_width=0, semantic_filters=())

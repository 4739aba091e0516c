"""Learning a walk: gradients through its equations, a descent that helps, and what is learnt from."""

import numpy as np
import pytest
import torch

from CTSAM3DLib.checkpoints.checkpoint import TrainedModel
from CTSAM3DLib.checkpoints.model_info import ModelInfo
from CTSAM3DLib.errors import ModelError
from CTSAM3DLib.model.configs import SMALL
from CTSAM3DLib.model.network import CTSAM3D, build
from CTSAM3DLib.model.small.walk import CLICKS, EDGES, VOXELS, Walk
from CTSAM3DLib.segmentation.evidence import Evidence
from training.learning import walks
from training.learning.walks import Potential, Situation, fit, loss_and_dice
from training.walk import begin_by_hand, with_walk

SHAPE = (5, 6, 7)


def edges_of(shape):
    return [[n - (axis == other) for other, n in enumerate(shape)] for axis in range(3)]


def test_the_gradient_is_that_of_differences(monkeypatch):
    monkeypatch.setattr(walks, "TOLERANCE", 1e-6)
    torch.manual_seed(0)
    tensors = [torch.rand(shape) + 0.1 for shape in edges_of(SHAPE)] + [torch.rand(SHAPE) * 0.1 for _ in range(2)]
    towards = torch.rand(SHAPE)

    def loss(parts):
        return (Potential.apply(*parts) * towards).sum()

    for tensor in tensors:
        tensor.requires_grad_()
    loss(tensors).backward()
    for index, tensor in enumerate(tensors):
        step = torch.zeros_like(tensor)
        step[2, 3, 4] = 0.02
        moved = [
            [t.detach() + sign * step if i == index else t.detach() for i, t in enumerate(tensors)] for sign in (1, -1)
        ]
        difference = float(loss(moved[0]) - loss(moved[1])) / 0.04
        assert float(tensor.grad[2, 3, 4]) == pytest.approx(difference, rel=0.05, abs=2e-3)


def made_up(seed: int) -> Situation:
    """A block that HU tell apart, of which the network knows nothing; one click inside and one outside."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((12, 12, 12), bool)
    truth[2:8, 3:9, 3:9] = True
    voxels = np.zeros((len(VOXELS), *truth.shape), np.float32)
    voxels[VOXELS.index("like_hu")] = truth + rng.normal(0, 0.2, truth.shape)
    seeds = np.zeros(truth.shape, np.int8)
    seeds[5, 6, 6], seeds[10, 2, 2] = 1, -1
    edges = tuple(np.zeros((len(EDGES), *shape), np.float32) for shape in edges_of(truth.shape))
    found = Evidence(1, np.full(len(CLICKS), 0.5, np.float32), voxels, edges, seeds)
    return Situation.of("chest", found, truth, truth.sum())


def test_the_descent_learns_what_tells_the_structure_apart():
    torch.manual_seed(0)
    walk = Walk(4)
    begin_by_hand(walk)
    situations = [made_up(seed) for seed in range(4)]
    before = np.mean([loss_and_dice(walk, situation)[1] for situation in situations])
    heard = []
    fit(walk, situations, minutes=0.1, rate=0.05, batch=2, seed=0, told=lambda step, dice: heard.append(step))
    after = np.mean([loss_and_dice(walk, situation)[1] for situation in situations])
    assert before < 0.6
    assert after > 0.9
    assert heard[:2] == [25, 50]


def test_a_model_gets_a_walk_and_keeps_its_own():
    torch.manual_seed(0)
    plain = TrainedModel(CTSAM3D(SMALL).eval(), ModelInfo("plain", (-1000.0, 800.0)), "0" * 64)
    walking = with_walk(plain, 8)
    assert walking.network.config.walk_width == 8
    assert all(
        torch.equal(tensor, walking.network.state_dict()[name]) for name, tensor in plain.network.state_dict().items()
    )
    assert with_walk(walking, 16) is walking
    with pytest.raises(ModelError, match="semantic_width"):
        with_walk(TrainedModel(build("ctsam3d"), ModelInfo("paper", (-1000.0, 800.0)), "0" * 64), 8)

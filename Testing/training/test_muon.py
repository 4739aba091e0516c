"""Muon: orthogonal updates of matrices, as `torch.optim.Muon` makes them, also of convolutions."""

import pytest
import torch
from torch import nn

from Testing.relative import off
from training.learning.muon import Muon, optimisers, orthogonal


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", [(24, 24), (16, 432), (432, 16), (1, 50), (50, 1)])
def test_orthogonal_brings_all_singular_values_near_one(shape):
    for scale in (1e-6, 1.0, 1e6):
        values = torch.linalg.svdvals(orthogonal(scale * torch.randn(shape)))
        # The square one may keep a singular value that was next to nothing.
        assert values.max() < 1.3
        assert values.quantile(0.1 if shape[0] == shape[1] else 0) > 0.6


def test_orthogonal_keeps_the_singular_vectors():
    u, _, v = torch.linalg.svd(torch.randn(12, 30), full_matrices=False)
    known = u @ torch.diag(torch.linspace(0.5, 2, 12)) @ v
    turned = u.T @ orthogonal(known) @ v.T
    assert off(turned, turned.diag().diag()) < 1e-4


def test_nothing_learnt_is_nothing_moved():
    assert not orthogonal(torch.zeros(4, 6)).any()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon of its own")
@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_steps_are_those_of_torch(shape):
    ours = nn.Parameter(torch.randn(shape))
    theirs = nn.Parameter(ours.detach().clone())
    start = ours.detach().clone()
    optimiser = Muon([ours], lr=0.02, weight_decay=0.1)
    reference = torch.optim.Muon(
        [theirs], lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(6):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        optimiser.step()
        reference.step()
    # Torch iterates in bfloat16, whose numbers have eight bits.
    assert (ours - theirs).norm() < 0.02 * (ours - start).norm()


def test_a_step_has_the_size_of_one_of_adamw():
    weights = [nn.Parameter(torch.zeros(64, 64, 3, 3, 3)) for _ in range(2)]
    for weight in weights:
        weight.grad = torch.randn(weight.shape)
    Muon(weights[:1], lr=0.01, weight_decay=0).step()
    assert float(weights[0].detach().square().mean().sqrt()) == pytest.approx(0.01 * 0.2, rel=0.3)
    assert not weights[1].any()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("shape", [(6, 4, 3, 3, 3), (48, 1, 3, 3, 3)])
def test_a_convolution_is_the_matrix_of_its_output_channels(shape, memory_format):
    matrix = nn.Parameter(torch.randn(shape[0], shape[1] * 27))
    kernel = nn.Parameter(matrix.detach().reshape(shape).contiguous(memory_format=memory_format))
    for _ in range(2):
        matrix.grad = torch.randn(matrix.shape)
        kernel.grad = matrix.grad.reshape(shape).contiguous(memory_format=memory_format)
        for weight in (matrix, kernel):
            Muon([weight], lr=0.1, weight_decay=0.1).step()
    assert off(kernel.flatten(1), matrix) < 1e-4


def test_muon_takes_the_matrices_and_adamw_the_rest():
    model = nn.Sequential(nn.Conv3d(2, 3, 3), nn.BatchNorm3d(3), nn.Linear(4, 5))
    muon, adamw = optimisers(model, "muon", 0.1, 0.01)
    shapes = [[parameter.ndim for group in one.param_groups for parameter in group["params"]] for one in (muon, adamw)]
    assert isinstance(muon, Muon)
    assert isinstance(adamw, torch.optim.AdamW)
    assert shapes == [[5, 2], [1, 1, 1, 1]]
    (alone,) = optimisers(model, "adamw", 0.1, 0.01)
    assert isinstance(alone, torch.optim.AdamW)
    assert len(alone.param_groups[0]["params"]) == 6


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(ValueError, match="'sgd' is not an optimiser; choose adamw or muon"):
        optimisers(nn.Linear(2, 2), "sgd", 0.1, 0.01)

"""The decoder's fast form gives the plain form's numbers on real and made-up prompts."""

import numpy as np
import pytest
import torch

from CTSAM3DLib.model import build
from CTSAM3DLib.model.crew import Crew
from CTSAM3DLib.model.decoder import PromptBlock, interpolated
from CTSAM3DLib.model.execution import FastOnCpu
from CTSAM3DLib.model.fast_block import FastBlock
from CTSAM3DLib.model.network import CTSAM3D
from CTSAM3DLib.model.tiled_half import kinds_of_tiles
from CTSAM3DLib.model.tiles import Scratch, TileGrid
from CTSAM3DLib.prompts import click_maps


def prompts_of(kind: str) -> torch.Tensor:
    """[previous, positive, negative], (1, 3, 64, 64, 64), as a session gives them."""
    if kind == "noise":
        return torch.rand(1, 3, 64, 64, 64, generator=torch.Generator().manual_seed(0))
    clicks = [(20, 30, 40), (50, 30, 2)], [1, 0]
    away = np.sqrt(((np.indices((64, 64, 64)) - [[[[30]]], [[[44]]], [[[26]]]]) ** 2).sum(axis=0))
    ball = np.maximum(np.rint(255 / (1 + np.exp(2 * (away - 14)))), 1)
    neighbour = np.where(np.arange(64) < 16, ball, 0)
    previous = {"first click": 0 * ball, "later click": ball, "neighbour": neighbour}[kind]
    maps = [(previous / np.float32(255)).astype(np.float32), *click_maps(*clicks)]
    return torch.from_numpy(np.stack(maps))[None]


KINDS = ("first click", "later click", "neighbour", "noise")


@pytest.fixture(scope="module", params=["ctsam3d", "ctsam3d-small"])
def network(request) -> CTSAM3D:
    torch.manual_seed(0)
    return build(request.param).eval()


@pytest.fixture(scope="module")
def fast(network) -> FastOnCpu:
    return FastOnCpu(network)


@pytest.fixture(scope="module")
@torch.inference_mode()
def levels(network) -> list[torch.Tensor]:
    return network.encode(torch.rand(1, 1, 64, 64, 64, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_decoding(network, fast, levels, kind):
    prompts = prompts_of(kind)
    probability, quality = network.decode(levels, prompts)
    fast_probability, fast_quality = fast.decode(levels, prompts)
    assert probability.std() > 0.005
    torch.testing.assert_close(fast_probability, probability, rtol=0, atol=5e-5)
    torch.testing.assert_close(fast_quality, quality, rtol=0, atol=5e-5)


@torch.inference_mode()
def test_encoding_and_proposing(network, fast, levels):
    image, other = torch.rand(2, 1, 1, 64, 64, 64, generator=torch.Generator().manual_seed(1))
    for level, plain in zip(fast.encode(image), network.encode(image), strict=True):
        torch.testing.assert_close(level, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        fast.propose(image, other, image), network.propose(image, other, image), atol=1e-4, rtol=0
    )


@torch.inference_mode()
def test_patches_of_a_batch_are_those_alone(fast, levels):
    prompts = torch.cat([prompts_of("first click"), prompts_of("later click")])
    together, qualities = fast.decode([torch.cat([level, level]) for level in levels], prompts)
    for index in range(2):
        alone, quality = fast.decode(levels, prompts[index : index + 1])
        torch.testing.assert_close(alone[0], together[index], rtol=0, atol=5e-5)
        torch.testing.assert_close(quality[0], qualities[index], rtol=0, atol=5e-5)


@torch.inference_mode()
def test_an_answer_does_not_depend_on_what_was_asked_before(fast, levels):
    """Memory is used again, but nothing of an earlier patch stays in it."""
    first, noise = prompts_of("later click"), prompts_of("noise")
    expected = fast.decode(levels, first)[0]
    fast.decode(levels, noise)
    assert torch.equal(fast.decode(levels, first)[0], expected)


@pytest.mark.parametrize("side", [8, 16, 32])
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_blocks_where_prompts_are_constant_and_where_they_vary(side, kind):
    torch.manual_seed(0)
    block = PromptBlock(16, 3, 8)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # responses that differ from place to place
    maps = interpolated(prompts_of(kind))[(8, 16, 32).index(side) + 2]
    x = torch.randn(1, 16, side, side, side)
    expected = block(x, maps)
    crew = Crew()
    fast = FastBlock(block, side, crew, Scratch())
    torch.testing.assert_close(crew.lead(lambda: fast(x, maps)), expected, rtol=1e-4, atol=1e-3)


def test_where_responses_are_computed():
    grid = TileGrid(32, 4)

    def varying(kind: str) -> float:
        return float((kinds_of_tiles(interpolated(prompts_of(kind))[-1], grid) < 0).float().mean())

    assert varying("noise") == 1
    assert 0 < varying("first click") < 0.3
    assert varying("first click") < varying("later click") < 0.7

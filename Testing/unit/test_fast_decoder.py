"""The decoder's fast form gives the plain form's numbers on real and made-up prompts."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from CTSAM3DLib.execution.cpu.buffer_pool import BufferPool
from CTSAM3DLib.execution.cpu.fast_block import FastBlock
from CTSAM3DLib.execution.cpu.fast_network import FastOnCpu
from CTSAM3DLib.execution.cpu.modulation_cache import ModulationCache, constant_kinds
from CTSAM3DLib.execution.cpu.thread_team import ThreadTeam
from CTSAM3DLib.execution.cpu.tiles import TileGrid
from CTSAM3DLib.model.configs import PAPER, SMALL
from CTSAM3DLib.model.decoder import resized
from CTSAM3DLib.model.network import CTSAM3D
from CTSAM3DLib.model.spade import SpadeBlock
from CTSAM3DLib.segmentation.prompt_maps import click_maps
from Testing.relative import off


def prompts_of(kind: str) -> torch.Tensor:
    """[previous, positive, negative], (1, 3, 64, 64, 64), as a session gives them."""
    if kind == "noise":
        return torch.rand(1, 3, 64, 64, 64, generator=torch.Generator().manual_seed(0))
    if kind == "nothing":
        return torch.zeros(1, 3, 64, 64, 64)
    clicks = [(20, 30, 40), (50, 30, 2)], [1, 0]
    away = np.sqrt(((np.indices((64, 64, 64)) - [[[[30]]], [[[44]]], [[[26]]]]) ** 2).sum(axis=0))
    ball = np.maximum(np.rint(255 / (1 + np.exp(2 * (away - 14)))), 1)
    neighbour = np.where(np.arange(64) < 16, ball, 0)
    previous = {"first click": 0 * ball, "later click": ball, "neighbour": neighbour}[kind]
    maps = [(previous / np.float32(255)).astype(np.float32), *click_maps(*clicks)]
    return torch.from_numpy(np.stack(maps))[None]


KINDS = ("nothing", "first click", "later click", "neighbour", "noise")


ROUNDING = 1e-4
"""What fast and plain execution may differ by in float32, as a share of the scale."""
THIN = replace(SMALL, level_widths=(16, 24, 16, 16), upscaled_widths=(16, 16, 16, 10, 16))
"""So few channels that no grid is cut into tiles."""


@pytest.fixture(scope="module", params=[PAPER, SMALL, THIN], ids=["ctsam3d", "ctsam3d-small", "thin"])
def network(request) -> CTSAM3D:
    torch.manual_seed(0)
    return CTSAM3D(request.param).eval()


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
    assert off(fast_probability, probability) < ROUNDING
    assert off(fast_quality, quality, scale=1) < ROUNDING


@torch.inference_mode()
def test_encoding_and_proposing(network, fast, levels):
    image, other = torch.rand(2, 1, 1, 64, 64, 64, generator=torch.Generator().manual_seed(1))
    for level, plain in zip(fast.encode(image), network.encode(image), strict=True):
        assert off(level, plain) < ROUNDING
    assert off(fast.predict_prompts(image, other, image), network.predict_prompts(image, other, image)) < ROUNDING


@torch.inference_mode()
def test_patches_of_a_batch_are_those_alone(fast, levels):
    prompts = torch.cat([prompts_of("first click"), prompts_of("later click")])
    together, qualities = fast.decode([torch.cat([level, level]) for level in levels], prompts)
    for index in range(2):
        alone, quality = fast.decode(levels, prompts[index : index + 1])
        assert torch.equal(alone[0], together[index])
        assert torch.equal(quality[0], qualities[index])


@pytest.fixture(scope="module")
@torch.inference_mode()
def asked_alone(network, levels) -> tuple[torch.Tensor, torch.Tensor]:
    """The answer to a later click of a network that was asked nothing before."""
    return FastOnCpu(network).decode(levels, prompts_of("later click"))


@pytest.mark.parametrize("before", KINDS)
@torch.inference_mode()
def test_an_answer_does_not_depend_on_what_was_asked_before(fast, levels, asked_alone, before):
    """Memory is used again and scales and shifts are kept, but nothing of an earlier patch changes another's answer."""
    fast.decode(levels, prompts_of(before))
    given = fast.decode(levels, prompts_of("later click"))
    assert torch.equal(given[0], asked_alone[0])
    assert torch.equal(given[1], asked_alone[1])


@pytest.fixture
def threads():
    """Sets how many threads PyTorch uses, until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@torch.inference_mode()
def test_an_answer_does_not_depend_on_the_number_of_threads(network, levels, asked_alone, threads):
    for number in {1, 2, 3} - {torch.get_num_threads()}:
        threads(number)
        probability, quality = FastOnCpu(network).decode(levels, prompts_of("later click"))
        assert torch.equal(probability, asked_alone[0])
        assert torch.equal(quality, asked_alone[1])


@pytest.mark.parametrize("checks", [0, 1, 3, 7, 20, 10**6])
@torch.inference_mode()
def test_what_is_made_ahead_changes_no_answer(fast, levels, asked_alone, checks):
    """However far it came: it is stopped when it has asked so many times whether it should."""
    if not fast.supports_prefetch and checks:
        pytest.skip("this network makes nothing ahead, however long it is let")
    fast.decode(levels, prompts_of("noise"))
    asked = itertools.count()
    fast.prefetch(prompts_of("neighbour"), lambda: next(asked) >= checks)
    assert torch.equal(fast.decode(levels, prompts_of("later click"))[0], asked_alone[0])


@torch.inference_mode()
def test_what_is_made_ahead_need_not_be_made_again(network, fast, levels, monkeypatch):
    compute, computed = ModulationCache._compute, []

    def counted(self: ModulationCache, block: torch.Tensor, buffers: BufferPool) -> None:
        computed.append(int((block >= 0).sum()))
        compute(self, block, buffers)

    def tiles_of(work: Callable[[], object]) -> int:
        computed.clear()
        work()
        return sum(computed)

    monkeypatch.setattr(ModulationCache, "_compute", counted)
    prompts, without_click = prompts_of("later click"), prompts_of("later click")
    without_click[:, 2] = 0
    fast.decode(levels, prompts_of("noise"))
    ahead = tiles_of(lambda: fast.prefetch(without_click, lambda: False))
    assert fast.supports_prefetch == (network.config is PAPER) == (ahead > 0)
    near_click = tiles_of(lambda: fast.decode(levels, prompts))
    if fast.supports_prefetch:
        assert 0 < near_click < ahead / 2
    assert tiles_of(lambda: fast.decode(levels, prompts)) == 0


@pytest.mark.parametrize("side", [8, 16, 32])
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_blocks_where_prompts_are_constant_and_where_they_vary(side, kind):
    torch.manual_seed(0)
    block = SpadeBlock(16, 3, 8)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # responses that differ from place to place
    maps = resized(prompts_of(kind))[(8, 16, 32).index(side) + 2]
    x = torch.randn(1, 16, side, side, side)
    expected = block(x, maps)
    team = ThreadTeam()
    fast = FastBlock(block, side, team, BufferPool())

    def answer() -> torch.Tensor:
        fast.start_modulation(maps)
        return fast(x)

    assert off(team.run(answer), expected) < ROUNDING


def test_where_responses_are_computed():
    grid = TileGrid(32, 4)

    def varying(kind: str) -> float:
        return float((constant_kinds(resized(prompts_of(kind))[-1], grid) < 0).float().mean())

    assert varying("noise") == 1
    assert 0 < varying("first click") < 0.3
    assert varying("first click") < varying("later click") < 0.7

"""The networks of the paper's Table 4: ResT or U-Net, PSAP or Fourier features, in a reduced size."""

import dataclasses
import sys
from itertools import product

import numpy as np
import pytest
import torch

from CTSAM3DLib.checkpoints.checkpoint import ModelInfo, TrainedModel, load, save
from CTSAM3DLib.errors import ModelError
from CTSAM3DLib.execution.engine import memory_forecast
from CTSAM3DLib.model import CTSAM3D
from CTSAM3DLib.model.ablations import rff_decoder as rff
from CTSAM3DLib.model.configs import PAPER, SMALL, NetworkConfig
from CTSAM3DLib.segmentation.prompt_maps import click_maps
from Testing.relative import off

REDUCED = dataclasses.replace(
    SMALL,
    stem_width=8,
    encoder_widths=(8, 16, 16, 32),
    encoder_blocks=(1, 1, 1, 1),
    encoder_heads=(1, 1, 1, 2),
    level_widths=(12, 12, 8, 16),
    upscaled_widths=(8, 8, 8, 6, 8),
    prompt_widths=(8, 8, 8, 8, 6),
    semantic_width=0,
    semantic_filters=(),
    quality_width=8,
    cross_patch_widths=(2, 2, 2, 2, 2),
)
CONFIGS = [
    dataclasses.replace(REDUCED, encoder=encoder, prompting=prompting, fine_width=fine_width, prompt_resize=resize)
    for encoder, prompting, (fine_width, resize) in product(
        ("rest", "unet"), ("psap", "rff"), ((0, "trilinear"), (4, "pooled"))
    )
]
CONFIGS.append(
    dataclasses.replace(REDUCED, fine_width=4, prompt_resize="pooled", semantic_width=5, semantic_filters=(4, 4, 4))
)
CONFIGS.append(dataclasses.replace(CONFIGS[-1], semantic_width=6, semantic_places=True))

INFO = ModelInfo("ctsam3d-small", (-500.0, 700.0))


def ablations(test):
    """Each of the four combinations, seeing the image as the published network does and as the small one does."""
    names = [f"{c.encoder}-{c.prompting}-fine{c.fine_width}-semantic{c.semantic_width}" for c in CONFIGS]
    return pytest.mark.parametrize("config", CONFIGS, ids=names)(test)


def untrained(config: NetworkConfig) -> CTSAM3D:
    torch.manual_seed(0)
    return CTSAM3D(config).eval()


def prompted(*clicks: tuple[tuple[int, int, int], int], previous: torch.Tensor | None = None) -> torch.Tensor:
    """(1, 3, 64, 64, 64) from clicks ((x, y, z), sign)."""
    maps = torch.from_numpy(np.stack(click_maps([point for point, _ in clicks], [sign for _, sign in clicks])))
    return torch.cat([torch.zeros(1, 64, 64, 64) if previous is None else previous, maps])[None]


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    noise = torch.rand(1, 1, 64, 64, 64, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.avg_pool3d(noise, 5, stride=1, padding=2)


@ablations
def test_levels_and_answers_have_their_shapes(config, image):
    network = untrained(config)
    with torch.inference_mode():
        levels = network.encode(image.expand(2, -1, -1, -1, -1))
        prompts = prompted(((20, 30, 40), 1)).expand(2, -1, -1, -1, -1)
        probability, quality = network.decode(levels, prompts)
    grids = list(zip(config.level_widths, (16, 8, 4, 2), strict=True))
    if config.fine_width:
        grids = [(1, 64), (config.fine_width, 32), *grids]
    if config.semantic_width:
        grids.insert(1, (config.semantic_width + 3 * config.semantic_places, 32))
    assert [tuple(level.shape) for level in levels] == [(2, width, side, side, side) for width, side in grids]
    assert probability.shape == (2, 1, 64, 64, 64)
    assert quality.shape == (2,)
    assert 0 <= probability.min() < probability.max() <= 1


def test_semantics_ask_for_guidance_and_for_psap():
    with pytest.raises(ModelError, match="semantics without fine_width and psap"):
        dataclasses.replace(CONFIGS[-1], prompting="rff")


@ablations
def test_every_weight_learns(config, image):
    network = untrained(config).train()
    previous = torch.rand(1, 64, 64, 64, generator=torch.Generator().manual_seed(2))
    prompts = prompted(((20, 30, 40), 1), ((50, 10, 12), 0), previous=previous)
    logits, quality = network.decoder(network.encode(image), prompts)
    (logits.square().mean() + quality.square().sum()).backward()
    for part in (network.encoder, network.decoder):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            # A bias before an instance norm or in the keys of an attention cancels out.
            assert name.endswith("bias") or parameter.grad.abs().max() > 0, name


@ablations
def test_place_and_sign_of_a_click_and_the_previous_mask_matter(config, image):
    network = untrained(config)
    asked = [
        prompted(((20, 30, 40), 1)),
        prompted(((44, 30, 40), 1)),
        prompted(((20, 30, 40), 0)),
        prompted(((20, 30, 40), 1), previous=(image[0] > image.mean()).float()),
        prompted(((20, 30, 40), 1), ((44, 30, 40), 0)),
    ]
    with torch.inference_mode():
        levels = [level.expand(len(asked), -1, -1, -1, -1) for level in network.encode(image)]
        first, *others = network.decode(levels, torch.cat(asked))[0]
        (again,) = network.decode(network.encode(image), asked[0])[0]
    noise = (first - again).abs().max()
    for other in others:
        assert (first - other).abs().max() > 100 * noise + 1e-3


@ablations
def test_a_checkpoint_comes_back(config, image, tmp_path):
    network = untrained(config).half().float()  # files are in half precision
    save(tmp_path / "model.safetensors", network, INFO)
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.network.config == config
    prompts = prompted(((20, 30, 40), 1))
    with torch.inference_mode():
        expected = network.decode(network.encode(image), prompts)
        answer = loaded.network.decode(loaded.network.encode(image), prompts)
    assert torch.equal(answer[0], expected[0])
    assert torch.equal(answer[1], expected[1])


@ablations
def test_memory_is_forecast(config):
    model = TrainedModel(untrained(config), INFO, "")
    assert 0 < memory_forecast(model, 1) < memory_forecast(model, 8)


def test_the_encoders_are_of_comparable_size():
    with torch.device("meta"):
        rest, unet = (CTSAM3D(dataclasses.replace(PAPER, encoder=encoder)).encoder for encoder in ("rest", "unet"))
    sizes = [sum(parameter.numel() for parameter in encoder.parameters()) / 1e6 for encoder in (rest, unet)]
    assert sizes == pytest.approx([36.94, 32.08], abs=0.01)


CLICKS = [(20, 30, 40), (0, 63, 5), (50, 10, 12)]


def recovered(points: list[tuple[int, int, int]]) -> set[tuple[int, ...]]:
    """The voxels (x, y, z) of the clicks that are read off their map; a map of none is beside it in the batch."""
    maps = torch.from_numpy(np.stack([click_maps(points, [1] * len(points))[0], np.zeros((64, 64, 64), np.float32)]))
    positions, are_clicks = rff.clicks_in(maps)
    assert not are_clicks[1].any()
    voxels = ((positions[0] + 1) * 32 - 0.5).round().int()[are_clicks[0]].flip(1).tolist()
    assert len(voxels) == len({tuple(voxel) for voxel in voxels})
    return {tuple(voxel) for voxel in voxels}


def test_clicks_are_read_off_their_maps():
    assert recovered(CLICKS) == set(CLICKS)
    assert recovered([]) == set()


def test_of_an_overwritten_click_nothing_is_left():
    """Its Gaussian still rises towards it outside the later click's cube."""
    assert recovered([(20, 30, 40), (28, 30, 40)]) == {(28, 30, 40)}
    assert recovered([(20, 30, 40), (29, 30, 40)]) == {(20, 30, 40), (29, 30, 40)}


def test_more_clicks_than_tokens_are_survived():
    points = [(x, y, 32) for x in range(2, 64, 12) for y in range(2, 64, 12)]
    assert len(points) > rff.MAX_CLICKS
    found = recovered(points)
    assert len(found) == rff.MAX_CLICKS
    assert found < set(points)


def test_the_order_of_clicks_is_irrelevant(image, monkeypatch):
    network = untrained(next(config for config in CONFIGS if config.prompting == "rff"))
    read = rff.clicks_in

    def shuffled(click_map):
        order = torch.randperm(rff.MAX_CLICKS, generator=torch.Generator().manual_seed(3))
        positions, are_clicks = read(click_map)
        return positions[:, order], are_clicks[:, order]

    prompts = prompted(*((point, 1) for point in CLICKS), ((33, 33, 33), 0))
    with torch.inference_mode():
        levels = network.encode(image)
        expected = network.decode(levels, prompts)[0]
        monkeypatch.setattr(rff, "clicks_in", shuffled)
        answer = network.decode(levels, prompts)[0]
    assert off(answer, expected) < 1e-4


def test_fourier_features_compare_positions_alone():
    """Their inner product depends on the difference of two positions, and is greatest for none (Eq. 1)."""
    torch.manual_seed(0)
    features = rff.FourierFeatures(2 * rff.FREQUENCIES)
    v, w = torch.rand(2, 50, 3) * 2 - 1
    kernel = (features(v) * features(w)).sum(-1)
    assert off(kernel, (features(v - w) * features(torch.zeros(3))).sum(-1)) < 1e-4
    assert off((features(v) ** 2).sum(-1), torch.full((50,), rff.FREQUENCIES)) < 1e-5
    assert kernel.max() < rff.FREQUENCIES


def test_positions_keep_their_precision_under_autocast():
    features = rff.FourierFeatures(2 * rff.FREQUENCIES)
    positions = rff.grid_positions(4, torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = features(positions)
    assert torch.equal(rounded, features(positions))


def test_the_grid_of_tokens_lies_in_the_patch_as_clicks_do():
    """The centre of the first of 16³ tokens lies between voxels 1 and 2 of 64³; z varies slowest."""
    grid = rff.grid_positions(16, torch.device("cpu"))
    assert torch.equal(grid[0], rff.centres(torch.full((3,), 1.5), 64))
    assert torch.equal(grid[1], rff.centres(torch.tensor([1.5, 1.5, 5.5]), 64))
    assert torch.equal(grid, -grid.flip(0))


def test_fourier_features_without_monai_are_refused_in_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.networks.nets.vista3d", None)
    monkeypatch.delitem(sys.modules, "CTSAM3DLib.model.ablations.rff_decoder")
    with pytest.raises(ModelError, match="monai"):
        CTSAM3D(dataclasses.replace(REDUCED, prompting="rff"))

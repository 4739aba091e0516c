"""Our network gives the published network's numbers, out of the published network's own checkpoint."""

import shutil

import numpy as np
import pytest
import torch

from CTSAM3DLib.checkpoints.checkpoint import TrainedModel, load
from CTSAM3DLib.checkpoints.released_config import read_window
from CTSAM3DLib.errors import ModelError
from CTSAM3DLib.model import build
from CTSAM3DLib.segmentation.prompt_maps import click_maps
from Testing.relative import off
from Testing.support.data import REFERENCE, needs_data
from Testing.unit.golden import HERE, excerpt, inputs, published_weights, weight

LEVELS = ("encoder_level1", "encoder_level2", "encoder_level3", "encoder_level4")
ANSWERS = (*LEVELS, "click_maps", "mask_first", "iou_first", "mask_refined", "iou_refined", "cpp_heatmap")
ROUNDING = 1e-4
"""What two processors' float32 may differ by, as a share of the scale."""

CONFIG = """
import a_package_that_nobody_has
open({witness!r}, "w").close()
raise SystemExit("config.py was executed")

cfg.dataset.normalization_params = edict()
cfg.dataset.normalization_params.min_value = -321
cfg.dataset.normalization_params.max_value = 654.5
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """`params.pth` as published, beside a `config.py` that would betray its execution."""
    folder = tmp_path_factory.mktemp("published")
    tensors = {name: torch.from_numpy(array) for name, array in published_weights().items()}
    torch.save({"model_state_dict": tensors}, folder / "params.pth")
    (folder / "config.py").write_text(CONFIG.format(witness=str(folder / "witness")))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def model(folder) -> TrainedModel:
    return load(folder / "params.pth")


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    with np.load(HERE / "golden_network.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def answers(model, golden) -> dict[str, np.ndarray]:
    """What the published network was asked, by our network."""
    image, other, previous = (torch.from_numpy(array) for array in inputs())
    (points,), (labels,) = golden["points_xyz"], golden["labels"]
    clicks = torch.from_numpy(np.stack(click_maps(points, labels)))[None]
    network = model.network
    with torch.inference_mode():
        levels = network.encode(image)
        mask_first, iou_first = network.decode(levels, torch.cat([torch.zeros_like(image), clicks], dim=1))
        mask_refined, iou_refined = network.decode(levels, torch.cat([previous, clicks], dim=1))
        heat_map = network.predict_prompts(image, mask_first, other)
    of_decoder = (clicks, mask_first, iou_first[:, None], mask_refined, iou_refined[:, None], heat_map)
    return {name: answer.numpy() for name, answer in zip(ANSWERS, [*levels, *of_decoder], strict=True)}


@pytest.mark.parametrize("name", ANSWERS)
def test_published_numbers(name, answers, golden):
    assert off(excerpt(name, answers[name]), golden[name]) < ROUNDING


@needs_data("../reference/golden_dev.npz")
@pytest.mark.parametrize("name", ANSWERS)
def test_all_published_numbers(name, answers):
    with np.load(REFERENCE / "golden_dev.npz") as full:
        assert off(answers[name], full[name]) < ROUNDING


def test_golden_numbers_tell_networks_apart(golden):
    """They vary, and mask and heat map depend on what they should; else agreement would mean little."""
    for name in (*LEVELS, "mask_first", "mask_refined", "cpp_heatmap"):
        assert golden[name].std() > 0.05
    assert np.abs(golden["mask_first"] - golden["mask_refined"]).max() > 0.01
    assert golden["iou_first"] != pytest.approx(golden["iou_refined"], abs=1e-3)


def test_weights_depend_on_the_name():
    assert not np.array_equal(weight("a.weight", (8, 8)), weight("b.weight", (8, 8)))
    assert weight("a.running_var", (1000,)).min() >= 0.5


def test_sizes_are_the_papers():
    with torch.device("meta"):
        network = build("ctsam3d")

    def millions(module: torch.nn.Module) -> float:
        return sum(parameter.numel() for parameter in module.parameters()) / 1e6

    assert millions(network.encoder) == pytest.approx(36.94, abs=0.005)
    assert millions(network.decoder) == pytest.approx(32.28, abs=0.005)
    assert millions(network.cross_patch) == pytest.approx(4.81, abs=0.005)
    assert millions(network) == pytest.approx(74.0, abs=0.05)


def test_every_level_has_its_grid(answers):
    shapes = [answers[level].shape[1:] for level in LEVELS]
    assert shapes == [(128, 16, 16, 16), (128, 8, 8, 8), (128, 4, 4, 4), (256, 2, 2, 2)]


def test_window_is_read_from_the_config_which_is_not_executed(model, folder):
    assert model.info.window == (-321, 654.5)
    assert not (folder / "witness").exists()


def test_a_given_window_replaces_the_configs(folder):
    assert load(folder / "params.pth", window=(-200, 300)).info.window == (-200, 300)


def test_no_window_anywhere(tmp_path):
    torch.save({"model_state_dict": {}}, tmp_path / "params.pth")
    with pytest.raises(ModelError, match=r"window cannot be read from .*config\.py; give it"):
        load(tmp_path / "params.pth")


@pytest.mark.parametrize(
    "text",
    [
        "normalization_params = dict(min_value=-321, max_value=654.5)",
        "cfg = {'dataset': {'normalization_params': {'min_value': -321, 'max_value': 654.5}}}",
        "class Normalization:\n    min_value = -321\n    max_value = 654.5",
        "cfg.dataset['normalization_params']['min_value'] = -321\nparams['max_value'] = 654.5",
    ],
)
def test_ways_to_write_the_window(text, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(text)
    assert read_window(config) == (-321, 654.5)


@pytest.mark.parametrize(
    "text",
    ["", "min_value = -321", "min_value, max_value = 300, -300", "min_value = 300\nmax_value = -300", "min_value ="],
)
def test_configs_without_a_window(text, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(text)
    with pytest.raises(ModelError, match="give it"):
        read_window(config)

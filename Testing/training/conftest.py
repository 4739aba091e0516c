"""What the tests of training share: a recipe whose network is so thin that a step takes a moment."""

import dataclasses
from collections.abc import Callable

import pytest

from training.config import Recipe

THIN = {
    "stem_width": 4,
    "encoder_widths": [4, 4, 4, 4],
    "encoder_blocks": [1, 1, 1, 1],
    "encoder_heads": [1, 1, 1, 1],
    "level_widths": [4, 4, 4, 4],
    "upscaled_widths": [4, 4, 4, 4, 2],
    "prompt_widths": [2, 2, 2, 2, 2],
    "fine_width": 2,
    "semantic_width": 4,
    "semantic_filters": [4, 4, 4],
    "quality_width": 4,
    "cross_patch_widths": [2, 2, 2, 2, 2],
}


def tiny_recipe(**changes) -> Recipe:
    """The recipe of the bundled model with a very thin network, on few phantoms."""
    few = {"steps": 3, "micro_batches": 1, "pairs": 1, "rounds": 2, "compile": False, "checkpoint_every": 1}
    few["precision"] = "float32"  # in which one process and two differ by the order of a sum only
    plain = {"network_changes": THIN, "held_out": (), "shares": {"phantom": 1.0}}
    return dataclasses.replace(Recipe.read("small.yaml"), **{**few, **plain, **changes})


@pytest.fixture
def recipe() -> Callable[..., Recipe]:
    return tiny_recipe

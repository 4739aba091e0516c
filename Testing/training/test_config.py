"""Recipes: ours can be followed, the paper's is the paper's, and a slip in one is said in a sentence."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.volume import Geometry, Volume
from CTSAM3DLib.model import CTSAM3D
from training.config import FOLDER, Recipe, RecipeError
from training.data.stream import training_records
from training.data.synthetic_datasets import write_own

OURS = sorted(path.name for path in FOLDER.glob("*.yaml"))


@pytest.fixture
def written(tmp_path):
    """Writes a recipe, and returns its path."""

    def write(lines: str):
        path = tmp_path / "changed.yaml"
        path.write_text(lines, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("name", OURS)
def test_ours_can_be_followed(name):
    recipe = Recipe.read(name)
    with torch.device("meta"):
        assert isinstance(recipe.build_network(), CTSAM3D)
    assert 0 < recipe.warmup_steps < recipe.steps
    assert 0 < recipe.deviation < 32
    assert set(recipe.shares) <= {"real-labels", "supervoxels", "phantom"}


def test_papers_recipe_is_supplementary_table_1():
    paper = Recipe.read("paper.yaml")
    assert (paper.network, paper.spacing, paper.rounds) == ("ctsam3d", 1.5, 5)
    assert (paper.optimiser, paper.learning_rate, paper.weight_decay) == ("adamw", 1e-4, 1e-2)
    gpus, volumes, patches = 8, 4, 8
    assert paper.micro_batches == gpus
    assert paper.micro_batches * 2 * paper.pairs == gpus * volumes * patches
    epoch = 1139 / (gpus * volumes)
    assert paper.steps == pytest.approx(1000 * epoch, rel=1e-3)
    assert paper.warmup_steps == pytest.approx(100 * epoch, rel=1e-3)
    tenth_at = 800 * epoch
    assert paper.rate_at(tenth_at - 50) == pytest.approx(1e-4)
    assert paper.rate_at(tenth_at + 50) == pytest.approx(1e-5)
    assert not paper.varied
    assert (paper.continuation_share, paper.edit_share, paper.shares) == (0, 0, {"real-labels": 1})


def test_the_ablations_differ_from_the_paper_in_what_they_are_called():
    def changed(name):
        recipe, paper = (dataclasses.asdict(Recipe.read(file)) for file in (f"paper-{name}.yaml", "paper.yaml"))
        return {key: value for key, value in recipe.items() if value != paper[key]}

    assert changed("no-cross-patch") == {"cross_patch": False}
    assert changed("104-labels") == {"label_limit": 104}
    assert changed("rff") == {"network_changes": {"prompting": "rff"}}
    assert changed("unet") == {"network_changes": {"encoder": "unet"}}
    assert changed("unet-rff") == {"network_changes": {"encoder": "unet", "prompting": "rff"}}


def test_a_recipe_changes_its_base(written):
    base = Recipe.read("small.yaml")
    recipe = Recipe.read(written("base: small.yaml\nsteps: 7\nnetwork_changes: {prompt_widths: [8, 8, 8, 8, 4]}\n"))
    assert recipe == dataclasses.replace(base, steps=7, network_changes={"prompt_widths": [8, 8, 8, 8, 4]})
    assert recipe.build_network().config == dataclasses.replace(
        base.build_network().config, prompt_widths=(8, 8, 8, 8, 4)
    )


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("base: small.yaml\nstep: 3\n", "lacks or misspells the fields step"),
        ("steps: 3\n", "lacks or misspells the fields .*window"),
        ("base: small.yaml\nschedule: linear\n", "schedule is 'linear' .* choose one of: cosine, tenth"),
        ("base: small.yaml\noptimiser: sgd\n", "optimiser is 'sgd' .* choose one of: adamw, muon"),
        ("base: small.yaml\nprecision: float16\n", "precision is 'float16' .* choose one of: float32, bfloat16"),
        ("base: small.yaml\nfrozen: [encodder]\n", "freezes encodder; choose from: encoder, decoder, cross_patch"),
        ("base: [small.yaml\n", "is not YAML"),
        ("", "is not a recipe"),
        ("base: little.yaml\n", r"There is no recipe .*little.yaml; .*paper.yaml.*small.yaml"),
    ],
)
def test_a_slip_is_said_in_a_sentence(written, lines, sentence):
    with pytest.raises(RecipeError, match=sentence):
        Recipe.read(written(lines))


def test_an_unknown_network_is_refused(written):
    with pytest.raises(CTSAM3DError, match="no network called 'huge'"):
        Recipe.read(written("base: small.yaml\nnetwork: huge\n")).build_network()


def test_both_schedules(recipe):
    cosine = recipe(steps=100, warmup_steps=10, learning_rate=1.0, schedule="cosine")
    tenth = dataclasses.replace(cosine, schedule="tenth")
    for schedule in (cosine, tenth):
        warming = [schedule.rate_at(step) for step in np.linspace(0, 9.9, 30)]
        assert 0 < warming[0] < 0.1
        assert np.allclose(np.diff(warming, 2), 0)
        assert warming[-1] < schedule.rate_at(10) == 1
    assert cosine.rate_at(55) == pytest.approx(0.51)
    assert np.all(np.diff([cosine.rate_at(step) for step in range(10, 100)]) < 0)
    assert cosine.rate_at(100) == cosine.rate_at(200) == pytest.approx(0.02)
    assert [tenth.rate_at(step) for step in (11, 79.9, 80, 99)] == pytest.approx([1, 1, 0.1, 0.1])


def test_held_out_cases_must_be_spelt_as_in_the_data(tmp_path, recipe):
    ct = Volume(np.zeros((8, 8, 8), np.int16), Geometry((8, 8, 8), (0, 0, 0), (3, 3, 3), (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    phantom = SimpleNamespace(ct=ct, labels=np.eye(8, dtype=np.uint8)[None].repeat(8, 0), names={1: "liver"})
    write_own(tmp_path, dict.fromkeys(("patient-1", "patient-2", "patient-3"), phantom))
    with pytest.raises(RecipeError, match="has no case pateint-2, which the recipe holds out"):
        training_records(recipe(held_out=("patient-1", "pateint-2")), tmp_path)
    kept = training_records(recipe(held_out=("patient-1", "patient-2")), tmp_path)
    assert [record.case for record in kept] == ["patient-3"]
    # Names of another data set altogether: nothing of it can be trained on.
    assert len(training_records(recipe(held_out=("stranger",)), tmp_path)) == 3

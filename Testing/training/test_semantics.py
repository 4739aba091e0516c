"""Semantics: vectors learnt from label maps tell kinds of structure apart, and a stopped run goes on as it was."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from CTSAM3DLib.model.checkpoints import load
from training import semantics
from training.anatomy import kind_of
from training.distributed import World
from training.layouts import write_own
from training.phantoms import torso
from training.real_volumes import AIR, Foreground, RealVolume
from training.recipe import RecipeError
from training.semantics import PATCHES, LabelledBatches, SemanticTrainer, main, semantic_loss, vocabularies
from training.train import Trainer, TrainingError

ALONE = World(0, 1, torch.device("cpu"))
NAMES = {1: "kidney_left", 2: "kidney_right", 7: "spleen"}


def labelled(case: str, hu: dict[int, int], seed: int = 0) -> RealVolume:
    """Slabs in noise; each label has its HU."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((80, 80, 80), np.uint8)
    for number, value in enumerate(hu):
        labels[:, 10:70, 10 + 20 * number : 24 + 20 * number] = value
    ct = rng.normal(0, 10, labels.shape)
    for value, level in hu.items():
        ct[labels == value] += level
    return RealVolume(case, ct.astype(np.int16), {"labels": labels}, {"labels": Foreground.of(labels)})


@pytest.fixture
def known():
    cases = [labelled("a", {1: 200, 2: 200, 7: -300}), labelled("b", {1: 200, 2: 200, 7: -300}, seed=1)]
    return vocabularies([SimpleNamespace(labels=NAMES)] * 2, cases)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("kidney_left", "kidney"),
        ("RightParotid", "Parotid"),
        ("lung_upper_lobe_right", "lung_upper_lobe"),
        ("vertebrae_L4", "vertebrae"),
        ("rib_right_11", "rib"),
        ("liver", "liver"),
        ("spinal_cord", "spinal_cord"),
    ],
)
def test_a_kind_has_neither_side_nor_number(name, kind):
    assert kind_of(name) == kind


def test_cases_labelled_alike_share_a_vocabulary(known):
    (both,) = known
    assert both.kinds == ("kidney", "spleen")
    assert [both.numbers[0][value] for value in (0, 1, 2, 7, 9)] == [0, 1, 1, 2, 0]
    records = [SimpleNamespace(labels=NAMES), SimpleNamespace(labels={7: "spleen"}), SimpleNamespace(labels={})]
    cases = [labelled("a", {1: 200, 7: -300}), labelled("b", {7: -300}), labelled("c", {7: 0})]
    assert [len(found.volumes) for found in vocabularies(records, cases)] == [1, 1]
    with pytest.raises(RecipeError, match="No case of these data has labels"):
        vocabularies(records[2:], cases[2:])


def test_patches_show_what_their_numbers_say(known):
    rng = np.random.default_rng(0)
    for _ in range(5):
        image, numbers = known[0].draw(rng)
        assert image.shape == numbers.shape == (64, 64, 64)
        assert numbers.any()
        inside = image > AIR + 200  # beyond the volume there is air, of kind 0
        levels = [np.median(image[inside & (numbers == kind)]) for kind in np.unique(numbers[inside])]
        expected = [(0, 200, -300)[kind] for kind in np.unique(numbers[inside])]
        assert levels == pytest.approx(expected, abs=80)  # another scanner's look changes them by a tenth and 20


def test_the_loss_is_least_where_every_voxel_is_right():
    numbers = torch.zeros(1, 1, 8, 8, 8, dtype=torch.uint8)
    numbers[..., :4] = 1
    right = torch.full((1, 3, 4, 4, 4), -9.0)
    right[:, 1, ..., :2] = right[:, 0, ..., 2:] = 9
    assert semantic_loss(right, numbers) < 0.1
    assert semantic_loss(right.flip(-1), numbers) > 5
    assert semantic_loss(right.roll(1, dims=1), numbers) > 5


def test_a_batch_depends_on_its_number_alone(known, recipe):
    recipe = recipe()
    fifth = LabelledBatches(known, recipe, 0, 10)[5]
    resumed = LabelledBatches(known, recipe, 3, 10)
    assert len(resumed) == 7
    for one, other in zip(fifth, resumed[2], strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    assert fifth[1].shape == (PATCHES, 1, 64, 64, 64)
    assert 0 <= fifth[1].min() <= fifth[1].max() <= 1


def trainer_in(run, known, recipe):
    run.mkdir(exist_ok=True)
    torch.manual_seed(recipe.seed)
    return SemanticTrainer(recipe.build_network().semantics, known, recipe, run, torch.device("cpu"))


def test_it_learns_and_a_stopped_run_goes_on_as_an_unbroken_one(known, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(semantics, "PATCHES", 2)
    monkeypatch.setattr(semantics, "LEARNING_RATE", 0.03)
    recipe = recipe()
    whole = trainer_in(tmp_path / "whole", known, recipe)
    whole.train(30, workers=0, minutes=10)
    rows = [line.split(",") for line in (tmp_path / "whole/curve.csv").read_text().splitlines()[1:]]
    losses = [float(loss) for _, _, loss in rows]
    assert [int(step) for step, _, _ in rows] == list(range(30))
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])

    broken = trainer_in(tmp_path / "broken", known, recipe)
    monkeypatch.setattr(semantics, "CHECKPOINT_EVERY", 12)
    broken.train(30, workers=0, minutes=0)  # not a step
    assert broken.step == 0
    learn = SemanticTrainer._learn
    monkeypatch.setattr(SemanticTrainer, "_learn", stopping_after(12))
    with pytest.raises(KeyboardInterrupt):
        broken.train(30, workers=0, minutes=10)
    monkeypatch.setattr(SemanticTrainer, "_learn", learn)
    resumed = trainer_in(tmp_path / "broken", known, recipe)
    resumed.resume()
    assert resumed.step == 12
    resumed.train(30, workers=0, minutes=10)
    for one, other in zip(whole.average.state_dict().values(), resumed.average.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    rows = (tmp_path / "broken/curve.csv").read_text().splitlines()[1:]
    assert [int(line.split(",")[0]) for line in rows] == list(range(30)), "steps that were lost are written once"


def stopping_after(steps):
    learn = SemanticTrainer._learn

    def learn_or_stop(self, *batch):
        if self.step == steps:
            raise KeyboardInterrupt
        return learn(self, *batch)

    return learn_or_stop


def test_from_a_data_set_to_a_model_that_training_starts_from(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(semantics, "PATCHES", 1)
    recipe = recipe()
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump({**dataclasses.asdict(recipe), "window": list(recipe.window), "held_out": []}))
    write_own(tmp_path / "data", {"one": torso(0, spacing=(6, 6, 6))})
    main(config, tmp_path / "data", tmp_path / "run", steps=2, workers=0)
    model = load(tmp_path / "run/model.safetensors").network
    assert model.config == recipe.build_network().config
    first = recipe.build_network().semantics.state_dict()
    assert any(not torch.allclose(first[name], weight) for name, weight in model.semantics.state_dict().items())
    trainer = Trainer(recipe, tmp_path, ALONE)
    trainer.start_from(tmp_path / "run/model.safetensors")
    assert not any(parameter.requires_grad for parameter in trainer.model.semantics.parameters())

    plain = dataclasses.replace(recipe, network_changes={**recipe.network_changes, "semantic_width": 0})
    config.write_text(yaml.safe_dump({**dataclasses.asdict(plain), "window": list(recipe.window), "held_out": []}))
    with pytest.raises(RecipeError, match="no semantics"):
        main(config, tmp_path / "data", tmp_path / "plain", steps=1, workers=0)
    with pytest.raises(TrainingError, match="of another network"):
        Trainer(plain, tmp_path, ALONE).start_from(tmp_path / "run/model.safetensors")

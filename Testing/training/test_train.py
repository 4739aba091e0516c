"""A run of training: goes on where it stopped, is the same by several processes, and ends with a usable model."""

import csv
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from CTSAM3DLib.checkpoints.checkpoint import ModelInfo, load, save
from CTSAM3DLib.model import build
from CTSAM3DLib.run_command import run_command
from CTSAM3DLib.segmentation.session import Segmenter
from Testing.relative import off
from training import train
from training.data.samples import Sample
from training.data.stream import training_sampler
from training.learning.algorithm1 import Batch
from training.learning.distributed import World
from training.phantoms.phantoms import torso
from training.train import MicroBatches, Trainer, TrainingError

ROOT = Path(__file__).resolve().parents[2]
ALONE = World(0, 1, torch.device("cpu"))


def draw(rng: np.random.Generator, step: int) -> Sample:
    """A bright ball somewhere in noise; V lies 20 voxels further along x."""
    scene = rng.normal(0, 30, (64, 64, 84))
    grid = np.indices(scene.shape)
    truth = sum((axis - rng.uniform(25, 40)) ** 2 for axis in grid) < rng.uniform(8, 14) ** 2
    ct = (scene + 300 * truth).astype(np.int16)
    return Sample(ct[..., :64], ct[..., 20:], truth[..., :64], truth[..., 20:], (0, 0, 20), "phantom")


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(train, "draw_samples", lambda batch, path: None)


def curve_of(run: Path) -> list[dict[str, str]]:
    with (run / "curve.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_alike(one, other):
    """Two states, bit by bit, whatever lies in them."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_alike(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_alike(first, second)
    else:
        assert one == other


def test_a_resumed_run_ends_as_an_unbroken_one(recipe, tmp_path, no_pictures):
    recipe = recipe(steps=4, rounds=1, checkpoint_every=2)
    runs = {name: tmp_path / name for name in ("whole", "broken")}
    for run in runs.values():
        run.mkdir()
    whole = Trainer(recipe, runs["whole"], ALONE)
    whole.train(training_sampler(recipe, None, tmp_path))

    phantoms = training_sampler(recipe, None, tmp_path)

    def interrupted(rng, step):
        if step == 3:
            raise KeyboardInterrupt
        return phantoms(rng, step)

    with pytest.raises(KeyboardInterrupt):
        Trainer(recipe, runs["broken"], ALONE).train(interrupted)
    assert [row["step"] for row in curve_of(runs["broken"])] == ["0", "1", "2"]
    second = Trainer(recipe, runs["broken"], ALONE)
    second.resume()
    assert second.step == 2
    second.train(training_sampler(recipe, None, tmp_path))

    states = [torch.load(run / "state.pt", weights_only=True) for run in runs.values()]
    assert states[0]["step"] == 4
    assert len(states[0]["optimisers"]) == 2
    assert_alike(*states)
    for name in ("step", "round", "loss", "dice", "learning_rate"):
        assert [row[name] for row in curve_of(runs["whole"])] == [row[name] for row in curve_of(runs["broken"])]
    assert [row["step"] for row in curve_of(runs["broken"])] == ["0", "1", "2", "3"]
    untrained = Trainer(recipe, tmp_path, ALONE).model.parameters()
    assert not all(torch.equal(one, other) for one, other in zip(untrained, second.model.parameters(), strict=True))


@pytest.mark.parametrize("decay", [0.0, 0.75])
def test_the_average_follows_the_weights(recipe, tmp_path, decay):
    recipe = recipe(rounds=2, ema_decay=decay)
    trainer = Trainer(recipe, tmp_path, ALONE)
    batch = Batch([draw(np.random.default_rng(0), 0)], recipe, np.random.default_rng(0))
    first, second = ([weights.clone() for weights in trainer.model.parameters()] for _ in trainer.learn([batch]))
    for one, two, average in zip(first, second, trainer.averaged.parameters(), strict=True):
        assert off(average, decay * one + (1 - decay) * two) < 1e-5
    assert not all(torch.equal(one, two) for one, two in zip(first, second, strict=True))


def work(rank: int, port: int, recipe, run: Path) -> None:
    """What one of two processes does."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    world = World.join("cpu")
    trainer = Trainer(recipe, run, world)
    # One process that has run out of time stops both.
    trainer.train(draw, minutes=0 if world.leads else math.inf)
    assert trainer.step == 0
    trainer.train(draw)
    trainer.save_state()
    world.leave()


def test_two_processes_learn_what_one_does(recipe, tmp_path):
    recipe = recipe(steps=2, rounds=1, micro_batches=2, checkpoint_every=100)
    runs = [tmp_path / "one", tmp_path / "two"]
    for run in runs:
        run.mkdir()
    alone = Trainer(recipe, runs[0], ALONE)
    start = {name: weights.detach().clone() for name, weights in alone.model.named_parameters()}
    alone.train(draw)
    alone.save_state()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, recipe, runs[1]), nprocs=2)

    losses = [[float(row["loss"]) for row in curve_of(run)] for run in runs]
    assert len(losses[0]) == 2
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    states = [torch.load(run / "state.pt", weights_only=True) for run in runs]
    moved = apart = 0.0
    for name, before in start.items():
        one, two = (state["model"][name] for state in states)
        moved += float((one - before).square().sum())
        apart += float((one - two).square().sum())
    assert moved > 0
    assert apart < 1e-3 * moved  # Muon gives a gradient that is nothing but rounding the length of any other


def test_processes_share_the_samples_that_one_draws(recipe):
    def number(rng, step):
        return step, int(rng.integers(10**9))

    recipe = recipe(steps=5, micro_batches=4, pairs=3)

    def drawn(world, first_step):
        batches = MicroBatches(number, recipe, first_step, world)
        return [batches[index] for index in range(len(batches))]

    alone = drawn(ALONE, 2)
    halves = [drawn(World(rank, 2, torch.device("cpu")), 2) for rank in (0, 1)]
    assert len(alone) == 3 * 4
    assert sorted(halves[0] + halves[1]) == sorted(alone)
    assert alone == drawn(ALONE, 0)[2 * 4 :]
    assert len({samples[0] for samples, _ in alone}) == len(alone)


def test_micro_batches_must_fit_the_processes(recipe, tmp_path):
    with pytest.raises(TrainingError, match="3 micro-batches cannot be shared by 2 processes; change either"):
        Trainer(recipe(micro_batches=3), tmp_path, World(0, 2, torch.device("cpu")))


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(recipe, tmp_path, no_pictures):
    trainer = Trainer(recipe(rounds=1), tmp_path, ALONE)

    def poisoned(rng, step):
        if step == 1:
            with torch.no_grad():
                trainer.model.decoder.fine_head.to_mask.weight.fill_(math.nan)
        return draw(rng, step)

    with pytest.raises(TrainingError, match=r"The loss of step 1 is no number; resume with a lower learning_rate\."):
        trainer.train(poisoned)
    resumed = Trainer(recipe(), tmp_path, ALONE)
    resumed.resume()
    assert resumed.step == 1
    assert all(weights.isfinite().all() for weights in resumed.model.state_dict().values())


def test_a_run_can_start_from_trained_weights(recipe, tmp_path):
    torch.manual_seed(7)
    trained = recipe().build_network()
    save(tmp_path / "trained.safetensors", trained, ModelInfo("ctsam3d-small", (-1000, 800)))
    trainer = Trainer(recipe(), tmp_path, ALONE)
    trainer.start_from(tmp_path / "trained.safetensors")
    for network in (trainer.model, trainer.averaged):
        for name, weights in network.state_dict().items():
            assert off(weights.float(), trained.state_dict()[name].float()) < 1e-3  # files are in half precision
    other = Trainer(recipe(network_changes={**recipe().network_changes, "quality_width": 6}), tmp_path, ALONE)
    with pytest.raises(TrainingError, match="of another network than the recipe's"):
        other.start_from(tmp_path / "trained.safetensors")


def thin(recipe, folder: Path) -> Path:
    """The thin network's recipe as a file."""
    path = folder / "thin.yaml"
    path.write_text(f"base: small.yaml\nnetwork_changes: {recipe().network_changes}\n", encoding="utf-8")
    return path


def test_no_minutes_stop_a_run_at_once_with_all_its_files(recipe, tmp_path):
    train.main(thin(recipe, tmp_path), output=tmp_path / "run", device="cpu", minutes=0, smoke=True)
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == 0
    assert load(tmp_path / "run" / "model.safetensors").info.spacing == 3.0
    assert curve_of(tmp_path / "run") == []


def test_an_unknown_recipe_is_one_line_and_exit_code_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        run_command(lambda: train.main(Path("great.yaml"), output=tmp_path / "run"))
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: There is no recipe great.yaml; give a file, or one of ours: paper")
    assert not (tmp_path / "run").exists()


def test_a_decoder_is_compiled_but_for_its_guidance():
    torch.manual_seed(0)
    network = build("ctsam3d-small").eval()
    levels, prompts = network.encode(torch.rand(1, 1, 64, 64, 64)), torch.rand(1, 3, 64, 64, 64)
    expected, _ = network.decoder(levels, prompts)
    counters.clear()
    train.compile_in_place(network.decoder, backend="eager")
    found, _ = network.decoder(levels, prompts)
    assert off(found, expected) < 1e-4
    assert counters["stats"]["unique_graphs"] == 2  # what comes before the guidance, and what after
    assert counters["stats"]["calls_captured"] < 1000


@pytest.mark.slow
def test_smoke_ends_with_a_model_and_pictures(tmp_path):
    command = [sys.executable, "-m", "training.train", "--config", "small.yaml", "--smoke"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path), "--device", "cpu"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "6 of 6 steps done" in " ".join(done.stderr.split())
    rows = curve_of(tmp_path)
    assert [(row["step"], row["round"]) for row in rows] == [(str(s), str(r)) for s in range(6) for r in range(7)]
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    for name in ("curve.png", "samples.png"):
        picture = matplotlib.image.imread(tmp_path / name)
        assert min(picture.shape[:2]) > 200
        assert picture.std() > 0.05
    trained = load(tmp_path / "model.safetensors")
    assert (trained.info.name, trained.info.spacing, trained.info.window) == ("ctsam3d-small", 3.0, (-1000, 800))
    weights = str(tmp_path / "model.safetensors")
    session = Segmenter.load(weights=weights, device="cpu").open(torso(1, (6.0, 6.0, 6.0)).ct)
    assert session is not None

"""The one command of a lent GPU, rehearsed on a processor: with little installed, stopped, and gone on with."""

import json
import subprocess
import sys

import pytest
import torch
import yaml
from typer.testing import CliRunner

from CTSAM3DLib.checkpoints.checkpoint import load
from CTSAM3DLib.checkpoints.load_model import load_model
from Testing.training.learning_fixtures import NAMES, prepared, thin_plan
from training import gpu_run
from training.learning import gpu_checks
from training.learning.plan import FOLDER

pytestmark = pytest.mark.model

NOT_THERE = (
    "SimpleITK",
    "monai",
    "edt",
    "zstandard",
    "cc3d",
    "slicerio",
    "requests",
    "pandas",
    "matplotlib",
    "skimage",
)
"""Packages that a lent machine need not have."""


def test_it_needs_nothing_that_a_bare_machine_lacks():
    code = f"import sys; sys.modules.update(dict.fromkeys({NOT_THERE})); import training.gpu_run"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def plan(tmp_path):
    """The plan of the tests as a file."""
    plan = thin_plan()
    tasks = {name: {"share": task.share, "batch": task.batch, "rate": task.rate} for name, task in plan.tasks.items()}
    content = {
        "base": "whole-body.yaml",
        "network_changes": dict(plan.network_changes),
        "regions": dict(plan.regions),
        "tasks": tasks,
        "held_out": [],
        "precision": "float32",
    }
    (tmp_path / "plan").mkdir()
    file = tmp_path / "plan" / "thin.yaml"
    file.write_text(yaml.safe_dump(content))
    (tmp_path / "plan" / "whole-body.yaml").write_text((FOLDER / "whole-body.yaml").read_text())
    return file


def run(*arguments):
    app = gpu_run.typer.Typer()
    app.command()(gpu_run.main)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_it_leaves_what_is_brought_back_and_goes_on(tmp_path, plan):
    prepared().write(tmp_path / "data.npz")
    shared = ["--data", tmp_path / "data.npz", "--plan", plan, "--device", "cpu", "--no-benchmark"]
    run("--minutes", "0.35", "--output", tmp_path / "one", *shared)
    first = json.loads((tmp_path / "one" / "benchmarks.json").read_text())["training"]
    assert first["steps"] >= 1
    assert json.loads((tmp_path / "one" / "checks.json").read_text())["bundled"]["differing_share"] < 1e-3
    files = list((tmp_path / "one").iterdir())
    assert len(files) <= 8
    assert all(file.stat().st_size < 16 * 2**20 for file in files)
    run("--minutes", "0.35", "--output", tmp_path / "two", "--begin", tmp_path / "one", *shared)
    steps = [int(line.split(",")[0]) for line in (tmp_path / "two" / "curve.csv").read_text().splitlines()[1:]]
    labels = load(tmp_path / "two" / "model.safetensors").info.labels
    assert labels == tuple(sorted(NAMES.values()))
    assert not steps or max(steps) >= first["steps"]


def test_figures_of_a_processor():
    found = gpu_checks.timed(load_model(), "cpu", seconds=0)  # too few for the 27 patches
    assert set(found) == {"encode_ms", "first_click_ms", "later_click_ms"}
    assert min(found.values()) > 0


def test_the_papers_network_is_there():
    assert gpu_checks.paper_network().network.config.name == "ctsam3d"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_masks_of_the_gpu():
    assert gpu_checks.masks_agree(load_model(), "cuda")["differing_share"] < 0.005

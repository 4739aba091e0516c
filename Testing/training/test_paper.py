"""A small study from nothing: killed in its middle, gone on with, and then complete with every exhibit."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from CTSAM3DLib.checkpoints.checkpoint import save
from CTSAM3DLib.checkpoints.model_info import ModelInfo
from CTSAM3DLib.errors import CTSAM3DError
from training.data.datasets import read_dataset
from training.data.synthetic_datasets import write_layout
from training.evaluate import Plan, complete
from training.evaluation import results
from training.evaluation.efficiency import measure_all
from training.evaluation.methods import MethodChoice
from training.exhibits.catalogue import CLICKS, DATASETS, FLARE22, FLARE22_ORGANS, TABLES
from training.exhibits.page import NOTHING
from training.exhibits.study import Study
from training.paper import synthetic
from training.paper.__main__ import MIN_SYNTHETIC_VOXELS, main
from training.paper.ablations import ABLATIONS, tiny_recipe
from training.paper.entrants import Entrant, Need, Network, entrants, needs
from training.paper.steps import Workplace, cases_to_measure, measure

pytestmark = [pytest.mark.slow, pytest.mark.model]

SPACING = 6.0
LABELS = ("liver", "aorta", "rib_left_8", "visceral_fat", "cancer", "colon cancer primaries")
TRAINED = "rff"
"""The only ablation that the test trains, for a step."""


def options(output, weights):
    return {
        "output": output,
        "weights": weights,
        "ablation": [f"{name}={weights}" for name in ABLATIONS if name != TRAINED],
        "label": list(LABELS),
        "method": ["region-growing"],
        "cases": 1,
        "spacing": SPACING,
        "steps": 1,
    }


def command(output, weights):
    parts = [sys.executable, "-m", "training.paper"]
    for name, value in options(output, weights).items():
        for one in value if isinstance(value, list) else [value]:
            parts += [f"--{name}", str(one)]
    return parts


def wait_for(file, process, seconds=300):
    end = time.monotonic() + seconds
    while not file.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, f"{file} is not there after {seconds} s"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def study(tmp_path_factory, thin_weights):
    """The folder of a study that was killed in its measurements, and gone on with."""
    output = tmp_path_factory.mktemp("study") / "paper"
    output.mkdir()
    measure_all(output / "costs.csv", ["ctsam3d-small"])  # the paper's network takes long on a small computer
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command(output, thin_weights), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    try:
        wait_for(output / "results.csv", process)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert not (output / "exhibits").exists()
    done = subprocess.run(command(output, thin_weights), capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def thin_weights(tmp_path_factory):
    """An untrained network of very few channels that sees a whole torso at once."""
    from Testing.training.conftest import tiny_recipe as thin_recipe

    file = tmp_path_factory.mktemp("weights") / "thin.safetensors"
    network = thin_recipe().build_network()
    save(file, network, ModelInfo(name="thin", spacing=6.0, window=(-1000, 800), cross_patch=False))
    return file


def test_every_exhibit_is_there(study):
    text = (study / "exhibits" / "exhibits.md").read_text()
    assert NOTHING not in text
    assert text.count("\n## ") == 5 + 3 + 3 + 3
    for name in ("figure3", "figure4", "figure5", *(f"supplementary-figure{number}" for number in (3, 4, 5))):
        assert (study / "exhibits" / f"{name}.png").stat().st_size > 20_000
    assert "synthetic torsos in voxels of 6 mm, not patients" in text
    for spec in TABLES:
        cells = pd.read_csv(study / "exhibits" / f"{spec.name}.csv")
        assert (cells["source"] == "measured").any(), spec.name


def test_a_killed_study_comes_to_the_lines_of_an_unbroken_evaluation(study, tmp_path):
    records = read_dataset(study / "data" / "FLARE22")
    labels = tuple(organ for organ in FLARE22_ORGANS if organ in LABELS)
    plan = Plan(FLARE22, CLICKS, labels, fewest_voxels=MIN_SYNTHETIC_VOXELS)
    unbroken = complete(tmp_path / "results.csv", [MethodChoice("region-growing")], records, plan).lines
    lines = results.read(study / "results.csv")
    key = ["case", "label", "n_clicks"]
    killed = lines[(lines["run"] == "region-growing") & (lines["dataset"] == FLARE22)]
    pd.testing.assert_frame_equal(
        killed.drop(columns="seconds").sort_values(key, ignore_index=True),
        unbroken.drop(columns="seconds").sort_values(key, ignore_index=True),
    )
    assert not lines.duplicated(["run", "dataset", "case", "label", "seed", "n_clicks"]).any()


def test_a_study_that_is_complete_is_only_drawn_again(study, thin_weights):
    kept = [study / "results.csv", study / "costs.csv", study / "study.yaml", *study.glob("exhibits/*.*")]
    before = {file: file.read_bytes() for file in kept}
    main(**options(study, thin_weights))
    assert {file: file.read_bytes() for file in kept} == before


def test_a_study_goes_on_with_its_own_settings_only(study, thin_weights):
    with pytest.raises(CTSAM3DError, match="was begun with other cases, spacing"):
        main(**{**options(study, thin_weights), "cases": 2, "spacing": 3.0})


def test_a_data_set_that_was_cut_off_is_written_again(tmp_path, monkeypatch):
    def cut_off(name, output, cases, spacing):
        write_layout(name, output, cases, spacing=spacing)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(synthetic, "write_layout", cut_off)
        with pytest.raises(KeyboardInterrupt):
            synthetic.synthetic_datasets(tmp_path, 1, 10.0)
    assert not (tmp_path / "FLARE22").exists()
    folders = synthetic.synthetic_datasets(tmp_path, 1, 10.0)
    assert {name: len(cases_to_measure(folder)) for name, folder in folders.items()} == dict.fromkeys(DATASETS, 1)
    assert "visceral_fat" in cases_to_measure(folders["totalsegpp"])[0].names
    before = sorted((file, file.stat().st_mtime_ns) for file in tmp_path.rglob("*.nii.gz"))
    assert synthetic.synthetic_datasets(tmp_path, 1, 10.0) == folders
    assert sorted((file, file.stat().st_mtime_ns) for file in tmp_path.rglob("*.nii.gz")) == before


def test_a_data_set_that_fails_is_told_and_the_others_are_measured(tmp_path, capsys):
    folders = [write_layout(name, tmp_path, 1, spacing=10.0) for name in ("flare22", "btcv")]
    records = dict(zip(("flare22", "btcv"), map(cases_to_measure, folders), strict=True))
    next((folders[0] / "images").iterdir()).write_bytes(b"no CT")
    at = Workplace(tmp_path / "paper", 1, None)
    at.output.mkdir()
    one = Entrant("region growing", MethodChoice("region-growing"), "", ("figure4", "table2"), own=False)
    runs = measure(at, [one], records, ["liver"], fewest_voxels=10)
    assert runs == {one.choice: "region-growing"}
    assert set(results.read(at.results)["dataset"]) == {"btcv"}
    (failure,) = results.read_failures(at.results)
    assert (failure.dataset, failure.case) == ("flare22", "FLARE22_Tr_0001")
    assert "FLARE22_Tr_0001_0000.nii.gz" in "".join(capsys.readouterr().err.split())


def test_systems_are_named_as_the_paper_names_them(study):
    names = {system.name for system in Study.read(study / "study.yaml").systems}
    assert {"CT-SAM3D", "CT-SAM3D*", "CT-SAM3D, ResT, PSAP", "CT-SAM3D, ResT, RFF", "CT-SAM3D, with CPP"} <= names


def test_exhibits_say_what_has_to_be_measured():
    assert needs(["figure4", "table5"]) == [
        Need(FLARE22, ("liver", "aorta", *(o for o in FLARE22_ORGANS if o not in ("liver", "aorta"))), CLICKS),
        Need("btcv", ("liver", "aorta"), (1,)),
    ]
    (need,) = needs(["figure3"])
    assert (need.labels, need.counts) == ((), (5,))
    assert needs(["figure5"]) == []


def test_a_network_alone_takes_no_part_in_ablations():
    alone = entrants(Network("bundled"), {}, ())
    assert {exhibit for one in alone for exhibit in one.exhibits} >= {"table1", "table5"}
    assert not any("table4" in one.exhibits for one in alone)
    two = entrants(Network("bundled"), {"rff": Network("trained")}, ())
    assert [one.name for one in two if "table4" in one.exhibits] == ["CT-SAM3D, ResT, PSAP", "CT-SAM3D, ResT, RFF"]


def test_tiny_recipes_differ_as_the_paper_s_do():
    networks = {name: tiny_recipe(ablation, 5).build_network().config for name, ablation in ABLATIONS.items()}
    full = networks["full"]
    assert networks["rff"] == dataclasses.replace(full, prompting="rff")
    assert networks["unet"] == dataclasses.replace(full, encoder="unet")
    assert networks["104-labels"] == networks["no-cross-patch"] == full
    assert tiny_recipe(ABLATIONS["104-labels"], 5).label_limit == 104
    assert not tiny_recipe(ABLATIONS["no-cross-patch"], 5).cross_patch


def test_a_missing_data_set_is_told(tmp_path):
    with pytest.raises(CTSAM3DError, match="nowhere does not exist"):
        main(output=tmp_path / "paper", data=["flare22=nowhere"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"data": ["flare=x"]}, "is not NAME=PATH with one of the names totalsegpp, flare22"),
        ({"ablation": ["rff"]}, "is not NAME=PATH with one of the names full, rff"),
        ({"method": ["sam"]}, "'sam' is not among region-growing"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_made(tmp_path, wrong, message):
    with pytest.raises(CTSAM3DError, match=message):
        main(output=tmp_path / "paper", **wrong)
    assert not list(tmp_path.glob("paper/*"))

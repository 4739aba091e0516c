"""The protocol of the evaluation: clicks, scores, lines of the CSV, and going on where a run was cut off."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import typer
from dask.distributed import LocalCluster
from typer.testing import CliRunner

from CTSAM3DLib.clicks.simulation import simulate
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.execution.engine import Engine
from CTSAM3DLib.imaging.volume import Geometry, Volume
from CTSAM3DLib.segmentation.session import Segmenter
from Testing.support.threshold_network import threshold_model
from training import evaluate
from training.data.datasets import read_dataset
from training.evaluate import CaseDone, Plan, evaluate_case
from training.evaluation import results
from training.evaluation.baselines import BaselineAnswer
from training.evaluation.click_protocol import click_through
from training.evaluation.methods import MethodChoice, OwnModel

SHAPE = (24, 32, 32)
SPACING = (2.0, 2.0, 3.0)
GEOMETRY = Geometry(SHAPE, (-30.0, 10.0, 100.0), SPACING, (1, 0, 0, 0, 1, 0, 0, 0, 1))
LABELS = {1: "liver", 2: "spleen", 3: "speck", 4: "absent"}
app = typer.Typer()
app.command()(evaluate.main)


def scene():
    """A bright cuboid and a darker one in soft tissue, a speck of eight voxels; CT and label map."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[6:18, 6:16, 6:16] = 1
    labels[6:18, 20:28, 20:28] = 2
    labels[2:4, 2:4, 2:4] = 3
    hu = np.choose(labels, [-50, 400, 150, 300]).astype(np.int16)
    return Volume(hu, GEOMETRY), Volume(labels, GEOMETRY)


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "scenes"
    folder.mkdir()
    ct, labels = scene()
    entries = []
    for case in ("one", "two"):
        ct.write(folder / f"{case}.nii.gz")
        labels.write(folder / f"{case}-labels.nii.gz")
        names = {str(value): {"name": name} for value, name in LABELS.items()}
        entries.append({"case": case, "ct": f"{case}.nii.gz", "label": f"{case}-labels.nii.gz", "labels": names})
    (folder / "dataset.json").write_text(json.dumps(entries))
    return folder


def run(dataset, output, *arguments):
    settings = ["--method", "region-growing", "--clicks", "1,3", *arguments]
    return CliRunner().invoke(app, [str(dataset), "--output", str(output), *settings])


def without_seconds(path):
    lines = results.read(path).drop(columns="seconds")
    return lines.sort_values(["case", "label", "seed", "n_clicks"], ignore_index=True)


class Scripted:
    """Answers with the masks it was given, one for each count of clicks, and keeps the clicks."""

    geometry = GEOMETRY

    def __init__(self, *masks):
        self.masks = masks
        self.clicks = []

    def segment(self, clicks):
        self.clicks = list(clicks)
        return BaselineAnswer(tuple(clicks), Volume(self.masks[len(clicks) - 1].astype(np.uint8), GEOMETRY))


def voxels(clicks):
    return [tuple(int(n) for n in np.rint(GEOMETRY.to_ijk(click.position))[::-1]) for click in clicks]


def test_the_next_click_is_the_deepest_error_in_mm_over_all_components():
    truth = np.zeros(SHAPE, bool)
    truth[4:9, 4:9, 4:9] = True
    leak = truth.copy()
    leak[14:19, 14:27, 14:27] = True  # 5 slices of 3 mm are deeper than 5 columns of 2 mm
    missing = np.zeros(SHAPE, bool)
    opened = Scripted(leak, missing, truth)
    scores = [score for _, score, _ in simulate(opened, truth, (6, 6, 6), 5)]
    assert scores == pytest.approx([2 * 125 / (125 + 125 + 5 * 169), 0, 1])
    first, second, third = voxels(opened.clicks)
    assert [click.positive for click in opened.clicks] == [True, False, True]
    assert (first, third) == ((6, 6, 6), (5, 6, 6))  # slices 5 to 7 are 6 mm deep, and the first of equals is taken
    assert second[0] == 16
    assert all(18 <= n <= 22 for n in second[1:])


def test_scores_are_carried_forward_from_the_last_answer_when_no_error_is_left():
    truth = scene()[1].array == 1
    lines = list(click_through(Scripted(~truth, truth), truth, (1, 3, 5), np.random.default_rng(0)))
    assert [line["n_clicks"] for line in lines] == [1, 3, 5]
    assert [line["dsc"] for line in lines] == [0, 1, 1]
    assert [line["nsd_1"] for line in lines][1:] == [1, 1]
    assert lines[0]["click_sign"] == "+"
    assert all(line["seconds"] == line["click_ijk"] == line["click_sign"] == "" for line in lines[1:])


def test_a_case_gives_a_line_for_each_structure_and_count(dataset):
    record = read_dataset(dataset)[0]
    done = evaluate_case(MethodChoice("region-growing"), record, Plan("scenes", (1, 3), seeds=2), frozenset())
    assert done.left_out == 2  # the speck and the absent one
    assert all(tuple(sorted(row)) == tuple(sorted(results.COLUMNS)) for row in done.rows)
    assert [(row["label"], row["seed"], row["n_clicks"]) for row in done.rows] == [
        (label, seed, count) for label in ("liver", "spleen") for seed in (0, 1) for count in (1, 3)
    ]
    first = done.rows[0]
    assert (first["gt_voxels"], first["gt_mm3"]) == (1200, 1200 * 12)
    assert first["click_ijk"] != done.rows[2]["click_ijk"]  # another seed, another first click
    i, j, k = map(int, first["click_ijk"].split())
    assert scene()[1].array[k, j, i] == 1


def test_our_own_model_is_run_by_the_same_protocol(dataset, monkeypatch):
    segmenter = Segmenter(Engine(threshold_model(), "cpu"))
    monkeypatch.setattr(MethodChoice, "load", lambda self: OwnModel(segmenter, self.reach))
    choice = MethodChoice("ctsam3d", model="stand-in", reach="patch")
    plan = Plan("scenes", (1,), labels=("liver",))
    (row,) = evaluate_case(choice, read_dataset(dataset)[0], plan, frozenset()).rows
    assert row["run"] == "threshold-00000000-patch"
    assert row["dsc"] > 0.85
    assert row["n_patches"] == 1
    assert 0.9 < row["quality"] <= 1


def test_a_second_run_adds_nothing_and_more_counts_add_only_themselves(dataset, tmp_path):
    output = tmp_path / "results.csv"
    assert run(dataset, output).exit_code == 0
    written = output.read_bytes()
    assert len(results.read(output)) == 2 * 2 * 2
    assert run(dataset, output).exit_code == 0
    assert output.read_bytes() == written
    assert run(dataset, output, "--clicks", "1,2,3").exit_code == 0
    assert output.read_bytes().startswith(written)
    lines = results.read(output)
    assert len(lines) == 2 * 2 * 3
    assert not lines.duplicated(["run", "case", "label", "seed", "n_clicks"]).any()


def test_a_run_cut_off_loses_one_case_and_goes_on(dataset, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole.csv", tmp_path / "broken.csv"
    assert run(dataset, whole).exit_code == 0

    def die_at_the_second(choice, record, plan, known) -> CaseDone:
        if record.case == "two":
            raise KeyboardInterrupt
        return evaluate_case(choice, record, plan, known)

    with monkeypatch.context() as patched:
        patched.setattr(evaluate, "evaluate_case", die_at_the_second)
        assert run(dataset, broken).exit_code != 0
    assert set(results.read(broken)["case"]) == {"one"}
    assert run(dataset, broken).exit_code == 0
    pd.testing.assert_frame_equal(without_seconds(broken), without_seconds(whole))


def test_several_processes_write_the_same_lines(dataset, tmp_path):
    one, several = tmp_path / "one.csv", tmp_path / "several.csv"
    assert run(dataset, one).exit_code == 0
    assert run(dataset, several, "--jobs", "2").exit_code == 0
    pd.testing.assert_frame_equal(without_seconds(several), without_seconds(one))


def test_the_command_on_a_cluster_writes_the_same_lines(dataset, tmp_path):
    one, cluster_file = tmp_path / "one.csv", tmp_path / "cluster.csv"
    assert run(dataset, one).exit_code == 0
    with LocalCluster(
        1, threads_per_worker=1, processes=False, protocol="tcp://", memory_limit=0, dashboard_address=None
    ) as cluster:
        parts = [sys.executable, "-m", "training.evaluate", dataset, "--output", cluster_file, "--clicks", "1,3"]
        done = subprocess.run(
            [*parts, "--method", "region-growing", "--scheduler", cluster.scheduler_address],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(without_seconds(cluster_file), without_seconds(one))


def spoil(dataset, how):
    """Make case "one" unusable."""
    if how == "corrupt CT":
        (dataset / "one.nii.gz").write_bytes(b"no CT at all")
    elif how == "missing mask":
        (dataset / "one-labels.nii.gz").unlink()
    else:
        labels = scene()[1]
        moved = dataclasses.replace(GEOMETRY, origin=(0.0, 0.0, 0.0))
        Volume(labels.array, moved).write(dataset / "one-labels.nii.gz")


@pytest.mark.parametrize(
    ("how", "reason"),
    [("corrupt CT", "one.nii.gz"), ("missing mask", "one-labels.nii.gz"), ("other geometry", "lies on another grid")],
)
def test_a_case_that_cannot_be_read_is_reported_and_the_others_go_on(dataset, tmp_path, how, reason):
    output = tmp_path / "results.csv"
    good = [(dataset / name).read_bytes() for name in ("one.nii.gz", "one-labels.nii.gz")]
    spoil(dataset, how)
    done = run(dataset, output)
    assert done.exit_code == 1
    assert set(results.read(output)["case"]) == {"two"}
    (failure,) = pd.read_csv(results.failures_file(output)).to_dict("records")
    assert (failure["case"], failure["method"]) == ("one", "region-growing")
    assert reason in failure["reason"]
    assert failure["reason"] in done.output
    for name, content in zip(("one.nii.gz", "one-labels.nii.gz"), good, strict=True):
        (dataset / name).write_bytes(content)
    assert run(dataset, output).exit_code == 0
    assert set(results.read(output)["case"]) == {"one", "two"}
    assert not results.failures_file(output).exists()


def test_when_every_case_fails_the_reason_is_told(dataset, tmp_path):
    for case in ("one", "two"):
        (dataset / f"{case}.nii.gz").write_bytes(b"no CT at all")
    done = run(dataset, tmp_path / "results.csv")
    assert isinstance(done.exception, CTSAM3DError)
    assert "one.nii.gz" in str(done.exception)


def test_cases_are_chosen_by_their_split_and_filed_under_a_name(dataset, tmp_path):
    description = dataset / "dataset.json"
    entries = json.loads(description.read_text())
    entries[1]["split"] = "test"
    description.write_text(json.dumps(entries))
    output = tmp_path / "results.csv"
    assert run(dataset, output, "--split", "test", "--name", "flare22").exit_code == 0
    lines = results.read(output)
    assert (set(lines["case"]), set(lines["dataset"])) == ({"two"}, {"flare22"})
    done = run(dataset, output, "--split", "val")
    assert "its splits are: test" in str(done.exception)


def test_the_table_and_the_picture(dataset, tmp_path):
    done = run(dataset, tmp_path / "results.csv", "--picture", str(tmp_path / "dice.png"))
    assert done.exit_code == 0
    assert "region-growing" in done.output
    assert "2 structures of fewer than 100 voxels" not in done.output  # two in each of the two cases
    assert "4 structures of fewer than 100 voxels" in done.output
    assert (tmp_path / "dice.png").read_bytes().startswith(b"\x89PNG")


def test_few_structures_of_a_case_and_the_table_by_region(dataset, tmp_path):
    description = dataset / "dataset.json"
    entries = json.loads(description.read_text())
    entries[0]["region"] = "torso"
    description.write_text(json.dumps(entries))
    output = tmp_path / "results.csv"
    done = run(dataset, output, "--quick", "1", "--by", "region", "--by", "group")
    assert done.exit_code == 0
    assert len(results.read(output)) == 2 * 2
    for said in ("abdomen", "not said", "Main abdomen organs"):
        assert said in done.output
    few = results.read(output)["label"].tolist()
    assert run(dataset, output).exit_code == 0
    assert len(results.read(output)) == 2 * 2 * 2
    plan = Plan("scenes", (1, 3), at_most=1)
    again = evaluate.complete(output, [MethodChoice("region-growing")], read_dataset(dataset), plan)
    assert again.lines["label"].tolist() == few


def test_the_mean_by_label_weighs_labels_alike():
    common = {"run": "r", "n_clicks": 1, "nsd_2": 0.0, "seconds": 1.0}
    scores = [("liver", 1.0), ("liver", 1.0), ("liver", 1.0), ("spleen", 0.0)]
    table = results.summary(pd.DataFrame([{**common, "label": label, "dsc": score} for label, score in scores]))
    cells = dict(zip(table.columns[1].cells, table.columns[2].cells, strict=True))
    assert cells["Dice by label"] == "0.500"
    assert cells["Dice all"] == "0.750"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--case", "three"], "no case three"),
        (["--label", "lung"], "label lung"),
        (["--method", "guessing"], "'guessing' is not a method"),
        (["--clicks", "1,x"], "does not count clicks"),
        (["--label", "speck"], "No known structure has 100 voxels"),
        (["--by", "colour"], "no table by 'colour'"),
    ],
)
def test_what_is_not_there_is_named(dataset, tmp_path, arguments, message):
    done = run(dataset, tmp_path / "results.csv", *arguments)
    assert isinstance(done.exception, CTSAM3DError)
    assert message in str(done.exception)


def test_a_table_of_another_kind_is_left_alone(dataset, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    done = run(dataset, other)
    assert isinstance(done.exception, CTSAM3DError)
    assert "other columns" in str(done.exception)
    assert other.read_text() == "a,b\n1,2\n"

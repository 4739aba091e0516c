"""Weights are adopted where they are better, not otherwise, and the reader is told why; by region, as the data say."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from typer.testing import CliRunner

from CTSAM3DLib.checkpoints.checkpoint import ModelInfo, load, save
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.volume import Geometry, Volume
from CTSAM3DLib.model import CTSAM3D
from CTSAM3DLib.model.configs import SMALL
from Testing.training.conftest import THIN
from training import adopt, evaluate
from training.card import Facts, Used, write
from training.config import RecipeError
from training.data.datasets import CaseRecord, read_dataset
from training.data.prepared import Prepared, PreparedCase
from training.evaluation import results
from training.evaluation.adoption import judge
from training.evaluation.body_regions import located, means, with_mean_of_regions
from training.evaluation.selection import group_of_label, spread
from training.learning.history import History
from training.learning.plan import Plan

pytestmark = pytest.mark.model

app = typer.Typer()
app.command()(adopt.main)

REGIONS = ("head-neck", "chest", "torso", "limbs")
RECORDS = [CaseRecord(f"case-{n}", None, region=region, patient=f"p{n // 2}") for n, region in enumerate(REGIONS * 2)]


def lines(**dice_of_run):
    """A structure in each case for each run, whose Dice at five clicks is that of its region."""
    return pd.DataFrame(
        {
            **{"run": run, "method": "ctsam3d", "dataset": "d", "case": record.case, "label": label, "seed": 0},
            **{"n_clicks": clicks, "dsc": dice[record.region] - 0.1 * (clicks == 1), "nsd_2": 0.5},
        }
        for run, dice in dice_of_run.items()
        for record in RECORDS
        for label in ("liver", "rib_left_2")
        for clicks in (1, 5)
    )


def judged(new, old, without=(), keep=lambda found: found):
    return judge(keep(located(lines(new=new, old=old), RECORDS)), "new", "old", without)


OLD = dict.fromkeys(REGIONS, 0.7)


def test_better_weights_are_adopted():
    verdict = judged({**OLD, "limbs": 0.8}, OLD)
    assert verdict.adopted
    assert verdict.new == pytest.approx({"head-neck": 0.7, "chest": 0.7, "abdomen": 0.7, "limbs": 0.8})
    assert "0.725 instead of 0.700" in verdict.sentence()


def test_a_region_may_be_worse_by_a_hundredth_but_not_by_two():
    assert judged({**OLD, "chest": 0.69, "limbs": 0.9}, OLD).adopted
    verdict = judged({**OLD, "chest": 0.68, "limbs": 0.9}, OLD)
    assert verdict.reasons == ("chest is worse by 0.020 (0.680 instead of 0.700).",)
    assert verdict.sentence().startswith("Not adopted: chest")


def test_equal_weights_are_not_better():
    assert "is not higher (0.700, 0.700 before)" in judged(OLD, OLD).sentence()


def test_a_region_without_structures_is_named_and_stops_the_adoption():
    better = {**OLD, "chest": 0.9}

    def without_limbs(found):
        return found[found["region"] != "limbs"]

    verdict = judged(better, OLD, keep=without_limbs)
    assert verdict.reasons == ("limbs was not measured, since no held-out patient shows it.",)
    assert judged(better, OLD, without=["limbs"], keep=without_limbs).adopted


def test_models_are_compared_at_the_same_structures():
    def one_unasked(found):
        return found[~((found["run"] == "old") & (found["case"] == "case-1") & (found["label"] == "liver"))]

    verdict = judged({**OLD, "chest": 0.9}, OLD, keep=one_unasked)
    assert verdict.reasons == ("1 structures were measured with one of the two models only.",)


def test_nothing_measured_is_no_reason_to_adopt():
    assert not judge(located(lines(new=OLD), RECORDS), "new", "old", list(adopt.REGIONS)).adopted


def test_tables_by_region_and_by_group():
    found = located(lines(new={**OLD, "torso": 0.9}, old=OLD), RECORDS)
    table = with_mean_of_regions(means(found, "region"))
    assert list(table.columns) == ["region", "run", "structures", "patients", "Dice @1", "Dice @5", "NSD @5"]
    assert list(table["region"].unique()) == ["head-neck", "chest", "abdomen", "limbs", "mean of regions"]
    rows = table.set_index(["region", "run"])
    assert rows.loc[("abdomen", "new"), "Dice @5"] == pytest.approx(0.9)
    assert rows.loc[("abdomen", "new"), ["structures", "patients"]].tolist() == [4, 2]
    assert rows.loc[("mean of regions", "new"), "Dice @5"] == pytest.approx(0.75)
    assert set(means(found, "group")["group"]) == {"Main abdomen organs", "Ribs"}


def test_few_structures_of_a_case_are_of_many_kinds_and_always_the_same():
    names = [*(f"rib_{side}_{n}" for side in ("left", "right") for n in range(1, 13)), "liver", "spleen", "aorta"]
    chosen = spread("one", names, 4)
    assert chosen == spread("one", reversed(names), 4)
    assert {group_of_label(name) for name in chosen} == {"Ribs", "Main abdomen organs", "Cardiovascular vessels"}
    assert chosen < spread("one", names, 9) < set(names)
    assert spread("one", names, 99) == set(names)
    assert len({spread(f"case-{n}", names, 1) for n in range(20)}) > 3


# The command, on synthetic cases and thin networks.

SHAPE = (16, 24, 24)
GEOMETRY = Geometry(SHAPE, (-30.0, 10.0, 100.0), (3.0, 3.0, 3.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
NAMES = {1: "liver", 2: "spleen", 3: "aorta"}


def network(bias):
    """An untrained network that answers all (a high bias) or nothing (a low one)."""
    torch.manual_seed(0)
    changes = {key: tuple(value) if isinstance(value, list) else value for key, value in THIN.items()}
    thin = CTSAM3D(dataclasses.replace(SMALL, **changes)).eval()
    with torch.no_grad():
        thin.decoder.fine_head.to_mask.bias.fill_(bias)
    return thin


@pytest.fixture
def place(tmp_path):
    """A data set of a held-out chest and a torso, a run whose network answers all, and a bundled one: nothing."""
    for name in ("data", "run", "bundled"):
        (tmp_path / name).mkdir()
    array = np.zeros(SHAPE, np.uint8)
    for value in NAMES:
        array[4:12, 4:20, 6 * value : 6 * value + 4] = value
    entries = []
    for case, region in (("one", "chest"), ("two", "chest"), ("three", "torso")):
        Volume(np.where(array > 0, 200, -100).astype(np.int16), GEOMETRY).write(tmp_path / f"data/{case}.nii.gz")
        Volume(array, GEOMETRY).write(tmp_path / f"data/{case}-label.nii.gz")
        entry = {"case": case, "patient": f"patient-{case}", "region": region, "ct": f"{case}.nii.gz"}
        entry |= {"label": f"{case}-label.nii.gz", "labels": {str(value): name for value, name in NAMES.items()}}
        entries.append({**entry, "source": "a hospital", "licence": "CC0", "labels_made_by": "by hand"})
    (tmp_path / "data/dataset.json").write_text(json.dumps(entries))
    (tmp_path / "run/plan.yaml").write_text("base: whole-body.yaml\nheld_out: [patient-one, patient-two]\n")
    info = ModelInfo("ctsam3d-small", (-1000, 800), 3.0, labels=("liver", "spleen", "aorta"))
    save(tmp_path / "run/model.safetensors", network(20.0), info)
    save(tmp_path / "bundled/ctsam3d-small.safetensors", network(-20.0), dataclasses.replace(info, data_hash="0" * 8))
    (tmp_path / "run/curve.csv").write_text(
        "step,task,figure,value,rate,seconds\n50,clicks,loss,1,1e-3,1800\n50,clicks,dice,1,1e-3,1800\n"
        "100,label_maps,loss,1,1e-3,5400\n"
    )
    torch.save({"step": 100, "steps_of": {"clicks": 30, "label_maps": 70}}, tmp_path / "run/state-0.pt")
    return tmp_path


def run(place, *arguments):
    settings = ["--clicks", "1,5", "--quick", "1", "--data", str(place / "data"), "--bundled", str(place / "bundled")]
    return CliRunner().invoke(app, [str(place / "run"), *settings, *arguments])


ELSEWHERE = [word for region in ("head-neck", "abdomen", "limbs") for word in ("--without-region", region)]


def test_a_better_run_takes_the_place_of_the_bundled_model(place):
    case = PreparedCase("three", "patient-three", "torso", "ct", NAMES, np.zeros((4, 4, 4), np.uint8))
    atlas = dataclasses.replace(case, name="atlas-knee", patient="atlas-knee", region="limbs", source="atlas")
    held = dataclasses.replace(case, name="one", patient="patient-one", region="chest")
    Prepared(3.0, (-1000, 800), (case, atlas, held)).write(place / "data.npz")
    (place / "data/atlases/knee").mkdir(parents=True)
    described = {"source": "a laboratory", "licence": "BSD", "labels": {}}
    (place / "data/atlases/knee/names.json").write_text(json.dumps(described))
    options = ["--prepared", str(place / "data.npz"), "--method", "grow-cut", "--note", "It was a try."]
    done = run(place, *ELSEWHERE, *options)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "Adopted: the mean over chest at 5 clicks is 0." in done.output

    model = load(place / "bundled/ctsam3d-small.safetensors")
    ours, taken = network(20.0).state_dict(), model.network.state_dict()
    assert all(torch.equal(ours[name].half().float(), taken[name].float()) for name in ours)
    card = (place / "bundled/ctsam3d-small.md").read_text(encoding="utf-8")
    assert model.info.card == card
    assert len(model.info.data_hash) == 64
    for said in (
        "chest: patient-one, patient-two.",
        "a hospital, CC0: three.",
        "a laboratory; an atlas without a CT, whose CT was painted, BSD: atlas-knee.",
        "100 steps in 2.0 hours of one loop of tasks (`training/learn.py`): label_maps 70 of 8 patches; clicks 30 of 8",
        "by hand (2 cases)",
        "At most 1 structures of a case were measured, spread over their kinds.",
        "by region: abdomen 1, painted atlases 1.",
        "- It was a try.",
        "| chest | this model | 2 | 2 | ",
        "| chest | the bundled model before | 2 | 2 | 0.",
        "| chest | grow-cut | 2 | 2 | ",
        "Worst at five clicks, mean Dice by kind: ",
    ):
        assert said in card, said
    report = (place / "run/adopt.md").read_text(encoding="utf-8")
    assert "Adopted: the mean over chest" in report
    assert "At most 1 structures of a case" in report
    assert "python -m training.adopt" in report
    assert "--without-region limbs" in report
    assert isinstance(run(place, *ELSEWHERE).exception, CTSAM3DError)  # the bundled model has these weights already


def test_a_worse_run_is_measured_and_left_where_it_is(place):
    trained, bundled = place / "run/model.safetensors", place / "bundled/ctsam3d-small.safetensors"
    good, bad = trained.read_bytes(), bundled.read_bytes()
    trained.write_bytes(bad)
    bundled.write_bytes(good)
    done = run(place)
    assert done.exit_code == 1
    for said in ("limbs was not measured", "chest is worse by", "The mean over chest is not higher"):
        assert said in done.output
    assert "Not adopted" in (place / "run/adopt.md").read_text(encoding="utf-8")
    assert bundled.read_bytes() == good
    assert not (place / "bundled/ctsam3d-small.md").exists()
    assert (place / "run/adopted/ctsam3d-small.md").exists()


def test_what_was_measured_is_not_measured_again(place, monkeypatch):
    case_by_case = evaluate.evaluate_case

    def die_at_the_third(choice, record, plan, known):
        if (record.case, choice.weights) == ("one", str(place / "bundled/ctsam3d-small.safetensors")):
            raise KeyboardInterrupt
        return case_by_case(choice, record, plan, known)

    with monkeypatch.context() as patched:
        patched.setattr(evaluate, "evaluate_case", die_at_the_third)
        assert run(place, *ELSEWHERE).exit_code not in (0, 1)
    csv = place / "run/adopt.csv"
    before = csv.read_bytes()
    assert len(results.read(csv)) == 2 * 2
    assert run(place, *ELSEWHERE).exit_code == 0
    assert csv.read_bytes().startswith(before)
    assert len(results.read(csv)) == 2 * 2 * 2

    other = place / "known.csv"
    other.write_bytes(csv.read_bytes())
    csv.unlink()
    assert results.take_over(csv, other, "data") == 2 * 2 * 2
    assert csv.read_bytes() == other.read_bytes()
    assert results.take_over(csv, other, "data") == 0
    assert results.take_over(csv, other, "another") == 0
    with pytest.raises(CTSAM3DError, match=r"There is no file .*absent.csv"):
        results.take_over(csv, place / "absent.csv", "data")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--clicks", "1,3"], "lacks 5"),
        (["--without-region", "tail"], "'tail' is no region"),
        (["--method", "sam"], "'sam' needs no weights of ours"),
        (["--plan", "small.yaml"], "There is no recipe small.yaml"),
    ],
)
def test_what_cannot_be_asked_is_said(place, arguments, said):
    error = run(place, *arguments).exception
    assert isinstance(error, CTSAM3DError)
    assert said in str(error)


def test_who_is_held_out_has_to_be_in_the_data(place):
    records = read_dataset(place / "data")
    with pytest.raises(RecipeError, match="no patient nobody, whom the plan holds out"):
        adopt.held_out_records(records, ["patient-one", "nobody"], place / "data")
    with pytest.raises(RecipeError, match="holds nobody out"):
        adopt.held_out_records(records, [], place / "data")


def test_a_run_without_a_history_says_little(tmp_path):
    assert History.of(tmp_path).described(Plan.read("whole-body.yaml")).startswith("0 steps of one loop")


def test_a_card_of_patients_who_were_trained_on_is_refused(place):
    record = read_dataset(place / "data")[0]
    facts = Facts("a try", [Used.of(record)], [record])
    with pytest.raises(CTSAM3DError, match="patient-one was trained on and measured"):
        write(place, load(place / "run/model.safetensors"), pd.DataFrame(), facts)

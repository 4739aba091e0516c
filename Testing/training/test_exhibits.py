"""Exhibits as queries: means as the paper takes them, published figures always marked, charts of what was measured."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from CTSAM3DLib.errors import CTSAM3DError
from training import anatomy
from training.evaluation import results
from training.exhibits import charts, costs
from training.exhibits.__main__ import main
from training.exhibits.catalogue import BTCV, FLARE22, FLARE22_ORGANS, TABLES, TOTALSEG
from training.exhibits.material import Material
from training.exhibits.page import NOTHING, write_all
from training.exhibits.pictured import CT, TRUTH, PicturedCase, mask_file
from training.exhibits.pictures import rendering
from training.exhibits.queries import MEASURED, Query, published
from training.exhibits.study import COMPARISONS, Study, System, read_results, scores
from training.exhibits.tables import DAGGER, to_markdown

TABLE_1, TABLE_2 = TABLES[0], TABLES[1]
OURS = System("CT-SAM3D", "ctsam3d-1", "trained on phantoms", own=True)
OTHER = System("region growing", "region-growing", "no training")
STUDY = Study((OURS, OTHER), {FLARE22: "made by the test", TOTALSEG: "made by the test"})
NO_COSTS = costs.read_costs(None)
app = typer.Typer()
app.command()(main)


def line(run=OURS.run, case="a", label="liver", dsc=0.5, nsd=0.6, dataset=FLARE22, clicks=5, seed=0):
    """A line of the results."""
    return {
        **dict.fromkeys(results.COLUMNS, ""),
        **{"run": run, "method": "ctsam3d" if run == OURS.run else run, "dataset": dataset, "case": case},
        **{"label": label, "group": anatomy.group_of(label), "seed": seed, "n_clicks": clicks, "dsc": dsc},
        **dict.fromkeys(results.NSD_COLUMNS, nsd),
        **{"seconds": 0.1, "gt_voxels": 1000, "gt_mm3": 1000.0},
    }


def some_lines(dataset=FLARE22, labels=FLARE22_ORGANS, counts=(1, 3, 5, 7, 9), cases=4):
    """Two systems at several cases; ours is better by 0.1 everywhere, and rises with clicks."""
    rng = np.random.default_rng(0)
    lines = []
    for case in range(cases):
        for label in labels:
            score = rng.uniform(0.3, 0.7)
            for clicks in counts:
                for run, gain in ((OURS.run, 0.1), (OTHER.run, 0.0)):
                    lines.append(line(run, f"c{case}", label, score + gain + 0.01 * clicks, 0.5, dataset, clicks))
    return lines


def material(lines, study=STUDY, pictures=None):
    frame = pd.DataFrame(lines, columns=list(results.COLUMNS))
    return Material(scores(frame), study, NO_COSTS, pictures)


def test_the_means_of_table_1_are_those_of_its_cells_by_our_own_query():
    figures = published("table1")
    checked = 0
    for (system, metric), row in figures.groupby(["system", "metric"]):
        organs = row[row["column"] != "mean"]
        lines = [
            line(system, label=organ, dsc=v / 100, nsd=v / 100)
            for organ, v in zip(organs["column"], organs["value"], strict=True)
        ]
        query = Query("mean", FLARE22, FLARE22_ORGANS, 5)
        answers = {
            cell["metric"]: cell["value"] for cell in query.answer(material(lines).scores, System(system, system))
        }
        assert answers[metric] == pytest.approx(row.set_index("column")["value"]["mean"], abs=0.0501)
        checked += 1
    assert checked == 16


def test_the_mean_weighs_structures_alike_and_seeds_within_cases():
    lines = [line(case=case, dsc=1.0) for case in "abc"] + [line(case="a", label="spleen", dsc=0.2)]
    lines += [line(case="b", label="spleen", dsc=score, seed=seed) for seed, score in enumerate((0.0, 0.8))]
    (dsc, _) = Query("mean", FLARE22, ("liver", "spleen"), 5).answer(material(lines).scores, OURS)
    assert dsc["value"] == pytest.approx(100 * (1.0 + (0.2 + 0.4) / 2) / 2)
    assert dsc["cases"] == 3
    (spleen, _) = Query("spleen", FLARE22, ("spleen",), 5).answer(material(lines).scores, OURS)
    assert spleen["sd"] == pytest.approx(np.std([20, 40], ddof=1))


def test_what_was_published_is_marked_and_stands_apart():
    cells = TABLE_1.cells(material(some_lines()).scores, STUDY)
    rows = [row for row in to_markdown(TABLE_1, cells).splitlines() if row.startswith("| ")]
    ours = [row for row in rows if row.startswith("| CT-SAM3D |")]
    theirs = [row for row in rows if row.startswith(f"| *CT-SAM3D* {DAGGER} |")]
    assert len(ours) == len(theirs) == 2  # Dice and NSD
    marked = [DAGGER in row for row in rows]
    assert sum(marked) == 2 * (8 + 1)  # systems, and the heading above them
    for row in (row for row, mark in zip(rows, marked, strict=True) if mark):
        assert all(cell.strip() in ("-", "") or cell.strip().startswith("*") for cell in row.split("|")[2:-1])
    assert not any("*4" in row.replace("**", "") for row in ours)
    citations = cells.loc[cells["source"] != MEASURED, "source"]
    assert citations.str.contains("arXiv:2403.15063").all()
    assert set(cells.loc[cells["source"] == MEASURED, "system"]) == {"CT-SAM3D", "region growing"}


def test_systems_that_take_no_clicks_are_published_in_the_columns_of_clicks():
    automatic = next(table for table in TABLES if table.name == "supplementary2")
    text = to_markdown(automatic, automatic.cells(material([]).scores, STUDY))
    assert "*nnU-Net* † | *83.6* | *88.5*" in text
    assert "nothing measured" in text


def test_systems_are_compared_case_by_case_on_what_both_were_measured_at():
    lines = [*some_lines(cases=5), line(OURS.run, "c0", "spleen", 0.0, clicks=5, seed=1)]
    lines = [row for row in lines if not (row["run"] == OTHER.run and row["case"] == "c4")]
    found = TABLE_1.comparisons(material(lines[:-1]).scores, STUDY)
    assert list(found["metric"]) == ["dsc", "nsd"]
    dsc = found.iloc[0]
    assert (dsc["system"], dsc["other"], dsc["cases"]) == ("CT-SAM3D", "region growing", 4)
    assert dsc["difference"] == pytest.approx(10)
    assert dsc["p"] == pytest.approx(2 / 2**4)
    assert dsc["p_holm"] == pytest.approx(2 * 2 / 2**4)  # the NSD, which does not differ, is the other comparison


def test_a_system_may_be_compared_with_another_than_ours():
    tiny = System("tiny", "t", own=True)
    without = System("tiny*", "u", own=True, against="tiny")
    pairs = Study((OURS, OTHER, tiny, without)).pairs("table1")
    assert [(one.name, other.name) for one, other in pairs] == [
        ("CT-SAM3D", "region growing"),
        ("CT-SAM3D", "tiny"),
        ("tiny", "tiny*"),
    ]
    assert Study((OTHER, without)).pairs("table1") == [(without, OTHER)]


def test_figure_3_compares_groups_and_corrects_over_all_of_them():
    labels = ("liver", "spleen", "aorta", "rib_left_5", "skeletal_muscle", "visceral_fat")
    lines = some_lines(TOTALSEG, labels, (5,), cases=6)
    compared = charts.group_comparisons(material(lines).scores, [(OURS, OTHER)])
    names = ["Cardiovascular vessels", "Main abdomen organs", "Ribs", "skeletal_muscle", "visceral_fat"]
    assert list(compared["category"]) == names
    assert compared["difference"].to_numpy() == pytest.approx(10)
    assert compared["p_holm"].to_numpy() == pytest.approx(5 * 2 / 2**6)
    (axes,) = charts.groups(material(lines).scores, [OURS, OTHER], compared).axes
    assert len(axes.patches) == 2 * 5
    assert [text.get_text() for text in axes.texts] == ["p=0.16"] * 5


def test_figure_4_draws_the_means_and_hollow_diamonds_for_the_paper():
    found = material(some_lines()).scores
    figure = charts.rising_clicks(found, [OURS, OTHER], FLARE22_ORGANS)
    dsc, nsd = figure.axes
    ours, other, theirs = dsc.get_lines()
    assert ours.get_label() == "CT-SAM3D"
    at_5 = TABLE_1.cells(found, STUDY).set_index(["source", "system", "column", "metric"])["value"]
    assert ours.get_ydata()[2] == pytest.approx(at_5[MEASURED, "CT-SAM3D", "mean", "dsc"])
    assert ours.get_ydata() - other.get_ydata() == pytest.approx(10)
    assert (theirs.get_marker(), theirs.get_markerfacecolor(), theirs.get_linestyle()) == ("D", "none", "None")
    assert "published" in theirs.get_label()
    assert 88.4 in theirs.get_ydata()
    assert len(nsd.get_lines()) == 3


def test_supplementary_figure_4_has_a_row_for_each_structure_in_the_order_of_groups():
    lines = some_lines(TOTALSEG, ("rib_left_5", "liver", "aorta"), (5,))
    (axes,) = charts.structures(material(lines).scores, [OURS, OTHER], "nsd").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["aorta", "liver", "rib left 5"]
    assert [text.get_text() for text in axes.texts] == ["Cardiovascular vessels", "Main abdomen organs", "Ribs"]


def test_a_rendering_shows_what_lies_in_front_with_the_head_above():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[2:8, 10:16, 2:8] = 1  # at the feet, to the patient's right
    labels[12:18, 12:18, 12:18] = 2
    labels[12:18, 4:8, 12:18] = 3  # in front of the second
    colors = np.zeros((256, 3))
    colors[[1, 2, 3]] = np.eye(3)
    picture = rendering(labels, (1.5, 1.5, 1.5), colors)
    assert picture.shape == (20, 20, 4)
    assert picture[14, 5].argmax() in (0, 3)
    assert picture[14, 5, 0] > 0
    assert picture[4, 15, 2] > 0
    assert picture[4, 15, 1] == 0  # hidden
    assert picture[..., 3].sum() == pytest.approx(72, abs=8)
    assert picture[4, 5, 3] == 0


def test_without_any_results_the_page_shows_what_was_published(tmp_path):
    text = write_all(tmp_path, material([], Study())).read_text()
    assert text.count(NOTHING) == 12  # six tables and six figures
    assert "*95.6 ± 2.0*" in text
    assert "| *CT-SAM3D* † |" in text
    assert "embedding dimension of stage 4 | 768 | *768*" in text
    assert not list(tmp_path.glob("*.png"))


def test_every_exhibit_is_written_and_says_what_it_was_made_from(tmp_path):
    structures = [name for members in anatomy.GROUPS.values() for name in members[:2]]
    lines = some_lines() + some_lines(TOTALSEG, structures, (5,)) + some_lines(BTCV, FLARE22_ORGANS, (1, 3))
    page = write_all(tmp_path, material(lines), [results.Failure(BTCV, "img0009", "ctsam3d", "It is no CT; mend it.")])
    text = page.read_text()
    for name in ("figure3", "figure4", "supplementary-figure4", "supplementary-figure5"):
        assert f"]({name}.png)" in text
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert "- FLARE22: 4 cases, made by the test" in text
    assert "- CT-SAM3D: trained on phantoms" in text
    assert "img0009 of btcv, ctsam3d: It is no CT; mend it." in text
    written = pd.read_csv(tmp_path / "table2.csv")
    assert set(written["source"] == MEASURED) == {True, False}
    again = write_all(tmp_path / "again", material(lines))
    for name in ("figure3.png", "figure4.pdf", "table1.csv", "table1-comparisons.csv"):
        assert (again.parent / name).read_bytes() == (tmp_path / name).read_bytes()


def test_pictured_cases_are_drawn(tmp_path):
    from CTSAM3DLib.imaging.volume import Geometry, Volume

    geometry = Geometry((16, 20, 20), (0, 0, 0), (2, 2, 3), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    truth = np.zeros(geometry.shape, np.uint8)
    truth[4:12, 5:15, 5:10], truth[6:10, 5:10, 12:16] = 5, 1
    for exhibit in ("figure5", "supplementary-figure3"):
        folder = tmp_path / "pictures" / exhibit / "c0"
        folder.mkdir(parents=True)
        Volume(np.where(truth, 80, -100).astype(np.int16), geometry).write(folder / CT)
        Volume(truth, geometry).write(folder / TRUTH)
        Volume(np.roll(truth, 1, 0), geometry).write(folder / mask_file(1))
        PicturedCase(FLARE22, "c0", 5, ("CT-SAM3D",), (OURS.run,)).write(folder)
    text = write_all(tmp_path, material(some_lines(), pictures=tmp_path / "pictures")).read_text()
    assert "](figure5.png)" in text
    assert "](supplementary-figure3.png)" in text
    assert (tmp_path / "figure5.png").stat().st_size > 10_000


def test_the_command_takes_several_files_and_names_runs_without_a_study(tmp_path):
    files = [tmp_path / "one.csv", tmp_path / "two.csv"]
    lines = some_lines()
    results.append(files[0], [row for row in lines if row["run"] == OURS.run])
    results.append(files[1], [{**row, "method": "sam", "run": "sam-2"} for row in lines if row["run"] == OTHER.run])
    done = CliRunner().invoke(app, [*map(str, files), "--output", str(tmp_path / "out")])
    assert done.exit_code == 0
    text = (tmp_path / "out" / "exhibits.md").read_text()
    assert "| **" in text
    assert "\n| SAM | " in text
    assert "- SAM: trained on SA-1B" in text
    twice = CliRunner().invoke(app, [str(files[0]), str(files[0]), "--output", str(tmp_path / "out")])
    assert isinstance(twice.exception, CTSAM3DError)
    assert "twice" in str(twice.exception)


def test_runs_of_one_system_keep_apart():
    lines = pd.DataFrame({"run": ["sam-1", "sam-2", "region-growing"], "method": ["sam", "sam", "region-growing"]})
    names = [system.name for system in Study((OTHER,)).with_runs_of(lines).systems]
    assert names == ["region growing", "SAM (sam-1)", "SAM (sam-2)"]


def test_a_study_survives_its_file(tmp_path):
    study = Study((dataclasses.replace(OURS, against="x", exhibits=("table4",)), OTHER), {FLARE22: "50 cases"})
    study.write(tmp_path / "study.yaml")
    assert Study.read(tmp_path / "study.yaml") == study
    assert OTHER.exhibits == COMPARISONS


@pytest.mark.parametrize(
    "content", ["systems: 3", "[]", "systems:\n- {name: x}", "a: [", "systems:\n- {name: x, run: y, z: 1}"]
)
def test_a_file_that_is_no_study_is_named(tmp_path, content):
    file = tmp_path / "study.yaml"
    file.write_text(content)
    with pytest.raises(CTSAM3DError, match="does not describe a study"):
        Study.read(file)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(CTSAM3DError, match=r"no file .*none\.csv; measure with"):
        read_results([tmp_path / "none.csv"])
    with pytest.raises(CTSAM3DError, match="cannot be read"):
        Study.read(tmp_path / "none.yaml")
    with pytest.raises(CTSAM3DError, match="write it by"):
        costs.read_costs(tmp_path / "none.csv")

"""The published figures: complete, and true to themselves where the paper allows a check."""

from pathlib import Path

import pandas as pd
import pytest

from training import anatomy

TABLE = pd.read_csv(Path(anatomy.__file__).with_name("published.csv"))
COLUMNS = ["system", "exhibit", "column", "clicks", "metric", "value", "source"]
TABLE_1 = TABLE[TABLE["exhibit"] == "table1"]
SYSTEMS = ("SAM", "MedSAM", "SAMed", "MA-SAM", "SAM-Med2D", "SAM-Med3D", "SegVol", "CT-SAM3D")


@pytest.mark.parametrize("metric", ["dsc", "nsd"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_means_of_table_1_are_those_of_its_cells(system, metric):
    row = TABLE_1[(TABLE_1["system"] == system) & (TABLE_1["metric"] == metric)].set_index("column")["value"]
    assert len(row) == {"SAMed": 8, "MA-SAM": 12}.get(system, 13) + 1
    assert row.drop("mean").mean() == pytest.approx(row["mean"], abs=0.0501)  # rounded to one digit


def test_organs_are_named_as_in_our_label_maps():
    organs = set(TABLE_1["column"]) - {"mean"}
    assert len(organs) == 13
    assert all(anatomy.index_of(organ) for organ in organs)


def test_each_exhibit_is_there_in_full():
    assert list(TABLE.columns) == COLUMNS
    scores = TABLE[TABLE["metric"].isin(["dsc", "nsd"])]
    assert scores.groupby("exhibit").size().to_dict() == {
        "table1": 2 * (6 * 14 + 9 + 13),
        "table2": 6 * 4,
        "table3": 8 * 4,
        "table4": 3 * 4,
        "table5": 4 * 4,
        "supplementary2": 6 * 2,
    }
    assert scores["value"].between(0, 100).all()
    assert not TABLE.duplicated(COLUMNS[:5]).any()
    assert TABLE["source"].str.contains("arXiv:2403.15063").all()


def test_exhibits_agree_where_they_overlap():
    def value(exhibit, system, column, metric, clicks):
        chosen = TABLE.set_index(["exhibit", "system", "column", "metric", "clicks"])["value"]
        return chosen[exhibit, system, column, metric, clicks]

    for metric in ("dsc", "nsd"):
        assert value("table1", "CT-SAM3D", "mean", metric, 5) == value("supplementary2", "CT-SAM3D", "mean", metric, 5)
        of_btcv = value("table4", "CT-SAM3D, ResT, PSAP", "BTCV", metric, 3)
        assert of_btcv == value("table2", "CT-SAM3D", "mean", metric, 3)

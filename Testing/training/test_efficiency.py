"""What a patch costs: counted operations, and the lines that supplementary Tables 1 and 4 read."""

import pandas as pd
import pytest
import torch

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.model import build
from training.evaluation.efficiency import COLUMNS, PATCH, measure_all, multiply_adds, parameters
from training.exhibits import costs
from training.exhibits.queries import PUBLISHED_FILE

BILLION = 1e9


def test_the_paper_s_network_costs_what_its_published_code_does():
    network = build("ctsam3d").eval()
    image, prompts = torch.zeros(1, 1, 64, 64, 64), torch.zeros(1, 3, 64, 64, 64)
    with torch.inference_mode():
        segmenting, proposing = multiply_adds(network, image, prompts)
    assert segmenting / BILLION == pytest.approx(2.6 + 125.2, abs=0.2)
    assert proposing / BILLION == pytest.approx(1.5, abs=0.05)
    assert parameters(network.cross_patch) / 1e6 == pytest.approx(4.81, abs=0.01)


def test_lines_are_of_the_columns_of_the_published_ones(tmp_path):
    file = tmp_path / "costs.csv"
    measure_all(file, ["ctsam3d-small"])
    lines = costs.read_costs(file)
    assert tuple(lines.columns) == COLUMNS == tuple(pd.read_csv(PUBLISHED_FILE, nrows=1).columns)
    values = lines[lines["column"] == PATCH].set_index("metric")["value"]
    assert values["params_millions"] == pytest.approx(parameters(build("ctsam3d-small")) / 1e6, abs=1e-4)
    assert 0.001 < values["latency_seconds"] < 60
    assert 20 < values["memory_mb"] < 5000
    assert lines["source"].str.startswith("measured on CPU").all()
    table = costs.efficiency(lines)
    assert "| CT-SAM3D, small (bundled) | patch of 64" in table
    assert "| *CT-SAM3D* † |" in table


def test_a_file_of_another_kind_is_named(tmp_path):
    file = tmp_path / "costs.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(CTSAM3DError, match="has other columns"):
        costs.read_costs(file)

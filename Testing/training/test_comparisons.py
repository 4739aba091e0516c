"""Comparison systems by the real protocol, a stand-in at the other end: masks, clicks, and what can go wrong."""

import ast
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import typer
from typer.testing import CliRunner

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import Cancelled, ClickError, CTSAM3DError, VolumeError
from CTSAM3DLib.imaging.volume import Geometry, Volume
from training import anatomy, evaluate
from training.evaluation import click_protocol as protocol
from training.evaluation import methods, results
from training.evaluation.comparisons import process
from training.evaluation.comparisons.__main__ import tables
from training.evaluation.comparisons.comparison import Comparison, SystemSettings
from training.evaluation.comparisons.process import ComparisonError
from training.evaluation.comparisons.systems import SYSTEMS, System

SHAPE = (20, 30, 36)
SPACING = (2.0, 2.0, 3.0)
UPRIGHT = (1, 0, 0, 0, 1, 0, 0, 0, 1)
TURNED = (0, 0, -1, -1, 0, 0, 0, 1, 0)
"""i runs to the front, j to the head, k to the right: no axis of the array is where a system expects it."""
OBLIQUE = (-0.6, 0.8, 0, 0.8, 0.6, 0, 0, 0, 1)
app = typer.Typer()
app.command()(evaluate.main)


@pytest.fixture
def workers(tmp_path, monkeypatch):
    """The workers' folder with the stand-in in it."""
    folder = tmp_path / "comparisons"
    shutil.copytree(Path(process.__file__).parent / "workers", folder / "workers")
    shutil.copy(Path(__file__).with_name("comparison_worker.py"), folder / "workers" / "stand_in.py")
    monkeypatch.setattr(process, "_WORKERS", folder)
    monkeypatch.setitem(SYSTEMS, "stand-in", stand_in())
    monkeypatch.setitem(SYSTEMS, "stand-in-2d", stand_in("slice"))
    monkeypatch.setitem(SYSTEMS, "stand-in-auto", stand_in("none"))
    monkeypatch.setattr(evaluate, "METHODS", tuple(SYSTEMS))


@pytest.fixture
def start(workers):
    """A function that starts the stand-in; all are ended with the test."""
    started = []

    def start(prompting="volume", silence_s=20.0, weights="w", **options):
        settings = SystemSettings(options=tuple(options.items()), silence_s=silence_s)
        started.append(Comparison(stand_in(prompting), weights, settings))
        return started[-1]

    yield start
    for comparison in started:
        comparison.close()


def stand_in(prompting="volume"):
    name = {"volume": "stand-in", "slice": "stand-in-2d", "none": "stand-in-auto"}[prompting]
    text = dict.fromkeys(("trained_on", "install", "code", "weights", "run"), "")
    return System(name=name, title="Stand-in", module="stand_in", prompting=prompting, iterative=True, **text)


def ct(direction=UPRIGHT):
    """A bright block in a darker one in soft tissue, at an oblique place of the array."""
    hu = np.full(SHAPE, -50, np.int16)
    hu[4:16, 4:20, 4:30] = 150
    hu[6:12, 8:16, 10:20] = 400
    return Volume(hu, Geometry(SHAPE, (-30.0, 10.0, 100.0), SPACING, direction))


def click(volume, z, y, x, positive=True):
    return Click(tuple(volume.geometry.to_lps((x, y, z))), positive)


def alive(number):
    return psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("direction", [UPRIGHT, TURNED, OBLIQUE])
def test_a_mask_lies_where_the_click_is_however_the_ct_is_turned(start, direction):
    volume = ct(direction)
    answer = start().open(volume).segment([click(volume, 5, 22, 7)])
    assert answer.mask.geometry == volume.geometry
    inside = np.argwhere(answer.mask.array)
    assert np.allclose(inside.mean(axis=0), (5, 22, 7))
    extent = np.ptp(inside, axis=0) * volume.geometry.spacing[::-1]
    assert np.all(extent >= 12)
    assert np.all(extent <= 16)


def test_masks_depend_on_the_ordered_clicks_alone_whatever_was_asked_before(start):
    comparison, volume = start(), ct()
    opened, other = comparison.open(volume), comparison.open(ct(TURNED))
    first, second = click(volume, 8, 12, 14), click(volume, 8, 12, 17, positive=False)

    def mask(*clicks):
        return opened.segment(clicks).mask.array.copy()

    one, both = mask(first), mask(first, second)
    assert one.sum() > both.sum() > 0
    other.segment([click(ct(TURNED), 3, 3, 3)])
    assert np.array_equal(mask(first), one)  # after another CT, and with one click fewer
    assert np.array_equal(mask(first, second), both)
    flipped = mask(second, first)  # the last of two clicks wins here
    assert flipped.sum() == one.sum()


def test_only_what_is_new_is_sent(start, monkeypatch):
    asked = []
    ask = process.Worker.ask
    monkeypatch.setattr(process.Worker, "ask", lambda self, do, **rest: (asked.append(do), ask(self, do, **rest))[1])
    volume = ct()
    opened = start().open(volume)
    clicks = [click(volume, 8, 12, x) for x in (10, 14, 18)]
    for count in (1, 2, 3, 1):
        opened.segment(clicks[:count])
    assert asked == ["start", "volume", *["click", "mask"] * 3, "reset", "click", "mask"]


def test_padding_is_air_to_a_system(start, monkeypatch):
    written = []
    write = process.Worker.write
    monkeypatch.setattr(process.Worker, "write", lambda *given: (written.append(given[2].copy()), write(*given)))
    volume = ct()
    padded = Volume(np.where(np.arange(36) < 2, -3024, volume.array).astype(np.int16), volume.geometry)
    start().open(padded).segment([click(volume, 8, 12, 14)])
    assert (written[0].min(), written[0].max()) == (-1024, 400)


def test_a_run_is_named_after_the_weights_and_the_options(start):
    assert start().run == "stand-in-w"
    assert start(at="click").run == "stand-in-w-at=click"


def test_clicks_and_cts_that_cannot_be_used_are_refused(start):
    comparison, volume = start(), ct()
    with pytest.raises(ClickError, match="All clicks are negative"):
        comparison.open(volume).segment([click(volume, 5, 5, 5, positive=False)])
    with pytest.raises(VolumeError, match="nearly constant"):
        comparison.open(Volume(np.zeros(SHAPE, np.int16), volume.geometry))


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ("crash", r"Stand-in ended by itself \(Segmentation fault, said the system\); see to its environment\."),
        ("raise", r"Stand-in refuses: RuntimeError: CUDA out of memory\."),
        ("shape", r"Stand-in refuses: ValueError: the mask has the shape \(20, 30, 35\), the volume \(20, 30, 36\)\."),
        ("hang", r"Stand-in said nothing for 1 s and was ended; allow it more by --silence"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_the_next_ct_is_answered(start, trouble, sentence):
    volume = ct()
    comparison = start(silence_s=1.0 if trouble == "hang" else 20.0, at="mask", trouble=trouble)
    with pytest.raises(ComparisonError, match=sentence) as failed:
        comparison.open(volume).segment([click(volume, 8, 12, 14)])
    assert "\n" not in str(failed.value)
    comparison._settings = SystemSettings()  # now that its trouble is over
    comparison.close()
    assert comparison.open(volume).segment([click(volume, 8, 12, 14)]).mask.array.any()


def test_progress_is_not_silence_and_a_system_may_fork(start):
    volume = ct()
    opened = start(silence_s=1.0, at="mask", trouble="slow").open(volume)
    assert opened.segment([click(volume, 8, 12, 14)]).mask.array.any()


def test_a_cancel_ends_the_work_at_once_and_the_next_clicks_are_answered(start, tmp_path, monkeypatch):
    child = tmp_path / "child"
    monkeypatch.setenv("STAND_IN_CHILD", str(child))
    volume = ct()
    comparison = start(at="mask", trouble="hang")
    opened = comparison.open(volume)
    begun = time.monotonic()
    with pytest.raises(Cancelled):
        opened.segment([click(volume, 8, 12, 14)], SimpleNamespace(is_set=lambda: child.exists() and child.read_text()))
    assert time.monotonic() - begun < 15
    assert not comparison._worker.running
    wait_for(lambda: not alive(int(child.read_text())))
    comparison._settings = SystemSettings()
    assert opened.segment([click(volume, 8, 12, 14)]).mask.array.any()


KILLED = """
import os, sys
from training.evaluation.comparisons import process
from pathlib import Path
process._WORKERS = Path(sys.argv[1])
worker = process.Worker("Stand-in", "stand_in", sys.executable, 20)
options = {"at": "mask", "trouble": "hang"}
worker.ask("start", folder=str(worker.folder), weights="w", clone=None, device=None, options=options)
print(worker._process.pid, flush=True)
worker.ask("mask", structure=None)
"""


def test_a_killed_evaluation_leaves_no_worker_at_work(workers, tmp_path, monkeypatch):
    child = tmp_path / "child"
    monkeypatch.setenv("STAND_IN_CHILD", str(child))
    command = [sys.executable, "-c", KILLED, str(process._WORKERS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as evaluation:
        worker = int(evaluation.stdout.readline())
        wait_for(child.is_file)
        evaluation.kill()
    wait_for(lambda: not alive(worker))
    wait_for(lambda: not alive(int(child.read_text())))


def test_a_closed_worker_leaves_neither_a_process_nor_a_folder(start):
    comparison = start()
    worker = comparison._worker
    assert worker.folder.is_dir()
    comparison.close()
    assert not worker.folder.exists()
    assert not worker.running


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"weights": None}, r"Stand-in refuses: it needs a file of weights; give it by --weights\."),
        ({"window": "wide"}, r"Stand-in refuses: it has no option window; it has: mode, at, trouble, trust\."),
        ({"at": "start", "trouble": "crash"}, "Stand-in ended by itself"),
    ],
)
def test_a_system_that_does_not_start_says_why(start, arguments, sentence):
    with pytest.raises(ComparisonError, match=sentence):
        start(**arguments)


def test_a_python_that_is_not_there_or_lacks_a_package_is_named(workers):
    with pytest.raises(ComparisonError, match=r"no-python does not run \(No such file or directory\); give the Python"):
        Comparison(stand_in(), "w", SystemSettings(python="no-python"))
    lacking = System(**{**vars(SYSTEMS["sam"]), "module": "no_such_module"})
    with pytest.raises(ComparisonError, match=r"SAM ended by itself \(.*No module named workers.no_such_module\)"):
        Comparison(lacking, "w", SystemSettings())


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "blocks"
    folder.mkdir()
    volume = ct(TURNED)
    labels = np.digitize(volume.array, (100, 300)).astype(np.uint8)
    labels[:2, :6, :10] = 3
    entries = []
    for case in ("one", "two"):
        volume.write(folder / f"{case}.nii.gz")
        Volume(labels, volume.geometry).write(folder / f"{case}-labels.nii.gz")
        names = {"1": {"name": "kidney_right"}, "2": {"name": "liver"}, "3": {"name": "spleen"}}
        entries.append({"case": case, "ct": f"{case}.nii.gz", "label": f"{case}-labels.nii.gz", "labels": names})
    (folder / "dataset.json").write_text(json.dumps(entries))
    return folder


def run(dataset, output, method, *arguments):
    settings = ["--method", method, "--weights", "fresh", "--clicks", "1,3", *arguments]
    return CliRunner().invoke(app, [str(dataset), "--output", str(output), *settings])


@pytest.fixture(autouse=True)
def no_worker_is_kept():
    """Evaluation keeps a method for as long as its process lives."""
    yield
    loaded = evaluate._loaded
    loaded.cache_clear()


def test_a_count_of_clicks_counts_those_of_each_axial_slice_for_a_2d_system(workers, dataset, tmp_path):
    output = tmp_path / "results.csv"
    assert run(dataset, output, "stand-in-2d", "--option", "mode=slices", "--label", "liver").exit_code == 0
    lines = results.read(output)
    assert list(lines["n_clicks"]) == [1, 3] * 2
    assert set(lines["run"]) == {"stand-in-2d-fresh-mode=slices"}
    first, third = lines["dsc"][:2]
    assert 0.3 < first < third
    # The structure lies in 8 axial slices, which follow one another along the CT's second axis here.
    volume = ct(TURNED)
    opened = methods.MethodChoice("stand-in-2d", weights="w").load().open(volume)
    rounds = list(protocol.simulate_by_slice(opened, volume.array == 400, np.random.default_rng(0), 2))
    assert opened.slice_axis == 1
    assert [len(answer.clicks) for answer, _, _ in rounds] == [8, 16]
    voxels = np.rint([volume.geometry.to_ijk(one.position)[::-1] for one in rounds[0][0].clicks]).astype(int)
    assert sorted(voxels[:, 1]) == list(range(8, 16))


def test_an_automatic_system_is_asked_by_name_once_and_stands_at_every_count(workers, dataset, tmp_path, caplog):
    output = tmp_path / "results.csv"
    assert run(dataset, output, "stand-in-auto", "--option", "mode=automatic").exit_code == 0
    lines = results.read(output)
    assert set(lines["label"]) == {"liver", "kidney_right"}  # as the data set calls "Liver" and "Right Kidney"
    assert (lines.loc[lines["label"] == "liver", "dsc"] == 1).all()
    assert (lines["click_ijk"] == "").all()
    assert lines.groupby(["case", "label"])["dsc"].nunique().eq(1).all()
    assert "stand-in-auto-fresh-mode=automatic does not know: spleen" in caplog.text


def test_a_system_that_crashes_at_one_case_goes_on_with_the_next(workers, dataset, tmp_path):
    output = tmp_path / "results.csv"
    dense = ct(TURNED)
    Volume(np.where(dense.array == 400, 1500, dense.array), dense.geometry).write(dataset / "one.nii.gz")
    done = run(dataset, output, "stand-in", "--option", "at=volume", "--option", "trouble=crash at metal")
    assert done.exit_code == 1
    assert set(results.read(output)["case"]) == {"two"}
    with (tmp_path / "results-failures.csv").open() as file:
        (failure,) = csv.DictReader(file)
    assert failure["case"] == "one"
    assert failure["reason"].startswith("Stand-in ended by itself (Segmentation fault, said the system)")


def test_an_option_without_a_value_is_refused(workers, dataset, tmp_path):
    done = run(dataset, tmp_path / "results.csv", "stand-in", "--option", "mode")
    assert isinstance(done.exception, CTSAM3DError)
    assert '"mode" is not an option; write NAME=VALUE' in str(done.exception)


def test_a_worker_needs_nothing_of_ours(workers):
    """The workers' folder alone is on the path, and no worker imports what lies beside it."""
    for file in (Path(process.__file__).parent / "workers").glob("*.py"):
        imports = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if hasattr(node, "names")]
        modules = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
        modules |= {node.module for node in imports if isinstance(node, ast.ImportFrom) and not node.level}
        assert not {module.partition(".")[0] for module in modules} & {"CTSAM3DLib", "CTSAM3DServer", "training"}
    assert process._environment()["PYTHONPATH"] == str(process._WORKERS)
    assert os.path.isabs(SystemSettings(python="python3").python)
    assert SystemSettings().python == sys.executable


def test_the_documentation_has_the_systems_as_they_are():
    documentation = (Path(__file__).parents[2] / "docs" / "comparisons.md").read_text(encoding="utf-8")
    assert tables() in documentation
    assert all(
        (Path(process.__file__).parent / "workers" / f"{system.module}.py").is_file() for system in SYSTEMS.values()
    )


def test_each_published_system_is_one_that_can_be_run():
    table = pd.read_csv(Path(anatomy.__file__).with_name("published.csv"))
    ours = table["system"].str.startswith("CT-SAM3D")
    assert set(table.loc[~ours, "system"]) <= {system.title for system in SYSTEMS.values()}

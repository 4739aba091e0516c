"""Prepared data come back as they were, in a small file."""

import dataclasses

import numpy as np
import pytest

from CTSAM3DLib.errors import VolumeError
from Testing.training.learning_fixtures import WINDOW, prepared
from training.data.prepared import STEP_HU, Prepared, quantised


def test_what_is_written_comes_back(tmp_path):
    whole = dataclasses.replace(prepared(), kind_hu={"liver": (60.0, 12.0, 5.0)})
    whole.write(tmp_path / "data.npz")
    back = Prepared.read(tmp_path / "data.npz")
    assert (back.spacing, back.window, back.kind_hu) == (whole.spacing, whole.window, whole.kind_hu)
    for case, again in zip(whole.cases, back.cases, strict=True):
        for field in dataclasses.fields(case):
            np.testing.assert_equal(getattr(again, field.name), getattr(case, field.name))
            assert getattr(again.hu, "dtype", None) == np.int16


def test_files_that_travel_are_rounded_more(tmp_path):
    case = prepared().cases[0]
    rough = dataclasses.replace(case, hu=quantised(case.hu, WINDOW, 8))
    dataclasses.replace(prepared(), cases=(rough,), step_hu=8).write(tmp_path / "data.npz")
    np.testing.assert_array_equal(Prepared.read(tmp_path / "data.npz").cases[0].hu, rough.hu)


def test_the_same_data_are_the_same_file(tmp_path):
    for name in ("a", "b"):
        prepared().write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_hu_lose_less_than_a_step():
    hu = np.arange(-1100, 1000, dtype=np.int16)
    assert np.abs(quantised(hu, WINDOW) - np.clip(hu, *WINDOW)).max() <= STEP_HU / 2


def test_an_unknown_patient_to_leave_out_is_refused():
    assert [case.name for case in prepared().without(["first"]).cases] == ["second"]
    with pytest.raises(VolumeError, match="no patient frist"):
        prepared().without(["frist"])


def test_another_file_is_refused(tmp_path):
    (tmp_path / "data.npz").write_bytes(b"no archive")
    with pytest.raises(VolumeError, match="no prepared data set"):
        Prepared.read(tmp_path / "data.npz")
    with pytest.raises(VolumeError, match="no prepared data set"):
        Prepared.read(tmp_path / "absent.npz")
    np.savez(tmp_path / "other.npz", content=np.zeros(3))
    with pytest.raises(VolumeError, match="no prepared data set"):
        Prepared.read(tmp_path / "other.npz")


def test_held_out_patients_may_have_been_left_out_before():
    assert [case.name for case in prepared().without_any_of(["first", "absent"]).cases] == ["second"]

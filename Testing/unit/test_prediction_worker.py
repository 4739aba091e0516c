"""The background worker: the latest request wins, nobody waits, nothing stale comes out."""

import threading
import time

import numpy as np
import pytest

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import Cancelled, CTSAM3DError, VolumeError
from CTSAM3DLib.imaging.volume import Geometry, Volume
from CTSAM3DLib.interaction import prediction_worker as prediction
from CTSAM3DLib.interaction.prediction_worker import Answer, Failure, PredictionWorker, Preparation, Request
from Testing.support.gated_backend import GatedBackend

PATIENCE_S = 20


@pytest.fixture(scope="module")
def volume() -> Volume:
    array = np.zeros((70, 80, 90), np.int16)
    array[0] = -1000
    array[20:40, 20:40, 15:35] = 800
    array[20:40, 20:40, 55:75] = 800
    return Volume(array, Geometry(array.shape, (0, 0, 0), (1.5, 1.5, 1.5), (1, 0, 0, 0, 1, 0, 0, 0, 1)))


@pytest.fixture
def backend():
    return GatedBackend()


@pytest.fixture
def worker(backend):
    made = PredictionWorker(lambda: backend)
    yield made
    backend.gate.set()
    made.close()


def request(volume, target="liver", x=25, key="ct") -> Request:
    l, p, s = volume.geometry.to_lps((x, 30, 30))  # noqa: E741
    return Request(target, volume, key, (Click((l, p, s)),), "patch", volume.geometry)


def outcomes_until(worker, done) -> list[Answer | Failure]:
    """All outcomes up to the first for which `done` holds."""
    found, deadline = [], time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        worker.wait(0.5)
        found += worker.poll()
        if any(done(outcome) for outcome in found):
            return found
    raise AssertionError(f"nothing came but {found}")


def is_final(outcome) -> bool:
    return isinstance(outcome, Answer) and outcome.final


def wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_answer_lies_on_the_wanted_grid(worker, volume):
    asked = request(volume)
    worker.request(asked)
    *_, answer = outcomes_until(worker, is_final)
    mask = np.zeros(volume.geometry.shape, bool)
    mask[answer.box] = answer.mask > 0
    expected = volume.array > 200
    expected[..., 64:] = False  # the clicked patch ends there
    assert answer.request is asked
    assert np.array_equal(mask, expected)
    assert not worker.busy()


def test_asking_and_polling_never_wait_for_the_backend(backend, volume):
    loading = threading.Event()

    def load():
        loading.wait(PATIENCE_S)
        return backend

    worker = PredictionWorker(load)
    begun = time.perf_counter()
    worker.request(request(volume))
    assert worker.poll() == []
    assert worker.busy()
    worker.close()
    assert time.perf_counter() - begun < 1
    loading.set()


def test_rapid_clicks_cost_one_prediction(worker, backend, volume):
    backend.gate.clear()
    worker.request(request(volume, x=20))
    wait_for(lambda: backend.asked)
    for x in (21, 22, 23):
        worker.request(request(volume, x=x))
    last = request(volume, x=24)
    worker.request(last)
    wait_for(lambda: len(backend.asked) == 2)
    backend.gate.set()
    outcomes = outcomes_until(worker, is_final)
    assert backend.asked[1:] == [last.clicks]
    assert len(backend.cancelled) == 1
    assert all(outcome.request is last for outcome in outcomes)


def test_what_was_answered_but_not_taken_is_dropped_for_a_newer_request(worker, volume):
    worker.request(request(volume, x=20))
    wait_for(lambda: not worker._running and worker._outcomes)
    newer = request(volume, x=24)
    worker.request(newer)
    assert all(outcome.request is newer for outcome in outcomes_until(worker, is_final))


def test_different_targets_wait_for_one_another_and_are_all_answered(worker, volume):
    requests = [request(volume, target, x) for target, x in (("liver", 25), ("kidney", 60), ("spleen", 30))]
    for one in requests:
        worker.request(one)
    finals = []
    while len(finals) < 3:
        finals += [outcome for outcome in outcomes_until(worker, is_final) if is_final(outcome)]
    assert [final.request for final in finals] == requests


def test_a_cancelled_target_is_not_heard_of_again(worker, backend, volume):
    backend.gate.clear()
    worker.request(request(volume))
    wait_for(lambda: backend.asked)
    worker.cancel("liver")
    assert not worker.busy()
    wait_for(lambda: backend.cancelled)
    worker.request(request(volume, "kidney", 60))
    backend.gate.set()
    assert all(outcome.request.target == "kidney" for outcome in outcomes_until(worker, is_final))


def test_partial_answers_come_while_the_mask_grows(worker, backend, volume, monkeypatch):
    monkeypatch.setattr(prediction, "FIRST_PREVIEW_S", 0)
    backend.gate.clear()
    worker.request(request(volume))
    (partial,) = outcomes_until(worker, lambda outcome: True)
    assert not partial.final
    assert partial.mask.any()
    assert worker.busy()


def test_a_quick_answer_is_not_held_up_by_previews(worker, volume, monkeypatch):
    monkeypatch.setattr(prediction, "FIRST_PREVIEW_S", PATIENCE_S)
    worker.request(request(volume))
    assert [outcome.final for outcome in outcomes_until(worker, lambda outcome: True)] == [True]


def test_a_volume_is_opened_once_for_its_key(worker, backend, volume):
    for x, key in ((20, "ct"), (21, "ct"), (22, "other"), (23, "ct")):
        worker.request(request(volume, x=x, key=key))
        outcomes_until(worker, is_final)
    assert len(backend.opened) == 2


def test_only_the_last_volumes_stay_open(worker, backend, volume):
    for x, key in ((20, "first"), (21, "second"), (22, "third"), (23, "second"), (24, "first")):
        worker.request(request(volume, x=x, key=key))
        outcomes_until(worker, is_final)
    assert len(backend.opened) == 4


def test_a_failure_says_why_and_the_next_request_is_answered(worker, backend, volume):
    backend.error = CTSAM3DError("The server is asleep; wake it.")
    worker.request(request(volume))
    (*_, failure) = outcomes_until(worker, lambda outcome: isinstance(outcome, Failure))
    assert str(failure.error) == "The server is asleep; wake it."
    backend.error = None
    worker.request(request(volume))
    outcomes_until(worker, is_final)


def test_a_request_that_somebody_else_cancels_has_an_end(worker, backend, volume):
    backend.error = Cancelled("The server was stopped while it started.")
    worker.request(request(volume))
    (*_, failure) = outcomes_until(worker, lambda outcome: isinstance(outcome, Failure))
    assert failure.error is backend.error
    wait_for(lambda: not worker.busy())


def test_a_defect_ends_a_request_and_not_the_thread(worker, backend, volume, caplog):
    backend.error = ZeroDivisionError("a defect")
    worker.request(request(volume))
    (*_, failure) = outcomes_until(worker, lambda outcome: isinstance(outcome, Failure))
    assert "defect" in str(failure.error)
    assert "ZeroDivisionError" in caplog.text
    backend.error = None
    worker.request(request(volume))
    outcomes_until(worker, is_final)


def test_a_backend_that_cannot_be_loaded_is_tried_again(backend, volume):
    attempts = []

    def load():
        attempts.append(1)
        if len(attempts) == 1:
            raise CTSAM3DError("There is no server there; start it.")
        return backend

    worker = PredictionWorker(load)
    worker.request(request(volume))
    (failure,) = outcomes_until(worker, lambda outcome: isinstance(outcome, Failure))
    assert "no server" in str(failure.error)
    worker.request(request(volume))
    outcomes_until(worker, is_final)
    worker.close()


def test_closing_ends_the_thread_and_refuses_what_comes_later(worker, backend, volume):
    backend.gate.clear()
    worker.request(request(volume))
    wait_for(lambda: backend.asked)
    worker.close()
    worker.close()
    assert worker.poll() == []
    wait_for(lambda: not worker._thread.is_alive())
    with pytest.raises(CTSAM3DError, match="closed"):
        worker.request(request(volume))


@pytest.mark.parametrize("wrong", [VolumeError("not this one"), ZeroDivisionError()])
def test_a_volume_is_prepared_before_the_first_request_and_what_is_wrong_is_told_then(volume, wrong):
    opened = threading.Event()

    class Opens:
        def open(self, volume):
            opened.set()
            raise wrong

    worker = PredictionWorker(Opens)
    worker.prepare(Preparation(volume, "key"))
    assert opened.wait(PATIENCE_S)
    assert worker.poll() == []
    worker.request(Request("target", volume, "key", (Click((30.0, 40.0, 40.0)),), "patch", volume.geometry))
    assert worker.wait(PATIENCE_S)
    (failure,) = worker.poll()
    assert isinstance(failure, Failure)
    worker.close()

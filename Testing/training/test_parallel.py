"""Tasks in this process, in several, and on a cluster: the same results, and one failure harms no other task."""

import os

import pytest
import torch
from dask.distributed import LocalCluster

from CTSAM3DLib.errors import CTSAM3DError
from training.parallel import parallel_map

NUMBERS = [(number,) for number in range(4)]


def square(number):
    if number == 2:
        raise CTSAM3DError("Two is not squared; give another.")
    return number**2


def threads(_):
    return torch.get_num_threads(), os.getpid()


def die_at_two(number):
    if number == 2:
        os._exit(9)
    return number**2


def answers(**where):
    found = dict(parallel_map(square, NUMBERS, **where))
    assert str(found.pop((2,))) == "Two is not squared; give another."
    return found


def test_a_task_that_fails_is_told_and_the_rest_goes_on():
    assert answers() == {(0,): 0, (1,): 1, (3,): 9}


def test_a_cluster_gives_what_one_process_gives():
    with LocalCluster(
        1, threads_per_worker=1, memory_limit=0, dashboard_address=None, processes=False, protocol="tcp://"
    ) as cluster:
        assert answers(scheduler=cluster.scheduler_address) == answers()


def test_processes_share_the_cores_and_one_that_dies_takes_no_other_task_along():
    found = dict(parallel_map(die_at_two, NUMBERS, jobs=2))
    died = found.pop((2,))
    assert isinstance(died, CTSAM3DError)
    assert "process died" in str(died)
    assert found == {(0,): 0, (1,): 1, (3,): 9}
    counts, processes = zip(*dict(parallel_map(threads, NUMBERS[:2], jobs=2)).values(), strict=True)
    assert set(counts) == {max(1, (os.cpu_count() or 1) // 2)}
    assert os.getpid() not in processes


def test_a_defect_is_not_taken_for_a_failure():
    with pytest.raises(TypeError):
        list(parallel_map(square, [("no number",)]))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense"])
def test_a_cluster_that_does_not_answer_is_named(address, monkeypatch):
    monkeypatch.setattr("training.parallel.CONNECT_S", 1)
    with pytest.raises(CTSAM3DError, match=f"No Dask scheduler answers at {address}"):
        list(parallel_map(square, NUMBERS, scheduler=address))

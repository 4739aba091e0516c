"""Threads that share work by parts: each part once, answers in order, nothing shared out within, errors after all."""

import gc
import threading
import time
import weakref

import pytest
import torch

from CTSAM3DLib.execution.cpu.thread_team import MIN_SHARED, ThreadTeam


@pytest.fixture
def team():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield ThreadTeam()
    torch.set_num_threads(before)


def test_each_part_is_worked_on_once_and_answers_keep_their_order(team):
    taken = []

    def square(part, buffers):
        taken.append(part)
        return part * part

    assert team.run(lambda: team.map(square, range(100))) == [part * part for part in range(100)]
    assert sorted(taken) == list(range(100))


def test_threads_work_side_by_side_with_their_own_memory(team):
    together = threading.Barrier(3, timeout=30)

    def meet_all(part, buffers):
        memory = buffers.take("memory", 4)
        memory.fill_(part)
        together.wait()
        return memory.tolist()

    assert team.run(lambda: team.map(meet_all, range(3))) == [[part] * 4 for part in range(3)]


def test_operations_within_a_crew_are_not_shared_out(team):
    def threads(part, buffers):
        torch.randn(300, 300) @ torch.randn(300, 300)  # the first operation is when PyTorch asks for its threads
        return torch.get_num_threads()

    assert set(team.run(lambda: team.map(threads, range(12)))) == {1}
    assert torch.get_num_threads() == 3


def test_what_a_part_raises_comes_out_when_all_have_ended(team):
    everyone = threading.Barrier(3, timeout=30)
    ended = []

    def fail_once(part, buffers):
        everyone.wait()
        if part == 1:
            raise ValueError("part 1")
        time.sleep(0.2)
        ended.append(part)

    with pytest.raises(ValueError, match="part 1"):
        team.run(lambda: team.map(fail_once, range(3)))
    assert sorted(ended) == [0, 2]
    assert team.run(lambda: team.map(lambda part, _: part, [5])) == [5]


def test_helpers_begin_while_the_leader_does_something_else(team):
    helped = threading.Event()

    def square(part, buffers):
        helped.set()
        return part * part

    def work():
        finish = team.start(square, range(20))
        assert helped.wait(30)  # nobody but a helper can have set it
        return team.map(lambda part, _: -part, range(5)), finish()

    assert team.run(work) == ([-part for part in range(5)], [part * part for part in range(20)])


def test_nothing_that_was_begun_goes_on_after_an_error(team):
    begun, ended = threading.Event(), []

    def slow(part, buffers):
        begun.set()
        time.sleep(0.1)
        ended.append(part)

    def fail():
        team.start(slow, range(4))
        begun.wait(30)
        raise ValueError("in between")

    with pytest.raises(ValueError, match="in between"):
        team.run(fail)
    known = list(ended)
    time.sleep(0.3)
    assert known
    assert ended == known


def test_little_work_is_not_shared(team):
    assert team.parts_for(MIN_SHARED - 1) == 1
    assert team.parts_for(MIN_SHARED) == 3


def test_a_team_that_nobody_uses_is_freed_with_its_threads():
    others = set(threading.enumerate())
    gone = ThreadTeam()
    threads = {thread.ident for thread in threading.enumerate() if thread not in others}
    assert threads
    freed = weakref.ref(gone)
    del gone
    gc.collect()
    assert freed() is None
    end = time.monotonic() + 10
    while threads & {thread.ident for thread in threading.enumerate()} and time.monotonic() < end:
        time.sleep(0.01)
    assert not threads & {thread.ident for thread in threading.enumerate()}

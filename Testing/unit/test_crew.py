"""Threads that share work by parts: each part once, answers in order, nothing shared out within, errors after all."""

import threading
import time

import pytest
import torch

from CTSAM3DLib.model.crew import LEAST_SHARED, Crew


@pytest.fixture
def crew():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield Crew()
    torch.set_num_threads(before)


def test_each_part_is_worked_on_once_and_answers_keep_their_order(crew):
    taken = []

    def square(part, scratch):
        taken.append(part)
        return part * part

    assert crew.lead(lambda: crew.each(square, range(100))) == [part * part for part in range(100)]
    assert sorted(taken) == list(range(100))


def test_threads_work_side_by_side_with_their_own_memory(crew):
    together = threading.Barrier(3, timeout=30)

    def meet(part, scratch):
        memory = scratch.take("memory", 4)
        memory.fill_(part)
        together.wait()
        return memory.tolist()

    assert crew.lead(lambda: crew.each(meet, range(3))) == [[part] * 4 for part in range(3)]


def test_operations_within_a_crew_are_not_shared_out(crew):
    def threads(part, scratch):
        torch.randn(300, 300) @ torch.randn(300, 300)  # the first operation is when PyTorch asks for its threads
        return torch.get_num_threads()

    assert set(crew.lead(lambda: crew.each(threads, range(12)))) == {1}
    assert torch.get_num_threads() == 3


def test_what_a_part_raises_comes_out_when_all_have_ended(crew):
    everyone = threading.Barrier(3, timeout=30)
    ended = []

    def fail_once(part, scratch):
        everyone.wait()
        if part == 1:
            raise ValueError("part 1")
        time.sleep(0.2)
        ended.append(part)

    with pytest.raises(ValueError, match="part 1"):
        crew.lead(lambda: crew.each(fail_once, range(3)))
    assert sorted(ended) == [0, 2]
    assert crew.lead(lambda: crew.each(lambda part, _: part, [5])) == [5]


def test_helpers_begin_while_the_leader_does_something_else(crew):
    helped = threading.Event()

    def square(part, scratch):
        helped.set()
        return part * part

    def work():
        finish = crew.begin(square, range(20))
        assert helped.wait(30)  # nobody but a helper can have set it
        return crew.each(lambda part, _: -part, range(5)), finish()

    assert crew.lead(work) == ([-part for part in range(5)], [part * part for part in range(20)])


def test_nothing_that_was_begun_goes_on_after_an_error(crew):
    begun, ended = threading.Event(), []

    def slow(part, scratch):
        begun.set()
        time.sleep(0.1)
        ended.append(part)

    def fail():
        crew.begin(slow, range(4))
        begun.wait(30)
        raise ValueError("in between")

    with pytest.raises(ValueError, match="in between"):
        crew.lead(fail)
    known = list(ended)
    time.sleep(0.3)
    assert known
    assert ended == known


def test_little_work_is_not_shared(crew):
    assert crew.parts_for(LEAST_SHARED - 1) == 1
    assert crew.parts_for(LEAST_SHARED) == 3

"""Threads that each take a part of a volume through many operations, for processors.

PyTorch shares out every single operation, and its threads wait for one another after each. Operations of this network
last less than a millisecond, and waiting takes a fifth of a decode. A team's threads meet only where a part needs what
the others made of theirs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from CTSAM3DLib.execution.cpu.buffer_pool import BufferPool

Part = TypeVar("Part")
Answer = TypeVar("Answer")

MIN_SHARED = 2**17
"""Numbers to read or make from which on sharing saves more than it takes, about a tenth of a millisecond."""


class ThreadTeam:
    """As many threads as PyTorch uses: one that leads and works, and its helpers.

    Each has memory of its own for intermediates, and shares out none of its operations.
    """

    def __init__(self) -> None:
        self.size = torch.get_num_threads()
        self._own = threading.local()
        self._started: list[Future[None]] = []
        self._leader = ThreadPoolExecutor(1, "ctsam3d-team-leader", self._join)
        self._helpers = ThreadPoolExecutor(max(1, self.size - 1), "ctsam3d-team", self._join)
        everyone = threading.Barrier(self.size)
        joined = [self._helpers.submit(everyone.wait) for _ in range(self.size - 1)]
        joined.append(self._leader.submit(everyone.wait))
        wait(joined)
        # A thread that sets its own number of threads also sets that of threads that are yet to come.
        torch.set_num_threads(self.size)

    def run(self, work: Callable[[], Answer]) -> Answer:
        """Call `work` on the leading thread, where it may use `map` and `start`, and return its answer."""

        def led() -> Answer:
            try:
                with torch.inference_mode():
                    return work()
            finally:  # helpers must not go on with what was begun while the next work uses the same memory
                _end(self._started)
                self._started.clear()

        return self._leader.submit(led).result()

    def parts_for(self, numbers: int) -> int:
        """In how many parts to do work that reads or makes so many numbers."""
        return self.size if numbers >= MIN_SHARED else 1

    def map(self, work: Callable[[Part, BufferPool], Answer], parts: Sequence[Part]) -> list[Answer]:
        """Apply `work` to each part and return the answers in the order of the parts; to be called within `run`.

        Parts must not write to the same memory. A thread's buffers are used again for its next part. What a part raises
        is raised when all threads have ended.
        """
        return self._start(work, parts, min(self.size, len(parts)) - 1)()

    def start(self, work: Callable[[Part, BufferPool], Answer], parts: Sequence[Part]) -> Callable[[], list[Answer]]:
        """Let idle helpers start on the parts; calling the result finishes them and returns the answers, as `map` does.

        Call the result of an earlier start before that of a later one.
        """
        return self._start(work, parts, min(self.size - 1, len(parts)))

    def _start(
        self, work: Callable[[Part, BufferPool], Answer], parts: Sequence[Part], helpers: int
    ) -> Callable[[], list[Answer]]:
        answers: dict[int, Answer] = {}
        remaining = iter(enumerate(parts))  # `next` is a single step, so that no part is taken twice

        def take_parts() -> None:
            with torch.inference_mode():
                for index, part in remaining:
                    answers[index] = work(part, self._own.buffers)

        helping = [self._helpers.submit(take_parts) for _ in range(helpers)]
        self._started.extend(helping)

        def finish() -> list[Answer]:
            try:
                take_parts()
            finally:
                ended = _end(helping)
            for helper in ended:
                helper.result()
            return [answers[index] for index in range(len(parts))]

        return finish

    def _join(self) -> None:
        torch.get_num_threads()  # at first use PyTorch gives a thread the number of all, and would forget its own
        torch.set_num_threads(1)
        self._own.buffers = BufferPool()


def _end(helping: Sequence[Future[None]]) -> list[Future[None]]:
    """Cancel helpers that have not started, wait for the others, and return these."""
    begun = [helper for helper in helping if not helper.cancel()]
    wait(begun)
    return begun

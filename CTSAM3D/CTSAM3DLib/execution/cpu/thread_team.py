"""A team of threads, each of which takes a part of a volume through many operations.

PyTorch parallelises every single operation, and its threads wait for one another after each. Operations of this network
last less than a millisecond, and waiting takes a fifth of a decode. The threads of a team synchronise only where a part
needs the results of other parts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from CTSAM3DLib.execution.cpu.buffer_pool import BufferPool

Part = TypeVar("Part")
Output = TypeVar("Output")

MIN_SHARED = 2**17
"""Values read or written from which on sharing out saves more than its cost, about a tenth of a millisecond."""


class ThreadTeam:
    """As many threads as PyTorch uses: a leader, which also works, and helpers.

    Each thread has its own buffers and runs its operations without PyTorch's parallelism.
    """

    def __init__(self) -> None:
        self.size = torch.get_num_threads()
        self._own = threading.local()
        self._started: list[Future[None]] = []
        self._leader = ThreadPoolExecutor(1, "ctsam3d-team-leader", _join, (self._own,))
        self._helpers = ThreadPoolExecutor(max(1, self.size - 1), "ctsam3d-team", _join, (self._own,))
        everyone = threading.Barrier(self.size)
        joined = [self._helpers.submit(everyone.wait) for _ in range(self.size - 1)]
        joined.append(self._leader.submit(everyone.wait))
        wait(joined)
        # `_join` has set PyTorch's number for threads created later too; restore it.
        torch.set_num_threads(self.size)

    def run(self, work: Callable[[], Output]) -> Output:
        """Call `work` on the leader, where it may use `map` and `start`, and return its result."""

        def led() -> Output:
            try:
                with torch.inference_mode():
                    return work()
            finally:  # no helper may still work on these parts when the next work reuses their memory
                _end(self._started)
                self._started.clear()

        return self._leader.submit(led).result()

    def parts_for(self, numbers: int) -> int:
        """Number of parts for work that reads or writes this many values."""
        return self.size if numbers >= MIN_SHARED else 1

    def map(self, work: Callable[[Part, BufferPool], Output], parts: Sequence[Part]) -> list[Output]:
        """Apply `work` to each part and return the results in the order of the parts. Call within `run`.

        Parts must not write to the same memory. A thread reuses its buffers for its next part. An exception of a part
        is raised when all threads have ended.
        """
        return self._start(work, parts, min(self.size, len(parts)) - 1)()

    def start(self, work: Callable[[Part, BufferPool], Output], parts: Sequence[Part]) -> Callable[[], list[Output]]:
        """Let idle helpers start on the parts; calling the returned function finishes them and returns as `map` does.

        Wait for this batch before waiting for any batch started after it.
        """
        return self._start(work, parts, min(self.size - 1, len(parts)))

    def _start(
        self, work: Callable[[Part, BufferPool], Output], parts: Sequence[Part], helpers: int
    ) -> Callable[[], list[Output]]:
        outputs: dict[int, Output] = {}
        remaining = iter(enumerate(parts))  # `next` is a single step, so that no part is taken twice

        def take_parts() -> None:
            with torch.inference_mode():
                for index, part in remaining:
                    outputs[index] = work(part, self._own.buffers)

        helping = [self._helpers.submit(take_parts) for _ in range(helpers)]
        self._started.extend(helping)

        def finish() -> list[Output]:
            try:
                take_parts()
            finally:
                ended = _end(helping)
            for helper in ended:
                helper.result()
            return [outputs[index] for index in range(len(parts))]

        return finish


def _end(helping: Sequence[Future[None]]) -> list[Future[None]]:
    """Cancel helpers that have not started, wait for the rest, and return the ones waited for."""
    started = [helper for helper in helping if not helper.cancel()]
    wait(started)
    return started


def _join(own: threading.local) -> None:
    """Prepare a thread of a team. It holds no reference to the team, so that an unused team is freed."""
    torch.get_num_threads()  # at first use PyTorch sets the default number, so set 1 only after it
    torch.set_num_threads(1)
    own.buffers = BufferPool()

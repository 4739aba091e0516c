"""Parallel map over tasks: in this process, in several processes, or on a Dask cluster.

A cluster's workers need this version of the project, and the files of the tasks at the same paths.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import dask
import SimpleITK as sitk
import torch
from dask.distributed import Client, KilledWorker, LocalCluster, Worker, WorkerPlugin, as_completed

from CTSAM3DLib.errors import CTSAM3DError

Task = TypeVar("Task", bound=tuple[Any, ...])
Result = TypeVar("Result")

CONNECT_S = 15
"""Seconds. Timeout of the connection to a cluster's scheduler."""


def parallel_map(
    function: Callable[..., Result], tasks: Sequence[Task], jobs: int = 1, scheduler: str | None = None
) -> Iterator[tuple[Task, Result | CTSAM3DError]]:
    """Yield every task with the result of `function(*task)`, in the order of completion.

    A task that raises a CTSAM3DError, or whose process dies repeatedly, yields the error, and the other tasks continue.
    Any other exception is a bug and ends the whole map.

    Args:
        function: called with the elements of a task.
        tasks: tuples of arguments.
        jobs: processes to start, each with its share of the cores; 1 works in this process.
        scheduler: address of a running cluster, such as tcp://host:8786, in place of processes of our own.

    Raises:
        CTSAM3DError: no cluster answers at `scheduler`.

    """
    if scheduler is None and min(jobs, len(tasks)) <= 1:
        for task in tasks:
            yield task, _attempt(function, task)
        return
    with _client(min(jobs, len(tasks)), scheduler) as client:
        futures = {client.submit(_attempt, function, task, pure=False): task for task in tasks}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except KilledWorker:
                died = CTSAM3DError("Its process died again and again; give each more memory, or start fewer jobs.")
                yield futures[future], died


def _attempt(function: Callable[..., Result], task: tuple[Any, ...]) -> Result | CTSAM3DError:
    try:
        return function(*task)
    except CTSAM3DError as error:
        return error


@contextmanager
def local_cluster(jobs: int) -> Iterator[str]:
    """Start processes that share the cores; yields their scheduler's address, for several calls of `parallel_map`."""
    # One task at a time for each process, or waiting tasks would die with a process.
    with (
        dask.config.set({"distributed.scheduler.worker-saturation": 1.0}),
        LocalCluster(
            jobs, threads_per_worker=1, memory_limit=0, dashboard_address=None, silence_logs=logging.ERROR
        ) as cluster,
    ):
        with Client(cluster) as client:
            client.register_plugin(_SharedCores(max(1, (os.cpu_count() or 1) // jobs)))
        yield cluster.scheduler_address


@contextmanager
def _client(jobs: int, scheduler: str | None) -> Iterator[Client]:
    """A client of the cluster at an address, or of a local cluster that ends with the block."""
    with nullcontext(scheduler) if scheduler is not None else local_cluster(jobs) as address:
        try:
            client = Client(address, timeout=CONNECT_S)
        except (OSError, ValueError) as error:  # a time-out is an OSError, a wrong address a ValueError
            raise CTSAM3DError(f"No Dask scheduler answers at {address}; start one by: dask scheduler.") from error
        with client:
            yield client


class _SharedCores(WorkerPlugin):
    """Limits the threads of each process to its share of the cores."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def setup(self, worker: Worker) -> None:
        torch.set_num_threads(self._threads)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(self._threads)

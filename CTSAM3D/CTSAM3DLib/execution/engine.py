"""The engine: one trained model on a device, executed by one thread.

`policy.py` states how the network is executed and how far the result may differ from plain execution. One thread does
all the work, because convolution plans are cached per thread and two threads would not share a device fairly. Batches
shrink when memory runs out. Inputs and outputs are numpy arrays (z, y, x); only the features that `encode` returns for
`decode` stay on the device.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from CTSAM3DLib.checkpoints.checkpoint import TrainedModel
from CTSAM3DLib.errors import MemoryForecastError, ModelError
from CTSAM3DLib.execution.cuda_graphs import FastOnCuda
from CTSAM3DLib.execution.memory import memory_forecast
from CTSAM3DLib.execution.policy import TOLERANCE, Execution, Prefetching, fast_on_cpu
from CTSAM3DLib.imaging.constants import PATCH
from CTSAM3DLib.model import CTSAM3D

logger = logging.getLogger(__name__)

Features = list[torch.Tensor]
Item = TypeVar("Item")
Output = TypeVar("Output")

GPU_BATCH = 8
"""Patches in a batch on CUDA."""
WARM_UP_BATCHES = 4
"""Largest batch that is warmed up at the start; growth decodes up to as many patches at once."""
PLAIN_VARIABLE = "CTSAM3D_PLAIN"
"""Environment variable; 1 makes every engine execute its network plainly."""
PREFETCH_DELAY_S = 0.3
"""Seconds without a request before a prefetch starts; until then the mask of the last request is made and shown."""


class Engine:
    """Encodes patches, decodes prompts and predicts cross-patch prompts with one trained model.

    Args:
        model: the trained model.
        device: "cpu", "cuda", "cuda:1", ...; by default CUDA where there is one.
        plain: execute the network plainly, as the environment variable CTSAM3D_PLAIN=1 does.

    Raises:
        ModelError: the device does not exist.
        MemoryForecastError: the model would not fit into memory.

    """

    def __init__(self, model: TrainedModel, device: str | None = None, plain: bool = False) -> None:
        self.model = model
        self._plain = plain or os.environ.get(PLAIN_VARIABLE) == "1"
        self._layout = torch.contiguous_format if self._plain else torch.channels_last_3d
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ctsam3d-engine")
        self._order = threading.Lock()
        self._requested = threading.Event()  # set by the first request after a prefetch was submitted
        self._run(lambda: self._start(device))
        # Runs while the caller reads the CT.
        self._thread.submit(self._warm_up)
        self.prefetch(lambda: np.zeros((3, *(PATCH,) * 3), np.float32))

    @property
    def device(self) -> str:
        """The device of the network now; an out-of-memory error can have moved it to the CPU."""
        return str(self._device)

    @property
    def precision(self) -> str:
        """`float32` or `bfloat16`."""
        return str(self._precision).removeprefix("torch.")

    @property
    def execution(self) -> str:
        """Device, precision and kind of execution, as results record it: `cpu float32 fast`, `cuda bfloat16 plain`."""
        kind = "plain" if self._network is self.model.network else "fast"
        return f"{self._device.type} {self.precision} {kind}"

    def encode(self, patch: NDArray[np.int16]) -> Features:
        """Encode one patch (64, 64, 64), HU, to the encoder's levels.

        One patch at a time, so that cached features equal recomputed ones to the bit.
        """
        return self._run(lambda: self._in_batches(self._encode, [patch])[0])

    def decode(
        self, features: Sequence[Features], prompts: Sequence[NDArray[np.float32]]
    ) -> list[tuple[NDArray[np.uint8], float]]:
        """Decode patches with prompts.

        Args:
            features: levels of each patch, as `encode` returns them.
            prompts: [previous mask, positive clicks, negative clicks] of each patch, float32 0..1, (3, 64, 64, 64).

        Returns:
            For each patch its probabilities, uint8 0..255 (64, 64, 64), and its quality, the network's estimate of the
            Dice of the mask, 0..1. Probabilities are rounded here, so that masks are the same wherever they are made.

        """
        return self._run(lambda: self._in_batches(self._decode, list(zip(features, prompts, strict=True))))

    def predict_prompts(
        self,
        patches: Sequence[NDArray[np.int16]],
        masks: Sequence[NDArray[np.uint8]],
        neighbours: Sequence[NDArray[np.int16]],
    ) -> list[NDArray[np.float32]]:
        """Predict cross-patch prompts.

        Args:
            patches: segmented patches, HU (64, 64, 64).
            masks: their probabilities, uint8 0..255 (64, 64, 64).
            neighbours: the neighbouring patches, HU (64, 64, 64).

        Returns:
            For each neighbour a heat map, float32 (64, 64, 64), of where the masked structure continues in it.

        """
        return self._run(
            lambda: self._in_batches(self._predict_prompts, list(zip(patches, masks, neighbours, strict=True)))
        )

    def prefetch(self, prompts: Callable[[], NDArray[np.float32]]) -> None:
        """Prefetch for prompts (3, 64, 64, 64) that differ from the current ones by about one click. Non-blocking.

        The work starts after `PREFETCH_DELAY_S` without a request and ends at the next request or prefetch. It changes
        no result.
        """
        if isinstance(self._network, Prefetching) and self._network.supports_prefetch:
            with self._order:
                self._requested.set()
                self._requested = threading.Event()
                self._thread.submit(self._prefetch, self._network, prompts, self._requested)

    def close(self) -> None:
        """End the thread; the engine cannot be used afterwards."""
        self._requested.set()
        self._thread.shutdown()

    def _run(self, work: Callable[[], Output]) -> Output:
        with self._order:
            self._requested.set()
            future = self._thread.submit(work)
        return future.result()

    # The methods below run on the engine's own thread.

    def _start(self, device: str | None) -> None:
        self._device = _chosen_device(device)
        self._precision = torch.float32
        self._batch = GPU_BATCH if self._device.type == "cuda" else 1
        self._check_memory()
        self._move_to(self._device)

    def _check_memory(self) -> None:
        needed = memory_forecast(self.model, self._batch)
        on_gpu = self._device.type == "cuda"
        free = torch.cuda.mem_get_info(self._device)[0] if on_gpu else psutil.virtual_memory().available
        if needed > free:
            raise MemoryForecastError(
                f"The model {self.model.info.name} needs about {needed / 2**30:.1f} GiB of memory on {self._device}, "
                f"and {free / 2**30:.1f} GiB are free; close other programs or choose a smaller model."
            )

    def _move_to(self, device: torch.device) -> None:
        """Choose the execution on a device: the fast one where it passes the check against plain execution."""
        self._device = device
        network = self.model.network.to(device)
        self._network: Execution = network.to(memory_format=self._layout)  # type: ignore[call-overload]
        self._precision = torch.float32
        if self._plain or not isinstance(network, CTSAM3D):
            return
        expected = self._trial()
        if device.type == "cuda":
            self._network = FastOnCuda(network)
            self._precision = torch.bfloat16 if _computes_in_bfloat16(device) else torch.float32
        elif torch.backends.mkldnn.is_available():
            self._network = fast_on_cpu(network) or network
        difference = float(np.mean((self._trial() > 127) != (expected > 127)))
        if difference > TOLERANCE[self.precision]:
            logger.warning("%s changes %.2f %% of a mask; using plain execution.", self.execution, 100 * difference)
            self._network, self._precision = network, torch.float32

    def _trial(self, batch: int = 1) -> NDArray[np.uint8]:
        """Probabilities (64, 64, 64), 0..255, of a random patch, decoded in a batch of equal patches."""
        rng = np.random.default_rng(0)
        patch = rng.normal(0, 200, (PATCH,) * 3).astype(np.int16)
        prompts = rng.random((3, *(PATCH,) * 3), np.float32)
        prompts[:, :32] = 0  # in much of a real patch the prompt maps are 0
        (features,) = self._in_batches(self._encode, [patch])
        return self._in_batches(self._decode, [(features, prompts)] * batch)[0][0]

    def _warm_up(self) -> None:
        """Capture CUDA graphs for the larger batches of growth."""
        if isinstance(self._network, FastOnCuda):
            for batch in range(2, WARM_UP_BATCHES + 1):
                self._trial(batch)

    def _prefetch(
        self, network: Prefetching, prompts: Callable[[], NDArray[np.float32]], requested: threading.Event
    ) -> None:
        if not requested.wait(PREFETCH_DELAY_S):
            expected = torch.from_numpy(prompts())[None]  # (1, 3, 64, 64, 64)
            self._on_device(lambda: network.prefetch(expected, requested.is_set))

    def _on_device(self, work: Callable[[], Output]) -> Output:
        with (
            torch.inference_mode(),
            # No cache of weights cast to bfloat16: a captured graph would read memory that the cache has freed.
            torch.autocast(
                self._device.type, torch.bfloat16, enabled=self._precision == torch.bfloat16, cache_enabled=False
            ),
        ):
            return work()

    def _in_batches(self, work: Callable[[list[Item]], list[Output]], items: list[Item]) -> list[Output]:
        """Process items in batches. When memory runs out, halve the batch, and at last move to the CPU."""
        outputs: list[Output] = []
        while len(outputs) < len(items):
            batch = items[len(outputs) : len(outputs) + self._batch]
            try:
                outputs += self._on_device(partial(work, batch))
            except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                self._use_less_memory(error)
        return outputs

    def _use_less_memory(self, error: BaseException) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if self._batch > 1:
            self._batch //= 2
            logger.warning("Out of memory; going on with %d patches at a time.", self._batch)
        elif self._device.type != "cpu":
            self._move_to(torch.device("cpu"))
            logger.warning("Out of memory on the GPU; going on with the CPU.")
        else:
            raise MemoryForecastError(
                "There is not enough memory to segment one patch; close other programs or choose a smaller model."
            ) from error

    def _images(self, patches: Sequence[NDArray[np.int16]]) -> torch.Tensor:
        low, high = self.model.info.window
        hu = torch.from_numpy(np.stack(patches)[:, None]).to(self._device, torch.float32)
        return ((hu.clamp(low, high) - low) / (high - low)).contiguous(memory_format=self._layout)

    def _encode(self, batch: list[NDArray[np.int16]]) -> list[Features]:
        return [self._network.encode(self._images([patch])) for patch in batch]

    def _decode(self, batch: list[tuple[Features, NDArray[np.float32]]]) -> list[tuple[NDArray[np.uint8], float]]:
        by_level = zip(*(features for features, _ in batch), strict=True)
        levels = [_batched([level.to(self._device) for level in same]) for same in by_level]
        prompts = _batched([torch.from_numpy(prompts)[None] for _, prompts in batch]).to(self._device)
        if self._device.type == "cuda":  # the fast decoder on a CPU reads prompts map by map
            prompts = prompts.contiguous(memory_format=self._layout)
        probability, quality = self._network.decode(levels, prompts)
        rounded = probability[:, 0].float().mul(255).round_().to(torch.uint8).cpu().numpy()
        return list(zip(rounded, quality.float().clamp(0, 1).tolist(), strict=True))

    def _predict_prompts(
        self, batch: list[tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.int16]]]
    ) -> list[NDArray[np.float32]]:
        patches, masks, neighbours = zip(*batch, strict=True)
        mask = torch.from_numpy(np.stack(masks)[:, None]).to(self._device, torch.float32) / 255
        heat_maps = self._network.predict_prompts(self._images(patches), mask, self._images(neighbours))
        return list(heat_maps[:, 0].float().cpu().numpy())


def _batched(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Tensors (1, ...) as a batch; a single tensor is not copied, which would take a hundredth of a small decode."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _chosen_device(name: str | None) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"'{name}' is not a device; use cpu, cuda or cuda:1.") from error
    if device.type not in ("cpu", "cuda"):
        raise ModelError(f"CT-SAM3D runs on cpu or cuda, not on '{name}'.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"There is no CUDA device '{name}' here ({torch.cuda.device_count()} found); use --device cpu."
        )
    return device


def _computes_in_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; PyTorch raises a plain RuntimeError when the CPU's allocator fails."""
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or "not enough memory" in str(error)

"""Estimate the memory of a network before it is moved to a device."""

from __future__ import annotations

from CTSAM3DLib.checkpoints.checkpoint import TrainedModel
from CTSAM3DLib.execution.policy import fast_cpu_cached_numbers
from CTSAM3DLib.imaging.constants import PATCH

CONVOLUTION_WORKSPACE = 64 * 2**20
"""Bytes of workspace that convolutions allocate, whatever the widths."""
SAFETY = 1.2


def memory_forecast(model: TrainedModel, batch: int) -> int:
    """Bytes of the weights and of one batch of patches, estimated from the widths of the decoder's grids."""
    config = model.network.config
    weights = sum(parameter.numel() for parameter in model.network.parameters()) + fast_cpu_cached_numbers(config)
    voxels_times_channels = PATCH**3 * (3 * config.upscaled_widths[-1] + 8)
    for side, width, hidden in zip((2, 4, 8, 16, 32), config.block_widths, config.prompt_widths, strict=True):
        voxels_times_channels += side**3 * (6 * width + 2 * hidden)
    return int(SAFETY * (4 * (weights + batch * voxels_times_channels) + CONVOLUTION_WORKSPACE))

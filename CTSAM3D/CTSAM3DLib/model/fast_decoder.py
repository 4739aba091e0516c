"""The prompt decoder as a processor runs it fastest: the numbers of `decoder.PromptDecoder` but for rounding.

Blocks take the form of `fast_block.py`. What follows the last of them goes piece by piece through the processor's
caches, and of the head's two channels only the one that is used is computed. Nothing is approximated.

Volumes are (z, y, x, channel), contiguous float32 on the CPU, one patch at a time.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from CTSAM3DLib.model.decoder import PromptBlock, PromptDecoder, Upscale
from CTSAM3DLib.model.fast_block import fast_block
from CTSAM3DLib.model.tiles import Scratch, features_of, inside, volumes_of

UPSCALED = 4096
"""Voxels that are upscaled at a time."""


class FastDecoder(PromptDecoder):
    """A trained `PromptDecoder` with its blocks, upscalings and head in their fast form where they gain by it."""

    def __init__(self, plain: PromptDecoder) -> None:
        nn.Module.__init__(self)
        self.__dict__.update({name: value for name, value in plain.__dict__.items() if not name.startswith("_")})
        scratch = Scratch()
        self.blocks = nn.ModuleList(
            fast_block(cast(PromptBlock, block), 2 << index, scratch) for index, block in enumerate(plain.blocks)
        )
        upscales = [FastUpscale(cast(Upscale, upscale), scratch) for upscale in plain.upscales]
        self.upscales = nn.ModuleList(upscales)
        self.quality_head = plain.quality_head
        if self.fine:
            self.fine_head = plain.fine_head
        else:
            self._head = FastHead(upscales[-1], plain.mask_head, scratch)

    def _read_off(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits, means = zip(*map(self._head, volumes_of(x)), strict=True)
        return torch.stack(logits)[:, None], self._quality(torch.stack(means))


class FastUpscale(nn.Module):
    """An `Upscale`: every voxel becomes eight by one matrix, then layer norm and GELU."""

    def __init__(self, upscale: Upscale, scratch: Scratch) -> None:
        super().__init__()
        convolution, norm = upscale[0], upscale[1]
        assert isinstance(convolution, nn.ConvTranspose3d)
        assert isinstance(norm, nn.LayerNorm)
        assert convolution.bias is not None
        self._norm = norm
        self.width = convolution.out_channels
        # (channel, new channel, z, y, x) to (channel, z, y, x and new channel)
        self._matrix = convolution.weight.detach().permute(0, 2, 3, 4, 1).flatten(1).contiguous()
        self._bias = convolution.bias.detach().repeat(8)
        self._scratch = scratch

    def forward(self, x: Tensor) -> Tensor:
        return features_of([self._of_one(volume) for volume in volumes_of(x)])

    def _of_one(self, x: Tensor) -> Tensor:
        side = len(x)
        out = torch.empty(side, 2, side, 2, side, 2, self.width)
        for planes in in_planes(side):
            out[planes].copy_(self.of_planes(x[planes]).permute(0, 3, 1, 4, 2, 5, 6))
        return out.view(2 * side, 2 * side, 2 * side, self.width)

    def of_planes(self, x: Tensor) -> Tensor:
        """Planes of voxels (z, y, x, channel) to their eighths (z, y, x, 2, 2, 2, new channel)."""
        rows = x.reshape(-1, x.shape[-1])
        upscaled = self._scratch.take("upscaled", len(rows), self._matrix.shape[1])
        torch.addmm(self._bias, rows, self._matrix, out=upscaled)
        norm = self._norm
        normed = F.layer_norm(upscaled.view(-1, self.width), (self.width,), norm.weight, norm.bias, norm.eps)
        return F.gelu(normed).view(*x.shape[:3], 2, 2, 2, self.width)


class FastHead:
    """The last upscaling, the mask's channel of the head, and the mean that the quality is read from."""

    def __init__(self, upscale: FastUpscale, head: nn.Conv3d, scratch: Scratch) -> None:
        self._upscale = upscale
        self._taps = head.weight.detach()[0].flatten(1).T.contiguous()
        self._bias = 0.0 if head.bias is None else head.bias.detach()[0].item()
        self._scratch = scratch

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features at 32³ to mask logits (64, 64, 64) and the mean of each channel at 64³."""
        fine = 2 * len(x)
        logits = torch.full((fine + 2,) * 3, self._bias)
        total = torch.zeros(1, self._upscale.width)
        for planes in in_planes(len(x)):
            eighths = self._upscale.of_planes(x[planes])
            voxels = eighths.flatten(0, -2)
            total += torch.ones(1, len(voxels)) @ voxels
            shares = torch.mm(self._taps, voxels.T, out=self._scratch.take("shares", 27, len(voxels)))
            shares = shares.view(27, *eighths.shape[:-1]).permute(0, 1, 4, 2, 5, 3, 6).reshape(27, -1, fine, fine)
            for tap, share in enumerate(shares):
                # What each voxel gives to the neighbour that sees it through this tap.
                dz, dy, dx = 2 - tap // 9, 2 - tap // 3 % 3, 2 - tap % 3
                z = 2 * planes.start + dz
                logits[z : z + len(share), dy : dy + fine, dx : dx + fine] += share
        return inside(logits), total[0] / fine**3


def in_planes(side: int) -> list[slice]:
    """A volume's planes, as many at a time as make about `UPSCALED` voxels."""
    step = max(1, UPSCALED // side**2)
    return [slice(first, min(first + step, side)) for first in range(0, side, step)]

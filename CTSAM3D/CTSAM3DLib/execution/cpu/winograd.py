"""Winograd convolution with a 3³ kernel: the result of a direct convolution with an eighth of the multiplications.

A direct convolution multiplies 27 times for each voxel and pair of channels. Winograd's algorithm (Lavin and Gray,
CVPR 2016) needs 6³ multiplications for a tile of 4³ voxels, or 4³ for a tile of 2³, between transforms that cost little
where there are many channels. Results differ from the direct convolution by rounding in float32 alone, and `POINTS`
keep the rounding error nearly as small (`Testing/unit/test_winograd.py`).

Volumes are (z, y, x, channel), tiles (z, y, x, tile, channel), contiguous float32 on the CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from CTSAM3DLib.execution.cpu.buffer_pool import BufferPool
from CTSAM3DLib.execution.cpu.tiles import TileGrid

POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 2 / 3, -2 / 3, 4 / 3, -4 / 3)}
"""Interpolation points besides infinity, by the side of a tile. The usual 0, ±1, ±2 would make the error of tiles of
4³ three times as large on average."""


def transforms(side: int) -> tuple[Tensor, Tensor, Tensor]:
    """The transforms of input, weights and output in one dimension, float64.

    `to_output @ ((of_weights @ g) * (of_input @ d))` are the `side` values of the line d convolved with g. The matrices
    follow from Toom-Cook multiplication of polynomials by transposition.
    """
    powers = torch.tensor([[p**k for k in range(side + 2)] for p in POINTS[side]], dtype=torch.float64)
    at_infinity = torch.eye(side + 2, dtype=torch.float64)[-1:]
    of_input = torch.linalg.inv(torch.cat([powers, at_infinity])).T
    of_weights = torch.cat([powers[:, :3], at_infinity[:, -3:]])
    to_output = torch.cat([powers[:, :side], at_infinity[:, -side:]]).T
    scale = of_weights.abs().sum(dim=1, keepdim=True)  # products of similar size have similar rounding errors
    return of_input * scale, of_weights / scale, to_output


class WinogradConv:
    """A convolution with weights (new channels, channels, 3, 3, 3) on the tiles of a grid.

    The transformed weights take (side of a tile + 2)³ / 27 times the memory.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, grid: TileGrid) -> None:
        self._grid = grid
        self.new_channels, self.channels = weight.shape[:2]
        self._bias = None if bias is None else bias.detach()
        of_input, of_weights, to_output = transforms(grid.tile)
        # Along y and x at once: one pass over memory costs more than the additional sums.
        self._of_input = of_input.float(), torch.kron(of_input, of_input).float()
        self._to_output = to_output.float(), torch.kron(to_output, to_output).float()
        cubed = torch.kron(torch.kron(of_weights, of_weights), of_weights).float()
        taps = weight.detach().permute(2, 3, 4, 1, 0).reshape(27, -1)
        self._weights = (cubed @ taps).view(-1, self.channels, self.new_channels)

    def planes(self, slabs: Tensor, out: Tensor) -> Tensor:
        """Transform slabs of layers (layer, z, (y, x, channel)) along z, into `out`.

        Before tiles are cut out, since tiles overlap along y and x and each plane is then transformed once.
        """
        return _along_rows(self._of_input[0], slabs, out)

    def __call__(self, planes: Tensor, numbers: Tensor, buffers: BufferPool) -> Tensor:
        """Tiles (z, y, x, tile, new channel) of the convolution of the padded volume with these transformed planes.

        `numbers` of tiles count from the first layer of the planes. The rounding of a tile depends on the number of
        tiles and on its place among them. The result lies in memory of `buffers`, valid until the next call with them.
        """
        n, side, taps, take = len(numbers), self._grid.tile, self._grid.tile + 2, buffers.take
        around = take("around", taps**3 * n, self.channels)
        voxels = self._grid.voxels(numbers).flatten()
        torch.index_select(planes.view(-1, self.channels), 0, voxels, out=around)
        shape = taps, taps**2, n * self.channels
        values = _along_rows(self._of_input[1], around.view(shape), take("values", *shape))
        products = take("products", taps**3, n, self.new_channels)
        torch.bmm(values.view(-1, n, self.channels), self._weights, out=products)
        size = n * self.new_channels
        lines = _along_rows(self._to_output[1], products.view(taps, taps**2, size), take("lines", taps, side**2, size))
        tiles = take("tiles", side, side, side, n, self.new_channels)
        _along_rows(self._to_output[0], lines.view(1, taps, -1), tiles.view(1, side, -1))
        return tiles if self._bias is None else tiles.add_(self._bias)


def _along_rows(matrix: Tensor, x: Tensor, out: Tensor) -> Tensor:
    """The product of a matrix with each matrix of a batch, written to `out`."""
    return torch.bmm(matrix.expand(len(x), *matrix.shape), x, out=out)

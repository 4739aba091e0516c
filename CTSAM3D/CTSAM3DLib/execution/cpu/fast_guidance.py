"""Prompt maps with what the CT says of them, as a processor computes it fastest: the numbers of `guidance.py`.

The maps are made side by side, and only those of prompts that are there: an empty one is like and near nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from CTSAM3DLib.execution.cpu.thread_team import ThreadTeam
from CTSAM3DLib.model.layers import stacked
from CTSAM3DLib.model.small.guidance import kinship, nearness, of_one_structure, similarity
from CTSAM3DLib.model.small.guided_decoder import guided, pooled


def guided_maps(
    image: Tensor, embedding: Tensor | None, prompts: Tensor, semantic_width: int, team: ThreadTeam
) -> tuple[list[Tensor], Tensor]:
    """The maps of each grid, 2³ to 32³, that a `GuidedDecoder` gives its blocks, and the similarity at 64³.

    To be called within `team.run`.
    """
    there = prompts.flatten(2).amax(dim=(0, 2)).nonzero()[:, 0]
    if not len(there):
        there = torch.arange(prompts.shape[1])
    given = prompts if len(there) == prompts.shape[1] else prompts[:, there]

    def of_all(maps: Tensor) -> Tensor:
        """Maps (b, kinds * given prompts, ...) with zeros for the prompts that are not there."""
        kinds = maps.shape[1] // len(there)
        spread = torch.zeros(len(maps), kinds, prompts.shape[1], *maps.shape[2:])
        spread[:, :, there] = maps.unflatten(1, (kinds, len(there)))
        return spread.flatten(1, 2)

    def alike() -> list[Tensor]:
        likeness = of_all(similarity(image, given))
        return [likeness, F.avg_pool3d(likeness, 2)]

    def related() -> list[Tensor]:
        if embedding is None:
            return []
        if embedding.shape[1] > semantic_width:
            return [of_one_structure(embedding, prompts, semantic_width)]
        return [of_all(kinship(embedding, given))]

    parts: tuple[Callable[[], list[Tensor]], ...] = (
        lambda: [of_all(nearness(image, given))],
        alike,
        related,
        lambda: pooled(prompts),
    )
    near, (likeness, like), kin, maps = team.map(lambda part, _: part(), parts)
    return guided(maps, stacked(like, *near, *kin)), likeness

"""The fast form of guidance maps on a CPU: the same numbers as `model/small/guidance.py`.

The kinds of maps are computed in parallel, and only for prompts that are not empty: the maps of an empty prompt are 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from CTSAM3DLib.execution.cpu.thread_team import ThreadTeam
from CTSAM3DLib.model.layers import concatenated
from CTSAM3DLib.model.small.guidance import (
    embedding_maps,
    embedding_similarity,
    geodesic_proximity,
    intensity_similarity,
)
from CTSAM3DLib.model.small.guided_decoder import guided, pooled


def guided_maps(
    image: Tensor, embedding: Tensor | None, prompts: Tensor, semantic_width: int, team: ThreadTeam
) -> tuple[list[Tensor], Tensor]:
    """The prompt maps with guidance at 2³ to 32³, and the intensity similarity at 64³.

    Call within `team.run`. Shapes are those of `GuidedDecoder`.
    """
    present = prompts.flatten(2).amax(dim=(0, 2)).nonzero()[:, 0]
    if not len(present):
        present = torch.arange(prompts.shape[1])
    given = prompts if len(present) == prompts.shape[1] else prompts[:, present]

    def with_empty(maps: Tensor) -> Tensor:
        """Maps (b, kinds * given prompts, ...) with zeros added for empty prompts."""
        kinds = maps.shape[1] // len(present)
        filled = torch.zeros(len(maps), kinds, prompts.shape[1], *maps.shape[2:])
        filled[:, :, present] = maps.unflatten(1, (kinds, len(present)))
        return filled.flatten(1, 2)

    def intensity_maps() -> list[Tensor]:
        similarity = with_empty(intensity_similarity(image, given))
        return [similarity, F.avg_pool3d(similarity, 2)]

    def similarity_of_embedding() -> list[Tensor]:
        if embedding is None:
            return []
        if embedding.shape[1] > semantic_width:
            return [embedding_maps(embedding, prompts, semantic_width)]
        return [with_empty(embedding_similarity(embedding, given))]

    parts: tuple[Callable[[], list[Tensor]], ...] = (
        lambda: [with_empty(geodesic_proximity(image, given))],
        intensity_maps,
        similarity_of_embedding,
        lambda: pooled(prompts),
    )
    proximity, (similarity, pooled_similarity), of_embedding, maps = team.map(lambda part, _: part(), parts)
    return guided(maps, concatenated(pooled_similarity, *proximity, *of_embedding)), similarity

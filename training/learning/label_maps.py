"""Losses of the voxel embedding on label maps: classes (here *kinds*), instance places and affinities.

A label can stand for several classes (`training.vocabulary`), so the class loss is marginal: any of them is right.
Losses are taken at voxels sampled so that small structures count too.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from CTSAM3DLib.model.pixel_shuffle import pixel_unshuffle
from CTSAM3DLib.model.small.embedding import VoxelEmbedding
from training.learning.resident import Resident
from training.learning.samples import Patches
from training.vocabulary import KINDS, VALUES

LOGIT_SCALE = 12.0
"""Scale of the cosines before the softmax."""
VOXELS = 6144
"""Voxels of 32³ sampled in each patch for the losses of classes and places."""
BACKGROUND_SHARE = 0.4
"""Sampling weight of an unlabelled voxel, relative to a structure of the same size."""
EVENNESS = 0.5
"""A structure is sampled in proportion to its size to the power of 1 - EVENNESS."""
CLICKED = 8
"""Reference voxels of each patch in the loss of places."""
OTHER_KIND = 0.25
"""Weight of pairs of different classes in the loss of places; the vectors separate them already."""
BORDER_WEIGHT = 4.0
"""Weight of pairs of voxels across a border in the loss of affinities."""
PLACE_WEIGHT, AFFINITY_WEIGHT = 0.5, 0.5


class Losses(NamedTuple):
    """The losses of classes, places and affinities; scalars."""

    kinds: Tensor
    places: Tensor
    borders: Tensor

    @property
    def total(self) -> Tensor:
        """The weighted sum of the losses."""
        return self.kinds + PLACE_WEIGHT * self.places + AFFINITY_WEIGHT * self.borders


class Prototypes(nn.Module):
    """A learnt prototype, a direction, for each class; the first for background."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(len(KINDS), width))

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors (..., width) to class logits (..., classes)."""
        return LOGIT_SCALE * vectors @ F.normalize(self.directions, dim=1).T


def label_losses(
    embedding: VoxelEmbedding, prototypes: Prototypes, patches: Patches, resident: Resident, generator: torch.Generator
) -> Losses:
    """The losses of a batch's embedding against its label maps."""
    rows = patches.cases[:, None] * VALUES
    corner = torch.randint(8, (1,), generator=generator, device=patches.labels.device)
    labels = pixel_unshuffle(patches.labels[:, None]).flatten(2).index_select(1, corner)[:, 0].long()

    drawn = _drawn(labels, resident.weight.flatten()[rows + labels], generator)
    labels = labels.gather(1, drawn)
    vectors = _at(embedding.vectors, drawn)
    kinds = _kind_loss(prototypes(vectors), resident.allowed.flatten(0, 1)[rows + labels])
    nothing = kinds.new_zeros(())
    if embedding.places is None or embedding.affinities is None:
        return Losses(kinds, nothing, nothing)
    kind, instance = (table.flatten()[rows + labels] for table in (resident.kind, resident.instance))
    places = _place_loss(_at(embedding.places, drawn), labels, kind, instance, generator)
    weight = resident.weight.flatten()[rows[..., None, None] + patches.labels.long()]
    return Losses(kinds, places, _border_loss(embedding.affinities, patches.labels, weight))


def _drawn(labels: Tensor, weight: Tensor, generator: torch.Generator) -> Tensor:
    """Indices (b, VOXELS) of voxels (b, 32³), sampled by weight, with small structures more often."""
    sizes = torch.zeros(len(labels), VALUES, device=labels.device)
    sizes.scatter_add_(1, labels, torch.ones_like(labels, dtype=torch.float32))
    wanted = weight * sizes.gather(1, labels).clamp(min=1) ** -EVENNESS
    wanted = wanted * (1 - (labels == 0) * (1 - BACKGROUND_SHARE)) + 1e-9
    cumulative = wanted.double().cumsum(dim=1)
    points = torch.rand(len(labels), VOXELS, generator=generator, device=labels.device).double()
    return torch.searchsorted(cumulative, points * cumulative[:, -1:]).clamp(max=labels.shape[1] - 1)


def _at(values: Tensor, voxels: Tensor) -> Tensor:
    """(b, c, 32, 32, 32) at voxels (b, n) as (b, n, c)."""
    flat = values.flatten(2)
    return flat.gather(2, voxels[:, None].expand(-1, flat.shape[1], -1)).transpose(1, 2)


def _kind_loss(logits: Tensor, allowed: Tensor) -> Tensor:
    """Negative log-probability of the allowed classes of a voxel, averaged over voxels with a disallowed class."""
    among = logits.masked_fill(~allowed, torch.finfo(logits.dtype).min / 2).logsumexp(dim=2)
    return _weighted_mean(logits.logsumexp(dim=2) - among, ~allowed.all(dim=2))


def _place_loss(places: Tensor, labels: Tensor, kinds: Tensor, instance: Tensor, generator: torch.Generator) -> Tensor:
    """Contrastive loss of places: near within one structure, far apart between structures.

    As in t-SNE, 1 / (1 + distance²) is the probability that two voxels belong to one structure. Pairs are formed of
    `CLICKED` reference voxels and all sampled voxels.
    """
    priority = torch.rand(labels.shape, generator=generator, device=labels.device) + instance
    clicked = priority.topk(CLICKED, dim=1).indices
    of_clicked = places.gather(1, clicked[..., None].expand(-1, -1, places.shape[2]))
    label, kind = labels.gather(1, clicked)[..., None], kinds.gather(1, clicked)[..., None]
    counted = instance.gather(1, clicked)[..., None] & instance[:, None]

    away = (of_clicked[:, :, None] - places[:, None]).square().sum(dim=3)
    same = label == labels[:, None]
    of_kind = (kind == kinds[:, None]) & (kind >= 0)
    apart = ~same * (OTHER_KIND + of_kind * (1 - OTHER_KIND))
    pull, push = torch.log1p(away), torch.log1p(away) - torch.log(away + 1e-3)
    return _weighted_mean(pull, counted & same) + _weighted_mean(push, counted * apart)


def _border_loss(affinities: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of the affinities, over pairs of neighbouring voxels of which at least one is labelled."""
    targets, weights = [], []
    for axis in (1, 2, 3):
        count = labels.shape[axis] - 1
        this, following = labels.narrow(axis, 0, count), labels.narrow(axis, 1, count)
        same = this == following
        least = torch.minimum(weight.narrow(axis, 0, count), weight.narrow(axis, 1, count))
        counts = ((this > 0) | (following > 0)) * least
        pad = [0, 0] * (3 - axis) + [0, 1]
        targets.append(F.pad(same.float(), pad))
        weights.append(F.pad(counts * (BORDER_WEIGHT - same * (BORDER_WEIGHT - 1)), pad))
    target, weighing = (pixel_unshuffle(torch.stack(maps, dim=1)) for maps in (targets, weights))
    error = F.binary_cross_entropy_with_logits(affinities, target, reduction="none")
    return _weighted_mean(error, weighing)


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    weights = weights.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp(min=1e-6)

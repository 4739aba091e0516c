"""What a random walk over the voxels makes of evidence: how freely it crosses an edge, and where it tends to end.

Some hundred weights, learnt on masks (`training/walk.py`): how far to trust the network's mask, the likeness to what
was clicked and the distance from the clicks, by the number of clicks and by how well the network did at them.
`segmentation/evidence.py` makes the evidence, and `segmentation/walk.py` takes the walk.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EDGES = ("hu", "noise", "level", "vectors", "answer", "places")
"""What edges between voxels are known by: changes of HU, in three measures, of semantics, and of the mask."""
CLICKS = ("answer_at_clicks", "clicks", "negative_clicks", "quality", "extent", "last_positive")
"""What is known of all voxels alike: how the network did at the clicks, how many there are, its mask's size."""
VOXELS = (
    *("answer", "sure", "around", "before", "hu", "nearer", "near_last"),
    *("near_5", "near_12", "near_30", "away_5", "away_12", "away_30"),
    *("like_hu", "like_hu_widely", "unlike_hu", "unlike_hu_widely"),
    *("like_vector", "unlike_vector", "like_place", "unlike_place"),
)
"""What voxels are known by: the network's mask, the walk's before the last click, and nearness and likeness to positive
and to negative clicks."""
LEAST, MOST = -9.0, 3.0
"""Of the logarithm of a pull."""
MIN_CONDUCTANCE = 1e-4


class Walk(nn.Module):
    """Evidence to conductances of edges and pulls of voxels, with `hidden` units between."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        known = len(CLICKS) + len(VOXELS)
        self.edge_costs = nn.Parameter(torch.zeros(len(EDGES)))  # logarithms
        self.straight = nn.Linear(known, 2)
        self.hidden = nn.Linear(known, hidden)
        self.bent = nn.Linear(hidden, 2, bias=False)

    def conductances(self, edges: Tensor) -> Tensor:
        """Of evidence (kinds, ...): a little more than 0 to a little more than 1."""
        return torch.exp(-torch.tensordot(self.edge_costs.exp(), edges, dims=1)) + MIN_CONDUCTANCE

    def pulls(self, clicks: Tensor, voxels: Tensor) -> Tensor:
        """Of evidence (kinds,) and (kinds, n): inwards and outwards, (2, n)."""
        known = torch.cat((clicks[:, None].expand(-1, voxels.shape[1]), voxels)).T
        logarithms = self.straight(known) + self.bent(torch.relu(self.hidden(known)))
        return torch.exp(logarithms.clamp(LEAST, MOST)).T

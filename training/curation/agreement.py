"""Agreement of two sources of tissues: Dice by case and tissue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from CTSAM3DLib.clicks.simulation import dice
from training.anatomy import TISSUE_TYPES
from training.curation.ingest import ingest
from training.curation.orient import to_rai
from training.curation.tissues import TissueProvider
from training.data.datasets.records import CaseRecord


def agreement_table(records: Sequence[CaseRecord], first: TissueProvider, second: TissueProvider) -> Table:
    """Return the Dice of each tissue in each case, and how many voxels each source gives it. Raises Defect."""
    table = Table(box=SIMPLE)
    for heading in ("case", "tissue", "Dice", "voxels", "reference"):
        table.add_column(heading, justify="left" if heading in ("case", "tissue") else "right")
    for record in records:
        source = ingest(record)
        ct, own = to_rai(source.ct), to_rai(source.labels, labels=True)
        ours, theirs = (provider.tissues(record.case, ct, own).array for provider in (first, second))
        name = record.case
        for value, tissue in TISSUE_TYPES.items():
            mask, reference = ours == value, theirs == value
            counts = (str(np.count_nonzero(part)) for part in (mask, reference))
            table.add_row(name, tissue, f"{dice(reference, mask):.3f}", *counts)
            name = ""
    return table

"""Prepared cases as they lie on the device, and the tables of what their labels mean.

Volumes are tensors (z, y, x) in the device's memory from the first step to the last; what the drawing of samples needs
(which structures there are, and some of their voxels) stays on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.case_notes import CaseNotes, atlas_notes, case_notes
from training.data.prepared import Prepared, PreparedCase
from training.learning.looks import AIR_HU
from training.vocabulary import KINDS, VALUES, LabelTable, group_of_kind, label_table

ANCHORS = 400
"""Voxels kept of each structure, to lay patches around."""
FEWEST_VOXELS = 20
SCENE_NOTES = CaseNotes(complete=False)
CONTRAST_HU = {
    "Cardiovascular vessels": (-60.0, 200.0),
    "Main abdomen organs": (-20.0, 60.0),
    "Glands": (-30.0, 60.0),
    "heart_atrium": (-40.0, 200.0),
    "heart_ventricle": (-40.0, 200.0),
    "heart_myocardium": (-20.0, 60.0),
    "kidney": (-20.0, 150.0),
}
"""Between which HU a contrast agent changes a kind, or those of a group."""
ATLAS_PREFIX = "atlas-"


@dataclass(frozen=True)
class Structure:
    """One label of one case.

    Attributes:
        case, value: which; `case` is an index.
        kinds: what its voxels can be, without background; empty where nothing is known of it.
        voxels: how many it has.
        anchors: flat indices of some of them, uint32.
        cut: whether it touches the border of the case, so that the scan does not show all of it.
        of_pieces: whether `value` is one of `pieces`, not of `labels`.

    """

    case: int
    value: int
    kinds: frozenset[str]
    voxels: int
    anchors: NDArray[np.uint32]
    cut: bool
    of_pieces: bool = False


@dataclass(frozen=True)
class Resident:
    """All cases on a device.

    Attributes:
        cases: what was prepared, in order.
        hu: above air, float; None for an atlas.
        labels: uint8. pieces: int16, or None.
        allowed: bool (cases, 256, kinds). weight: float (cases, 256). instance: bool (cases, 256). kind: int64
            (cases, 256), the kind where there is only one, else -1.
        contrast: for each case (256, 2), as `looks.Look.random` takes it; on the host.
        structures: of labels, and of pieces.

    """

    cases: tuple[PreparedCase, ...]
    hu: list[Tensor | None]
    labels: list[Tensor]
    pieces: list[Tensor | None]
    allowed: Tensor
    weight: Tensor
    instance: Tensor
    kind: Tensor
    contrast: list[NDArray[np.float32]]
    structures: tuple[Structure, ...]
    pieces_structures: tuple[Structure, ...]

    @classmethod
    def of(cls, prepared: Prepared, device: torch.device) -> Resident:
        """Move all cases to the device."""
        precision = torch.float16 if device.type == "cuda" else torch.float32
        tables = [table_of(case) for case in prepared.cases]
        allowed = np.stack([table.allowed for table in tables])
        single = allowed[:, :, 1:].sum(axis=2) == 1
        kind = np.where(single & ~allowed[:, :, 0], allowed[:, :, 1:].argmax(axis=2) + 1, -1)
        named = [_structures(index, case, table) for index, (case, table) in enumerate(zip(prepared.cases, tables))]
        pieces = [_pieces(index, case) for index, case in enumerate(prepared.cases)]
        return cls(
            cases=prepared.cases,
            hu=[
                None if case.hu is None else torch.from_numpy(case.hu - np.int16(AIR_HU)).to(device, precision)
                for case in prepared.cases
            ],
            labels=[torch.from_numpy(case.labels).to(device) for case in prepared.cases],
            pieces=[
                None if case.pieces is None else torch.from_numpy(case.pieces.astype(np.int16)).to(device)
                for case in prepared.cases
            ],
            allowed=torch.from_numpy(allowed).to(device),
            weight=torch.from_numpy(np.stack([table.weight for table in tables])).to(device),
            instance=torch.from_numpy(np.stack([table.instance for table in tables])).to(device),
            kind=torch.from_numpy(kind).to(device),
            contrast=[_contrast(table) for table in tables],
            structures=tuple(structure for found in named for structure in found),
            pieces_structures=tuple(structure for found in pieces for structure in found),
        )


def table_of(case: PreparedCase) -> LabelTable:
    """What the labels of a case mean. Every label of a synthetic scene is one thing, whether it has a name or not."""
    if case.source == "atlas":
        return label_table(case.names, atlas_notes(case.name.removeprefix(ATLAS_PREFIX)))
    if case.source != "phantom":
        return label_table(case.names, case_notes(case.name))
    table = label_table(case.names, SCENE_NOTES)
    instance = np.ones(VALUES, bool)
    instance[0] = False
    return LabelTable(table.allowed, table.weight, instance)


def _structures(index: int, case: PreparedCase, table: LabelTable) -> list[Structure]:
    kinds = np.array(KINDS)
    found = []
    for value, voxels, anchors, cut in _where(case.labels):
        meant = kinds[1:][table.allowed[value, 1:]]
        known = frozenset(meant.tolist()) if len(meant) < len(KINDS) - 1 else frozenset[str]()
        if known or case.source == "phantom":
            found.append(Structure(index, value, known, voxels, anchors, cut))
    return found


def _pieces(index: int, case: PreparedCase) -> list[Structure]:
    if case.pieces is None:
        return []
    return [Structure(index, value, frozenset(), *rest, of_pieces=True) for value, *rest in _where(case.pieces)]


def _where(label_map: NDArray[np.integer]) -> Sequence[tuple[int, int, NDArray[np.uint32], bool]]:
    """Value, voxels, some voxels, and whether it touches the border, of each label of a map that is large enough."""
    flat = label_map.ravel()
    labelled = np.flatnonzero(flat).astype(np.uint32)
    values = flat[labelled]
    order = np.argsort(values, kind="stable")
    numbers, starts, counts = np.unique(values[order], return_index=True, return_counts=True)
    rim = np.zeros(label_map.shape, bool)
    for axis in range(3):
        rim.swapaxes(0, axis)[[0, -1]] = True
    at_border = set(np.unique(label_map[rim]).tolist())
    found = []
    for number, start, count in zip(numbers.tolist(), starts, counts.tolist(), strict=True):
        if count >= FEWEST_VOXELS:
            every = np.random.default_rng(number).permutation(count)[:ANCHORS]
            found.append((number, count, labelled[order[start + every]], number in at_border))
    return found


def _contrast(table: LabelTable) -> NDArray[np.float32]:
    contrast = np.zeros((VALUES, 2), np.float32)
    for value in range(1, VALUES):
        meant = np.flatnonzero(table.allowed[value, 1:]) + 1
        if len(meant) < len(KINDS) - 1 and len(meant):
            kind = KINDS[meant[0]]
            contrast[value] = CONTRAST_HU.get(kind, CONTRAST_HU.get(group_of_kind(kind), (0.0, 0.0)))
    return contrast

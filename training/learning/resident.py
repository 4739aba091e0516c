"""Training data on the device: volumes and label maps of all cases, and tables of the classes of their labels.

Volumes stay in the device's memory for the whole run; the data for sampling (the structures and some of their voxels)
stay on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.case_notes import CaseNotes, atlas_notes, case_notes
from training.data.prepared import ATLAS_PREFIX, Prepared, PreparedCase
from training.learning.looks import AIR_HU
from training.learning.painting import Palette
from training.vocabulary import KINDS, VALUES, LabelTable, group_of_kind, label_table

ANCHORS = 400
"""Voxels of each structure that patches can be centred on."""
MIN_VOXELS = 20
"""Voxels. Smaller structures are not sampled."""
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
"""Range of the change of HU by a contrast agent, of a class or of the classes of a group."""


@dataclass(frozen=True)
class Structure:
    """One label of one case.

    Attributes:
        case, value: index of the case, and label value.
        kinds: classes that its voxels can have, without background; empty if unknown.
        voxels: number of its voxels.
        anchors: flat indices of some of its voxels, uint32.
        cut: whether it touches the border of the case, so that the scan shows only a part.
        of_pieces: whether `value` is a value of `pieces` (supervoxels), not of `labels`.

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
        cases: the prepared cases, in order.
        hu: HU above air of all cases that have a CT, one on top of the other: float32 (1, 1, slices, y, x).
        floors: int64 (cases,): the first slice of each case in `hu`; 0 for an atlas.
        labels: uint8, of all cases, one after the other. pieces: int16 of the same length, 0 where there are none.
        starts: int64 (cases,): the first voxel of each case in `labels`. shapes: float32 (cases, 3).
        allowed: bool (cases, 256, kinds). weight: float (cases, 256). instance: bool (cases, 256). kind: int64
            (cases, 256), the kind where there is only one, else -1.
        contrast: for each case (256, 2), as `looks.Look.random` takes it; on the host.
        palettes: how the CT of an atlas is synthesised; None for a case with a CT.
        structures: of labels. pieces_structures: supervoxels.

    """

    cases: tuple[PreparedCase, ...]
    hu: Tensor
    floors: Tensor
    labels: Tensor
    pieces: Tensor
    starts: Tensor
    shapes: Tensor
    allowed: Tensor
    weight: Tensor
    instance: Tensor
    kind: Tensor
    contrast: list[NDArray[np.float32]]
    palettes: list[Palette | None]
    structures: tuple[Structure, ...]
    pieces_structures: tuple[Structure, ...]

    @classmethod
    def of(cls, prepared: Prepared, device: torch.device) -> Resident:
        """Move all cases to the device."""
        cases = prepared.cases
        tables = [table_of(case) for case in cases]
        allowed = np.stack([table.allowed for table in tables])
        single = (allowed[:, :, 1:].sum(axis=2) == 1) & ~allowed[:, :, 0]
        kind = np.where(single, allowed[:, :, 1:].argmax(axis=2) + 1, -1)
        named = [_structures(*each) for each in zip(range(len(cases)), cases, tables, strict=True)]
        pieces = [_pieces(index, case) for index, case in enumerate(cases)]
        stack, floors = _stacked(cases)
        sizes = [case.labels.size for case in cases]
        return cls(
            cases=cases,
            hu=torch.from_numpy(stack).to(device)[None, None],
            floors=torch.tensor(floors, device=device),
            labels=torch.from_numpy(np.concatenate([case.labels.ravel() for case in cases])).to(device),
            pieces=torch.from_numpy(np.concatenate([_numbers(case) for case in cases])).to(device),
            starts=torch.tensor(np.cumsum([0, *sizes[:-1]]), device=device),
            shapes=torch.tensor([case.labels.shape for case in cases], dtype=torch.float32, device=device),
            allowed=torch.from_numpy(allowed).to(device),
            weight=torch.from_numpy(np.stack([table.weight for table in tables])).to(device),
            instance=torch.from_numpy(np.stack([table.instance for table in tables])).to(device),
            kind=torch.from_numpy(kind).to(device),
            contrast=[_contrast(table) for table in tables],
            palettes=[Palette.of(case.names, prepared.kind_hu) if case.hu is None else None for case in cases],
            structures=tuple(structure for found in named for structure in found),
            pieces_structures=tuple(structure for found in pieces for structure in found),
        )


def _stacked(cases: Sequence[PreparedCase]) -> tuple[NDArray[np.float32], list[int]]:
    """All CTs on top of each other, in HU above air, and the first slice of each."""
    shapes = np.array([case.labels.shape if case.hu is not None else (0, 1, 1) for case in cases])
    floors = np.cumsum([0, *shapes[:-1, 0]])
    stack = np.zeros((max(shapes[:, 0].sum(), 1), *shapes[:, 1:].max(axis=0)), np.float32)
    for case, floor in zip(cases, floors, strict=True):
        if case.hu is not None:
            depth, height, width = case.hu.shape
            stack[floor : floor + depth, :height, :width] = case.hu - np.float32(AIR_HU)
    return stack, [int(floor) * (case.hu is not None) for case, floor in zip(cases, floors, strict=True)]


def _numbers(case: PreparedCase) -> NDArray[np.int16]:
    return np.zeros(case.labels.size, np.int16) if case.pieces is None else case.pieces.ravel().astype(np.int16)


def table_of(case: PreparedCase) -> LabelTable:
    """The classes of the labels of a case. In a synthetic scene every label is one instance, named or not."""
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
    found = _where(case.pieces)
    return [Structure(index, value, frozenset(), voxels, anchors, cut, True) for value, voxels, anchors, cut in found]


def _where(label_map: NDArray[np.integer]) -> Sequence[tuple[int, int, NDArray[np.uint32], bool]]:
    """Of each large enough label: value, number of voxels, indices of some, and whether it touches the border."""
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
        if count >= MIN_VOXELS:
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

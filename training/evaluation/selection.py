"""A reproducible subset of the structures of a case, spread over groups and classes."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from training.anatomy import kind_of
from training.vocabulary import group_of_kind, kinds_of

SEVERAL = "Several groups"
UNKNOWN = "Other"


def group_of_label(name: str) -> str:
    """The group of a label in `training.vocabulary`; `SEVERAL` or `UNKNOWN` where there is not one group."""
    groups = {group_of_kind(kind) for kind in kinds_of(name)}
    return next(iter(groups)) if len(groups) == 1 else SEVERAL if groups else UNKNOWN


def spread(case: str, names: Iterable[str], count: int) -> frozenset[str]:
    """At most `count` structures of a case: one of each group in turn, then one of another class of each group.

    The choice depends on the case and the names alone, and a higher count only adds to it.
    """

    def drawn(name: str) -> int:
        return zlib.crc32(f"{case}/{name}".encode())

    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in sorted(set(names), key=drawn):
        groups[group_of_label(name)][kind_of(name)].append(name)
    by_group = [_in_turn([groups[group][kind] for kind in groups[group]]) for group in sorted(groups, key=drawn)]
    return frozenset(_in_turn(by_group)[:count])


def _in_turn(lists: Sequence[Sequence[str]]) -> list[str]:
    """The first of each list, then the second of each, and so on."""
    return [name for row in zip_longest(*lists) for name in row if name is not None]

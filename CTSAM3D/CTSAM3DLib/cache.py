"""A cache of bounded size in bytes, which evicts the least recently used entries first (LRU)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any


class Cache:
    """An LRU cache of at most `capacity` bytes. Safe across threads.

    The caller of `put` states the size of the value. Any entry may be evicted at any time; callers must be able to
    recompute it.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._evicted = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of all entries."""
        return self._bytes

    @property
    def evicted(self) -> int:
        """Number of entries evicted so far."""
        return self._evicted

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        """Whether there is an entry; this does not count as a use."""
        return key in self._entries

    def get(self, key: Hashable) -> Any | None:
        """The value of `key`, now the most recently used, or None."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: Hashable, value: Any, nbytes: int) -> None:
        """Store a value of `nbytes` bytes, in place of an older one; a value larger than the capacity is not stored."""
        with self._lock:
            self._remove(key)
            if nbytes > self.capacity:
                return
            self._entries[key] = value, nbytes
            self._bytes += nbytes
            while self._bytes > self.capacity:
                self._remove(next(iter(self._entries)))
                self._evicted += 1

    def discard(self, key: Hashable) -> None:
        """Remove the entry of `key`, if there is one."""
        with self._lock:
            self._remove(key)

    def _remove(self, key: Hashable) -> None:
        if key in self._entries:
            self._bytes -= self._entries.pop(key)[1]

"""What is kept to save time: values under a bound of bytes, the least recently used dropped first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any


class Cache:
    """Values by key, as many as fit into `capacity` bytes. Safe across threads.

    Whoever puts a value says how many bytes it holds. Anything may be gone at the next look, so that whoever looks has
    to be able to make it anew.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._dropped = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is kept."""
        return self._bytes

    @property
    def dropped(self) -> int:
        """How many values have been dropped for want of room."""
        return self._dropped

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        """Whether a value is kept; this does not count as a use of it."""
        return key in self._entries

    def get(self, key: Hashable) -> Any | None:
        """The value of `key`, now the most recently used, or None."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: Hashable, value: Any, nbytes: int) -> None:
        """Keep a value in place of any before it; one that is larger than the whole cache is not kept."""
        with self._lock:
            self._remove(key)
            if nbytes > self.capacity:
                return
            self._entries[key] = value, nbytes
            self._bytes += nbytes
            while self._bytes > self.capacity:
                self._remove(next(iter(self._entries)))
                self._dropped += 1

    def discard(self, key: Hashable) -> None:
        """Forget a value, if it is kept."""
        with self._lock:
            self._remove(key)

    def _remove(self, key: Hashable) -> None:
        if key in self._entries:
            self._bytes -= self._entries.pop(key)[1]

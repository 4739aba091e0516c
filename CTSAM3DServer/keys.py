"""Users' keys: a file of names and salted hashes, which may change while the server runs."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from CTSAM3DLib.atomic import atomic_write, describe_os_error
from CTSAM3DLib.errors import CTSAM3DError, OutputError

LOCK_S = 10.0
"""Seconds that a change of the file waits for another change to end."""

_HEX = re.compile(r"[0-9a-f]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]{0,63}")


class KeyFileError(CTSAM3DError):
    """The file of keys cannot be read, or the name given does not fit it."""


class Keys(Protocol):
    """Finds the owner of a key."""

    def owner_of(self, key: str) -> str | None:
        """The name of the user with this key, or None. Constant-time: a wrong key takes as long as a right one."""


@dataclass(frozen=True)
class Entry:
    """One user's key as the file holds it. Raises ValueError for a malformed entry.

    A fast hash is enough, since keys are random numbers of 256 bits and cannot be guessed.
    """

    name: str
    salt: str
    sha256: str
    created: str

    def __post_init__(self) -> None:
        texts = (self.name, self.salt, self.sha256, self.created)
        if not all(isinstance(text, str) for text in texts) or not _NAME.fullmatch(self.name):
            raise ValueError("name")  # names go into the log
        if not (_HEX.fullmatch(self.salt) and _HEX.fullmatch(self.sha256)):
            raise ValueError("hash")

    @classmethod
    def of(cls, name: str, key: str) -> Entry:
        """A new entry for this key, with a random salt."""
        salt = secrets.token_hex(16)
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(name, salt, _hash(salt, key), created)

    def fits(self, key: str) -> bool:
        """Whether this is the key."""
        return hmac.compare_digest(_hash(self.salt, key), self.sha256)


class OneKey:
    """A single key that is valid as long as the server runs."""

    def __init__(self, name: str, key: str) -> None:
        self._entry = Entry.of(name, key)

    def owner_of(self, key: str) -> str | None:
        """The name, if this is the key."""
        return self._entry.name if self._entry.fits(key) else None


class KeyFile:
    """A JSON file of keys. It is read again when it changes, so a revoked key becomes invalid at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: list[Entry] = []
        self._read_at: tuple[int, int, int] | None = None

    @property
    def entries(self) -> list[Entry]:
        """The entries in the file now. Raises KeyFileError where it cannot be read."""
        try:
            about = self.path.stat()
            version = (about.st_mtime_ns, about.st_size, about.st_ino)
            if version != self._read_at:
                content = json.loads(self.path.read_text(encoding="utf-8"))
                self._entries = [Entry(**entry) for entry in content["keys"]]
                self._read_at = version
        except OSError as error:
            raise KeyFileError(f"The file of keys {self.path} cannot be read ({error.strerror}).") from error
        except (ValueError, LookupError, TypeError) as error:
            raise KeyFileError(f"{self.path} is not a file of keys; make one with: ctsam3d serve keys add.") from error
        return self._entries

    def owner_of(self, key: str) -> str | None:
        """The name of the user who has this key, or None. Raises KeyFileError where the file cannot be read."""
        fitting = [entry.name for entry in self.entries if entry.fits(key)]  # compare all, for constant time
        return fitting[0] if fitting else None

    def add(self, name: str) -> str:
        """Make a key for a user and return it; it is not stored and cannot be shown again.

        Raises KeyFileError for a bad or a taken name, and OutputError where the file cannot be written.
        """
        if not _NAME.fullmatch(name):
            raise KeyFileError(f"{name!r} cannot name a key; use up to 64 letters, digits and . _ - @")
        with self._changing():
            entries = self.entries if self.path.exists() else []
            if any(entry.name == name for entry in entries):
                raise KeyFileError(f"There is a key for {name} already; revoke it first.")
            key = secrets.token_urlsafe(32)
            self._write([*entries, Entry.of(name, key)])
        return key

    def revoke(self, name: str) -> None:
        """Remove a user's key; a running server refuses it from now on. Raises KeyFileError and OutputError."""
        with self._changing():
            kept = [entry for entry in self.entries if entry.name != name]
            if len(kept) == len(self.entries):
                raise KeyFileError(f"There is no key for {name}; see: ctsam3d serve keys list.")
            self._write(kept)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Lock the file for a change: the later of two concurrent changes would undo the earlier, even a revocation."""
        lock = FileLock(f"{self.path}.lock", timeout=LOCK_S, mode=0o600)
        try:
            lock.acquire()
        except Timeout as error:
            raise KeyFileError(f"{self.path} is being changed by another command; try again.") from error
        except OSError as error:
            raise OutputError(f"{self.path} cannot be changed: {describe_os_error(error)}.") from error
        try:
            yield
        finally:
            lock.release()

    def _write(self, entries: list[Entry]) -> None:
        text = json.dumps({"keys": [asdict(entry) for entry in entries]}, indent=2)
        with atomic_write(self.path) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_text(text, encoding="utf-8")


def _hash(salt: str, key: str) -> str:
    return hashlib.sha256(f"{salt}:{key}".encode()).hexdigest()

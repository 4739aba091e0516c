"""A file from the network, checked by its SHA-256; a download that was cut off is gone on with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import requests

from CTSAM3DLib.atomic import why_not
from CTSAM3DLib.cancel import CancelEvent, stop_if_cancelled
from CTSAM3DLib.errors import ModelError

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes that are there and all bytes, or None where the server does not say how many."""

_PIECE = 2**18
_TIMEOUT_S = (10, 60)  # to connect, and between two pieces
_FROM_THERE_ON, _NOTHING_MORE = 206, 416  # HTTP's answers to a request for the rest of a file


def download(
    url: str, sha256: str, path: Path, progress: Progress | None = None, cancel: CancelEvent | None = None
) -> None:
    """Fetch `url` into `path`, after the bytes that are there already. Raises ModelError, and Cancelled.

    After either the bytes so far stay in the file, unless the whole of it has another checksum. The file is whole
    only when this returns.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ModelError(f"'{url}' is not an address to download from; it begins with https://.")
    expected = checksum(sha256)
    try:
        if path.is_file() and _sha256(path) == expected:
            return
        _fetch(url, path, progress, cancel)
        found = _sha256(path)
        if found != expected:
            path.unlink()  # going on with it would never mend it
    except requests.RequestException as error:
        raise ModelError(_why_no_answer(url, error)) from error
    except OSError as error:
        raise ModelError(f"The download cannot be written to {path}: {why_not(error)}.") from error
    if found != expected:
        raise ModelError(f"What {_host(url)} sent has the checksum {found}, not the given one; check the address.")


def checksum(sha256: str) -> str:
    """The checksum in small letters. Raises ModelError where it cannot be one."""
    text = sha256.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ModelError(f"'{sha256}' is not a SHA-256 checksum; it has 64 digits and letters from a to f.")
    return text


def _fetch(url: str, path: Path, progress: Progress | None, cancel: CancelEvent | None) -> None:
    there = path.stat().st_size if path.is_file() else 0
    # Bytes as they are in the file: with a compression of the transport, they could not be counted on from.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={there}-"} if there else {})}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
        if response.status_code == _NOTHING_MORE:
            return  # there is nothing to add; the checksum will say that this is another file
        response.raise_for_status()
        if response.status_code != _FROM_THERE_ON:
            there = 0
        length = response.headers.get("Content-Length", "")
        total = there + int(length) if length.isdecimal() else None
        with path.open("ab" if there else "wb") as file:
            for piece in response.iter_content(_PIECE):
                stop_if_cancelled(cancel)
                file.write(piece)
                there += len(piece)
                if progress is not None:
                    progress(there, total)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _why_no_answer(url: str, error: requests.RequestException) -> str:
    if error.response is not None:
        return f"{_host(url)} answers {error.response.status_code} {error.response.reason}; check the address."
    if isinstance(error, requests.exceptions.SSLError):
        return f"The certificate of {_host(url)} cannot be trusted; check the address, or ask who runs it."
    if isinstance(error, requests.exceptions.Timeout):
        return f"{_host(url)} takes too long to answer; try again, and the download goes on where it stopped."
    return f"{_host(url)} cannot be reached or broke off; check the network and try again, and the download goes on."


def _host(url: str) -> str:
    return urlsplit(url).hostname or url

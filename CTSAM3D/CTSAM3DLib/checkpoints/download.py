"""Download a file and check its SHA-256; interrupted downloads are resumed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import requests

from CTSAM3DLib.atomic import describe_os_error
from CTSAM3DLib.cancel import CancelEvent, stop_if_cancelled
from CTSAM3DLib.errors import ModelError
from CTSAM3DLib.loopback import Session

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes received and the bytes in total, or None where the server does not state the size."""

_CHUNK = 2**18
_TIMEOUT_S = (10, 60)  # to connect, and between two chunks
_PARTIAL_CONTENT, _RANGE_NOT_SATISFIABLE = 206, 416  # HTTP status codes of a request for the rest of a file


def download(
    url: str, sha256: str, path: Path, progress: Progress | None = None, cancel: CancelEvent | None = None
) -> None:
    """Download `url` to `path`, after the bytes that `path` holds already.

    The file is complete only when the call returns. After an error the bytes so far stay, so that the next call
    resumes; a complete file with another checksum is deleted. Raises ModelError and Cancelled.
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
            path.unlink()  # resuming would never correct it
    except requests.RequestException as error:
        raise ModelError(_describe_failure(url, error)) from error
    except OSError as error:
        raise ModelError(f"The download cannot be written to {path}: {describe_os_error(error)}.") from error
    if found != expected:
        raise ModelError(f"What {_host(url)} sent has the checksum {found}, not the given one; check the address.")


def checksum(sha256: str) -> str:
    """The SHA-256 checksum in lower case. Raises ModelError where the text is none."""
    text = sha256.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ModelError(f"'{sha256}' is not a SHA-256 checksum; it has 64 digits and letters from a to f.")
    return text


def _fetch(url: str, path: Path, progress: Progress | None, cancel: CancelEvent | None) -> None:
    received = path.stat().st_size if path.is_file() else 0
    # Uncompressed in transport: a range of compressed bytes would not match the bytes in the file.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={received}-"} if received else {})}
    with Session() as session, session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
        if response.status_code == _RANGE_NOT_SATISFIABLE:
            return  # `path` is as long as the file or longer; the checksum tells whether it is the same file
        response.raise_for_status()
        if response.status_code != _PARTIAL_CONTENT:
            received = 0
        length = response.headers.get("Content-Length", "")
        total = received + int(length) if length.isdecimal() else None
        with path.open("ab" if received else "wb") as file:
            for chunk in response.iter_content(_CHUNK):
                stop_if_cancelled(cancel)
                file.write(chunk)
                received += len(chunk)
                if progress is not None:
                    progress(received, total)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _describe_failure(url: str, error: requests.RequestException) -> str:
    if error.response is not None:
        return f"{_host(url)} answers {error.response.status_code} {error.response.reason}; check the address."
    if isinstance(error, requests.exceptions.SSLError):
        return f"The certificate of {_host(url)} cannot be trusted; check the address, or ask who runs it."
    if isinstance(error, requests.exceptions.Timeout):
        return f"{_host(url)} takes too long to answer; try again, and the download goes on where it stopped."
    return f"{_host(url)} cannot be reached or broke off; check the network and try again, and the download goes on."


def _host(url: str) -> str:
    return urlsplit(url).hostname or url

"""HTTP requests to a server: address, key, certificate, timeouts, retries, and a sentence for each kind of failure."""

from __future__ import annotations

import errno
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3.exceptions

from CTSAM3DLib.cancel import CancelEvent, stop_if_cancelled
from CTSAM3DLib.errors import Problem, ServerError
from CTSAM3DLib.loopback import Session, is_loopback
from CTSAM3DLib.remote.protocol import DEFAULT_PORT, PROTOCOL, PROTOCOL_HEADER

CONNECT_S = 5.0
READ_S = 30.0
"""Seconds without a byte; a server responds within a tenth of this, if only with the state so far."""
MAX_BODY_S = 120.0
"""Seconds. Longest time for the body of a response."""
MAX_RESPONSE = 2**20
"""Bytes of a response that holds no mask; the longest lists the server's models with their cards."""
RETRY_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0)
"""Seconds before each retry; in sum as long as a server takes to restart."""
RETRY_WINDOW_S = 60.0
"""Seconds after which no retry starts."""
PARALLEL = 4
"""Concurrent requests."""

_CHUNK = 4096
"""Bytes of a response between two checks of its length, its time and the cancel event."""
_MAX_SENTENCE = 300
_TRANSIENT = (Problem.LOST, Problem.CLOSED_PORT, Problem.TIMEOUT, Problem.BUSY, Problem.PROXY)
# Texts by which versions of OpenSSL report a response that is not TLS.
_PLAIN_HTTP = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")


@dataclass(frozen=True)
class Endpoint:
    """The address of a server, with key and certificate. Raises ServerError for a malformed key or certificate."""

    address: str
    """Base of all URLs, as `complete_address` returns it."""
    key: str | None = None
    ca_file: str | None = None
    """PEM file with the certificate of the server's authority; None: the authorities that the system trusts."""

    def __post_init__(self) -> None:
        if self.key is not None and not (self.key.isascii() and self.key.isprintable() and " " not in self.key):
            raise ServerError(Problem.WRONG_KEY, "The key holds characters that no key has; copy it again.")
        if self.ca_file is None:
            return
        try:
            ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ServerError(
                Problem.UNTRUSTED, f"The certificate file {self.ca_file} cannot be read; give a PEM file."
            ) from error

    @property
    def host(self) -> str:
        """The host's name, without port."""
        return urlsplit(self.address).hostname or ""


def complete_address(address: str) -> str:
    """Complete a user's input to a base URL. Raises ServerError for a malformed address.

    Without a scheme, the scheme is http on this computer and https elsewhere, so that no key crosses a network
    unencrypted by accident, and the port is 8900 unless given. 0.0.0.0, on which servers listen, means this computer.
    """
    text = address.strip()
    bare = "://" not in text
    try:
        parts = urlsplit(f"//{text}" if bare else text)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")  # refuses labels that are empty or too long
    except ValueError as error:
        raise _unreadable(address) from error
    if not host or any(c.isspace() for c in text) or parts.query or parts.fragment or "@" in parts.netloc:
        raise _unreadable(address)
    if not bare and parts.scheme not in ("http", "https"):
        raise _unreadable(address)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    scheme = parts.scheme or ("http" if is_loopback(host) else "https")
    port = DEFAULT_PORT if bare and port is None else port
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"


def _unreadable(address: str) -> ServerError:
    return ServerError(Problem.ADDRESS, f"'{address}' is not a server's address; write one like https://gpu:8900.")


class Connection:
    """Requests to one server. Safe across threads.

    `endpoint` is called before every attempt, since a server on this computer can restart at another port.
    """

    def __init__(self, endpoint: Callable[[], Endpoint]) -> None:
        self._endpoint = endpoint
        self._session = Session()
        self._session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=PARALLEL))
        self._session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=PARALLEL))

    def close(self) -> None:
        """Close the open connections."""
        self._session.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        max_bytes: int = MAX_RESPONSE,
        retry: bool = True,
        cancel: CancelEvent | None = None,
    ) -> bytes:
        """The body of the server's response. All requests are idempotent, so transient failures are retried.

        Args:
            method: HTTP method.
            path: path below the server's address.
            json: body as JSON values.
            data: body as bytes.
            headers: further headers.
            max_bytes: bound on the response.
            retry: whether to retry; False makes one attempt.
            cancel: checked between attempts and while the response arrives.

        Raises:
            ServerError: the request failed; `problem` is the reason.
            Cancelled: `cancel` was set.

        """
        request = _Request(method, path, json, data, dict(headers or {}), max_bytes, cancel)
        end = time.monotonic() + RETRY_WINDOW_S
        for wait in RETRY_PAUSES_S if retry else ():
            try:
                return self._once(request)
            except ServerError as error:
                if error.problem not in _TRANSIENT or time.monotonic() > end:
                    raise
            _pause(wait, cancel)
        return self._once(request)

    def _once(self, request: _Request) -> bytes:
        endpoint = self._endpoint()
        try:
            with self._session.request(
                request.method,
                endpoint.address + request.path,
                json=request.json,
                data=request.data,
                # Masks and tiles are compressed already, and a body that HTTP decompresses could become any length.
                headers={**request.headers, "Accept-Encoding": "identity"},
                auth=_Bearer(endpoint.key),
                timeout=(CONNECT_S, READ_S),
                verify=endpoint.ca_file or True,
                allow_redirects=False,
                stream=True,
            ) as response:
                _check_program(response, endpoint)
                body = _read(response, request, endpoint)
        except requests.RequestException as error:
            raise _connection_error(error, endpoint) from error
        _check_status(response.status_code, body, endpoint)
        return body


@dataclass(frozen=True)
class _Request:
    """A request, the same for every attempt."""

    method: str
    path: str
    json: Any
    data: bytes | None
    headers: dict[str, str]
    max_bytes: int
    cancel: CancelEvent | None


class _Bearer(requests.auth.AuthBase):
    """The key in a header; as an `auth` it takes precedence over a .netrc file, unlike a plain header."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _pause(seconds: float, cancel: CancelEvent | None) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        stop_if_cancelled(cancel)
        time.sleep(min(left, 0.1))
    stop_if_cancelled(cancel)


def _read(response: requests.Response, request: _Request, endpoint: Endpoint) -> bytes:
    """The whole body. Raises ServerError where it is too long or too slow."""
    end = time.monotonic() + MAX_BODY_S
    body = bytearray()
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ServerError(
            Problem.PROXY, f"Something before {endpoint.address} compresses its answers; let it stop that."
        )
    for chunk in response.iter_content(_CHUNK):
        stop_if_cancelled(request.cancel)
        body += chunk
        if len(body) > request.max_bytes:
            raise ServerError(Problem.OTHER_PROGRAM, f"{endpoint.address} answers more than was asked; do not use it.")
        if time.monotonic() > end:
            raise ServerError(Problem.TIMEOUT, f"The answer of {endpoint.address} takes too long; check the network.")
    return bytes(body)


def _check_program(response: requests.Response, endpoint: Endpoint) -> None:
    """Raise ServerError unless the headers are those of a CT-SAM3D server of this protocol."""
    status, at = response.status_code, endpoint.address
    protocol = response.headers.get(PROTOCOL_HEADER, "")
    if not (protocol.isdecimal() and len(protocol) < 10):
        if status == 407:
            raise ServerError(Problem.PROXY, f"A proxy on the way to {at} asks for a password; ask who runs it.")
        if status in (500, 502, 504):  # 500 is Ray Serve's status where a replica died during a request
            raise ServerError(Problem.PROXY, f"A proxy before {at} cannot reach the server ({status}); try later.")
        if status == 503:
            raise ServerError(Problem.BUSY, f"{at} is overloaded or restarting (503); try later.")
        if response.headers.get("Location", "").startswith("https://"):
            raise _needs_https(endpoint)
        raise _other_program(endpoint)
    if int(protocol) < PROTOCOL:
        raise ServerError(Problem.OLDER_SERVER, f"The server at {at} is older than this program; update the server.")
    if int(protocol) > PROTOCOL:
        raise ServerError(Problem.NEWER_SERVER, f"The server at {at} is newer than this program; update this program.")


def _check_status(status: int, body: bytes, endpoint: Endpoint) -> None:
    """Raise ServerError for an error status."""
    at = endpoint.address
    if status < 300:
        return
    sentence = _sentence_of(status, body)
    if status == 401 and endpoint.key is None:
        raise ServerError(Problem.NO_KEY, f"The server at {at} asks for a key; ask who runs it for one.")
    if status == 401:
        raise ServerError(Problem.WRONG_KEY, f"The server at {at} does not know this key, or not any more.")
    if status == 404:
        raise ServerError(Problem.UNKNOWN_VOLUME, sentence)
    if status in (408, 429, 503):
        raise ServerError(Problem.BUSY, sentence)
    raise ServerError(Problem.SERVER_FAULT if status >= 500 else Problem.REFUSED, sentence)


def _sentence_of(status: int, body: bytes) -> str:
    """The sentence in a refusal, as one printable line of bounded length, since the server is not trusted."""
    try:
        sentence = " ".join(json.loads(body)["detail"].split())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return f"The server refused without a reason ({status})."
    plain = "".join(character for character in sentence if character.isprintable())
    return plain if len(plain) <= _MAX_SENTENCE else plain[:_MAX_SENTENCE] + "…"


def _connection_error(error: requests.RequestException, endpoint: Endpoint) -> ServerError:
    """The ServerError for a failed connection."""
    at, host = endpoint.address, endpoint.host
    if isinstance(error, requests.exceptions.ProxyError):
        return ServerError(Problem.PROXY, f"The proxy on the way to {at} does not work; check the proxy settings.")
    if isinstance(error, requests.exceptions.SSLError):
        return _tls_error(error, endpoint)
    if isinstance(error, requests.exceptions.Timeout):
        return ServerError(Problem.TIMEOUT, f"{at} does not answer in time; check the address and the network.")
    causes = list(_causes(error))
    if any(isinstance(cause, (socket.gaierror, urllib3.exceptions.NameResolutionError)) for cause in causes):
        return ServerError(
            Problem.UNKNOWN_HOST, f"There is no computer called '{host}' in the network; check the name."
        )
    if any(isinstance(cause, urllib3.exceptions.NewConnectionError) for cause in causes):
        refused = any(getattr(cause, "errno", None) == errno.ECONNREFUSED for cause in causes)
        how = "nothing listens there" if refused else "there is no way there"
        return ServerError(
            Problem.CLOSED_PORT, f"{at} cannot be reached, {how}; check the address, and whether it runs."
        )
    if isinstance(error, (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        if at.startswith("http://") and _speaks_tls(endpoint):
            return _needs_https(endpoint)
        if any("BadStatusLine" in repr(cause) for cause in causes):
            return _other_program(endpoint)
        return ServerError(Problem.LOST, f"The connection to {at} broke; try again.")
    return ServerError(Problem.ADDRESS, f"{at} cannot be used as an address ({type(error).__name__}).")


def _tls_error(error: requests.exceptions.SSLError, endpoint: Endpoint) -> ServerError:
    at = endpoint.address
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = str(cause.verify_message).rstrip(".")
            of_its_own = "self" in reason or "issuer" in reason
            fix = "give its authority's certificate as a file" if of_its_own else "ask who runs it"
            return ServerError(Problem.UNTRUSTED, f"The certificate of {at} is not trusted ({reason}); {fix}.")
        text = str(cause).upper().replace(" ", "_")
        if isinstance(cause, ssl.SSLError) and any(sign in text for sign in _PLAIN_HTTP):
            plain = at.replace("https://", "http://", 1)
            return ServerError(Problem.NEEDS_HTTP, f"{at} does not speak https; write {plain}, or let it speak https.")
    return ServerError(Problem.TLS, f"No encrypted connection to {at} could be made; ask who runs it.")


def _other_program(endpoint: Endpoint) -> ServerError:
    if endpoint.address.startswith("http://") and _speaks_tls(endpoint):
        return _needs_https(endpoint)
    return ServerError(
        Problem.OTHER_PROGRAM, f"What answers at {endpoint.address} is not a CT-SAM3D server; check address and port."
    )


def _needs_https(endpoint: Endpoint) -> ServerError:
    address = endpoint.address.replace("http://", "https://", 1)
    return ServerError(Problem.NEEDS_HTTPS, f"{endpoint.address} speaks https; write {address}.")


def _speaks_tls(endpoint: Endpoint) -> bool:
    """Whether a TLS handshake succeeds, with any certificate; no request is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    port = urlsplit(endpoint.address).port or 80
    try:
        with (
            socket.create_connection((endpoint.host, port), CONNECT_S) as plain,
            context.wrap_socket(plain, server_hostname=endpoint.host),
        ):
            return True
    except OSError:  # of which ssl.SSLError is one
        return False


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all its causes, which the libraries keep in three different places."""
    waiting: list[Any] = [error]
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            waiting += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]

"""The exceptions that a user can cause. The message of each is one sentence that says what is wrong and how to fix it.

    CTSAM3DError
    ├── VolumeError          an image that cannot be used
    ├── ClickError           clicks that cannot be used
    ├── ModelError           a model that cannot be used
    ├── OutputError          a file that cannot be written
    ├── MemoryForecastError  more memory needed than there is
    ├── ServerError          a server that cannot be used, with a `Problem`
    └── Cancelled            the user's wish, not a failure

The command line, the Slicer effect and the server show the messages as they are. Any other exception is a bug.
"""

from enum import Enum


class CTSAM3DError(Exception):
    """Base of all errors that a user can cause; the message is one sentence for the user."""


class VolumeError(CTSAM3DError):
    """The image cannot be used: unreadable, not a CT, not three-dimensional, or with an invalid geometry."""


class ClickError(CTSAM3DError):
    """The clicks cannot be used: none, none positive, outside the volume, or an unreadable file of clicks."""


class ModelError(CTSAM3DError):
    """The model cannot be used: an unknown name, a file of another kind, missing or misshapen tensors."""


class OutputError(CTSAM3DError):
    """The result cannot be written: no folder, no permission, a full disk, or an unknown format."""


class AfterMaskError(CTSAM3DError):
    """The mask is written; something that comes after it, such as its picture, failed."""


class MemoryForecastError(CTSAM3DError):
    """The work needs more memory than is free."""


class Problem(Enum):
    """A machine-readable reason for a failure between client and server, so that a user interface can offer a fix."""

    ADDRESS = "address"
    """The address cannot be read."""
    UNKNOWN_HOST = "unknown host"
    CLOSED_PORT = "closed port"
    """Nothing listens there."""
    TIMEOUT = "timeout"
    PROXY = "proxy"
    LOST = "lost"
    """The connection broke at every attempt."""
    NEEDS_HTTPS = "needs https"
    """The server speaks https, and the address says http."""
    NEEDS_HTTP = "needs http"
    """The server speaks http, and the address says https."""
    UNTRUSTED = "untrusted certificate"
    TLS = "tls"
    """The encrypted connection failed for another reason."""
    OTHER_PROGRAM = "other program"
    """Another program than a CT-SAM3D server responds."""
    OLDER_SERVER = "older server"
    NEWER_SERVER = "newer server"
    NO_KEY = "no key"
    WRONG_KEY = "wrong key"
    UNKNOWN_VOLUME = "unknown volume"
    """The volume is not registered at the server, or not any more."""
    BUSY = "busy"
    REFUSED = "refused"
    """The server refused a valid request."""
    SERVER_FAULT = "server fault"
    NOT_STARTED = "not started"
    """A server on this computer did not start."""


class ServerError(CTSAM3DError):
    """A server cannot be used; `problem` is the reason."""

    def __init__(self, problem: Problem, message: str) -> None:
        super().__init__(message)
        self.problem = problem


class Cancelled(CTSAM3DError):  # noqa: N818 - a wish of the user's, not a failure
    """The user cancelled; the session is as it was before the call."""

"""What can go wrong, each said in one sentence that names the mend.

Every error that a user can cause is a `CTSAM3DError`; its text is shown as it is by the command line, the Slicer
effect and the server. Anything else that is raised is a defect of ours.
"""

from enum import Enum


class CTSAM3DError(Exception):
    """Base of every error that a user can cause; the message is one sentence for that user."""


class VolumeError(CTSAM3DError):
    """The image cannot be used: unreadable, not a CT, not three-dimensional, a broken geometry."""


class ClickError(CTSAM3DError):
    """The clicks cannot be used: none, none positive, outside the volume, or an unreadable file of clicks."""


class ModelError(CTSAM3DError):
    """The model cannot be used: unknown name, a file of another kind, missing or misshapen tensors."""


class OutputError(CTSAM3DError):
    """The result cannot be written: no such folder, no permission, a full disk, an unknown format."""


class MemoryForecastError(CTSAM3DError):
    """The work would need more memory than the computer has left."""


class Problem(Enum):
    """What is wrong between a client and a server, for programs that offer a mend."""

    ADDRESS = "address"
    """The address cannot be read."""
    UNKNOWN_HOST = "unknown host"
    CLOSED_PORT = "closed port"
    """Nothing listens there."""
    TIMEOUT = "timeout"
    PROXY = "proxy"
    LOST = "lost"
    """The connection broke, and again at every new try."""
    NEEDS_HTTPS = "needs https"
    """The server speaks https, and the address says http."""
    NEEDS_HTTP = "needs http"
    """The server speaks http, and the address says https."""
    UNTRUSTED = "untrusted certificate"
    TLS = "tls"
    """The encrypted connection failed for another reason."""
    OTHER_PROGRAM = "other program"
    """What answers is not a CT-SAM3D server."""
    OLDER_SERVER = "older server"
    NEWER_SERVER = "newer server"
    NO_KEY = "no key"
    WRONG_KEY = "wrong key"
    UNKNOWN_VOLUME = "unknown volume"
    """The server has forgotten the volume, or never knew it."""
    BUSY = "busy"
    REFUSED = "refused"
    """The server understood, and says no."""
    SERVER_FAULT = "server fault"
    NOT_STARTED = "not started"
    """A server on this computer did not start."""


class ServerError(CTSAM3DError):
    """A server cannot be used; `problem` tells which way."""

    def __init__(self, problem: Problem, message: str) -> None:
        super().__init__(message)
        self.problem = problem


class Cancelled(CTSAM3DError):  # noqa: N818 - a wish of the user's, not a failure
    """The user cancelled; the session is as it was before the call."""

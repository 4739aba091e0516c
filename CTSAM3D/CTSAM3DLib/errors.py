"""What can go wrong, each said in one sentence that names the mend.

Every error that a user can cause is a `CTSAM3DError`; its text is shown as it is by the command line, the Slicer
effect and the server. Anything else that is raised is a defect of ours.
"""


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


class Cancelled(CTSAM3DError):  # noqa: N818 - a wish of the user's, not a failure
    """The user cancelled; the session is as it was before the call."""

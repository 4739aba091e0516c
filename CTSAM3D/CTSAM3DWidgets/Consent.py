"""Consent, once for each server: nothing of a CT is sent before."""

from __future__ import annotations

from urllib.parse import urlsplit

import slicer
from slicer.i18n import tr as _

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.loopback import is_loopback
from CTSAM3DWidgets.Settings import Server, Settings


def ensureConsent(server: Server, settings: Settings) -> None:
    """Return if the user has agreed or agrees now that parts of CTs go to this server. Raises CTSAM3DError."""
    if server.consented:
        return
    agreed = slicer.util.confirmOkCancelDisplay(_question(server.address), _("CT-SAM3D: send to a server"))
    settings.setConsent(server.address, bool(agreed))
    if not agreed:
        raise CTSAM3DError(
            _("Nothing was sent to {address}; agree, or choose This computer, and try again.").format(
                address=server.address
            )
        )


def _question(address: str) -> str:
    question = _(
        "Send parts of your CTs to {address}? Patches of the image around your clicks are sent, with their position "
        "and spacing, and the clicks; names, dates and other data of the patient are not. Whoever runs the server can "
        "see what is sent."
    ).format(address=address)
    parts = urlsplit(address)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        question += "\n\n" + _("The connection is not encrypted: others on the network could read it. Prefer https.")
    return question

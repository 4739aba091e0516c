"""Which hosts are this computer, so that neither a proxy, nor encryption, nor consent lies between."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import requests


def is_loopback(host: str) -> bool:
    """Whether a server at this host name or address is reached from its own computer only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Session(requests.Session):
    """All requests of ours: those to this computer pass by any proxy of the environment or the system.

    A proxy cannot reach this computer, and would be sent the keys of its servers. Linting refuses `requests.get` and
    the like, and a plain `requests.Session`.
    """

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """What a request takes from the environment, without its proxies where the address is this computer's."""
        settings = super().merge_environment_settings(url, proxies, stream, verify, cert)
        if is_loopback(urlsplit(url).hostname or ""):
            settings["proxies"] = {}
        return settings

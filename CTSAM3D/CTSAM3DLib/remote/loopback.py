"""Which hosts are this computer, so that neither a proxy, nor encryption, nor consent lies between."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a server at this host name or address is reached from its own computer only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""Whether an address or a name stays on this machine. It asks no name server."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Tell whether a host stays on this machine: `localhost`, or an address of the loopback interface."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""Whether the meter that answers is the one that was installed: serial numbers as people write them."""


def same_serial(shown: str, installed: str) -> bool:
    """Tell whether two serial numbers are the same, leading zeros, spaces and the case of letters aside."""
    return _plain(shown) == _plain(installed)


def _plain(serial: str) -> str:
    return "".join(serial.split()).lstrip("0").casefold()

"""Reading an APDU field by field, with every end of the input a `FrameError`. Not the fields' meaning."""

from collector.protocols.dlms import axdr
from metering.errors import FrameError


class Cursor:
    """A place in an APDU. Each method reads one field and moves behind it; all raise `FrameError`."""

    __slots__ = ("at", "buffer")

    def __init__(self, buffer: bytes, at: int = 0) -> None:
        self.buffer = buffer
        self.at = at

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes."""
        end = self.at + length
        if end > len(self.buffer):
            raise FrameError(f"the APDU ends early: {length} bytes wanted, {len(self.buffer) - self.at} left")
        taken = self.buffer[self.at : end]
        self.at = end
        return taken

    def u8(self) -> int:
        """Return one octet."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Return two octets, high first."""
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        """Return four octets, high first."""
        return int.from_bytes(self.take(4), "big")

    def flag(self) -> bool:
        """Return a BOOLEAN, or whether an OPTIONAL field is there."""
        return self.u8() != 0

    def count(self) -> int:
        """Return the count of a SEQUENCE OF, whose elements take an octet each at least."""
        count, self.at = axdr.read_length(self.buffer, self.at)
        if count > len(self.buffer) - self.at:
            raise FrameError(f"the APDU tells of {count} elements in {len(self.buffer) - self.at} bytes")
        return count

    def octets(self) -> bytes:
        """Return an OCTET STRING: its length and as many bytes."""
        length, self.at = axdr.read_length(self.buffer, self.at)
        return self.take(length)

    def data(self) -> axdr.Data:
        """Return a Data value."""
        data, self.at = axdr.decode(self.buffer, self.at)
        return data

    def rest(self) -> bytes:
        """Return everything that is left."""
        return self.take(len(self.buffer) - self.at)

    def expect(self, value: int, what: str) -> None:
        """Read an octet that must have this value."""
        got = self.u8()
        if got != value:
            raise FrameError(f"{what}: {value:02X} expected, {got:02X} came")

    def end(self) -> None:
        """Check that nothing follows."""
        if self.at != len(self.buffer):
            raise FrameError(f"{len(self.buffer) - self.at} bytes too many behind the APDU")


def octet_string(content: bytes) -> bytes:
    """Return an OCTET STRING: length and content."""
    return axdr.encode_length(len(content)) + content

"""The gateway's durable record of supply commands: what it took, meant to do and did. It decides nothing.

An append-only file: each record has its length and CRC and is on the disk when the call returns; a torn one at the end
was never acted upon. The last word about each thing counts. It is written anew, whole, when it has grown.
"""

import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from gateway.supply.items import Cut, Floor, Held, Item, KeptLimit, LastSeq, Opening, Refused
from metering.errors import StorageError
from metering.model import SECOND
from metering.supply import MAX_VALIDITY_S, Action, SupplyCommand
from metering.supply_states import FINAL
from storage.files import replace_file, sync_directory, write_all

MAX_OPEN = 20_000  # commands that are not at their end; a further one is refused
MAX_READS = 2_000  # reads of a state that are remembered; nobody signs them
MAX_REFUSED = 20_000  # commands told as refused that are remembered one by one
READS_KEPT_S = 3_600
KEPT_S = 2 * MAX_VALIDITY_S  # how long the ends of commands and their nonces are kept
CUTS_KEPT_S = 2 * 86_400
COMPACT_BYTES = 8 << 20  # a file that has grown so far since it was written anew is written anew
MAX_RECORD = 64 << 10
_HEAD = struct.Struct("<II")


_decoder = msgspec.msgpack.Decoder(list[Item])


class Record:
    """One gateway's record in a file. Blocking: callers on the loop use a thread, one at a time.

    Raises:
        StorageError: the file cannot be read, or is damaged before its end.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.held: dict[str, Held] = {}
        self.openings: dict[str, Opening] = {}  # supplies that are open, by device
        self.limited: dict[str, Opening] = {}  # and those that are limited
        self.limits: dict[str, KeptLimit] = {}
        self.floor = 0
        self._cuts: dict[str, int] = {}
        self._seqs: dict[tuple[str, bool], int] = {}  # by device, and whether of services
        self._nonces: dict[str, str] = {}  # nonce -> command
        self._commands: dict[str, SupplyCommand] = {}
        self._open: dict[str, Held] = {}
        self._at: dict[str, set[str]] = {}  # meter point -> commands that are not at their end
        self._refused: dict[str, int] = {}
        self._refused_floor = 0
        self._size = 0
        self._anew_at = COMPACT_BYTES
        self._load()

    def put(self, *items: Item) -> None:
        """Make items durable, all of them or none, and take them up.

        Raises:
            StorageError: the disk refused; nothing counts.

        """
        raw = msgspec.msgpack.encode(list(items))
        if len(raw) > MAX_RECORD:
            raise StorageError(f"a record of {len(raw)} bytes; the limit is {MAX_RECORD}", retry=False)
        data = _HEAD.pack(len(raw), zlib.crc32(raw)) + raw
        try:
            if not self._size:
                self._path.parent.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                write_all(fd, data, self._size)
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error.strerror}", retry=True) from None
        if not self._size:
            sync_directory(self._path.parent)
        self._size += len(data)
        self._take(items)

    def open_items(self) -> list[tuple[str, Held]]:
        """Return ids and commands that are not at their end, in the order in which they were taken."""
        return list(self._open.items())

    def opening(self, device: str, *, limit: bool) -> Opening | None:
        """Return why a device's supply is open, or limited; None: it is not, as far as this record knows."""
        return (self.limited if limit else self.openings).get(device)

    @property
    def open_count(self) -> int:
        """Return how many commands are not at their end."""
        return len(self._open)

    def command(self, name: str) -> SupplyCommand:
        """Return a command that is held. Raises `KeyError`."""
        return self._commands[name]

    def open_at(self, point: str) -> list[tuple[SupplyCommand, Held]]:
        """Return the commands for a meter point that are not at their end, in the order of their numbers."""
        found = [(self._commands[name], self._open[name]) for name in self._at.get(point, ())]
        return sorted(found, key=lambda each: each[0].seq)

    def is_spent(self, nonce: str) -> str:
        """Return the command that had this nonce; empty where it is fresh."""
        return self._nonces.get(nonce, "")

    def was_refused(self, command: SupplyCommand) -> bool:
        """Tell whether a command was told as refused, or may have been: what is sent is past its `not_before`."""
        return command.id in self._refused or command.not_before <= self._refused_floor

    def last_seq(self, device: str, *, of_services: bool = False) -> int:
        """Return the highest seq that was taken for a device: of commands of people, or of services alone."""
        return self._seqs.get((device, of_services), 0)

    @property
    def reads(self) -> int:
        """Return how many reads of a state are remembered."""
        return sum(each.action is Action.READ_STATE for each in self._commands.values())

    def cuts_since(self, instant: int) -> int:
        """Return how many withholding orders left since then. One in the future counts: a clock was put back."""
        return sum(at >= instant for at in self._cuts.values())

    def served_since(self, instant: int) -> int:
        """Return at how many meters services alone gave back since then, or are to: a turn without an order is free."""
        of_services = ((name, each) for name, each in self.held.items() if each.service and each.act_at >= instant)
        return len({self._commands[name].device for name, each in of_services if each.does or each.state not in FINAL})

    def of_services_since(self, device: str, instant: int) -> int:
        """Return how many commands of services alone came for a device since then."""
        of_services = (name for name, each in self.held.items() if each.service and each.taken_at >= instant)
        return sum(self._commands[name].device == device for name in of_services)

    def tidy(self, now: int) -> None:
        """Forget what is long over, and write the file anew where it has grown. Raises `StorageError`.

        A limit whose end is still to come is not over.
        """
        needed = {each.command for each in self.limits.values()}
        needed |= {each.earlier[0] for each in self.limits.values() if each.earlier is not None}
        gone = [
            name
            for name, each in self.held.items()
            if name not in needed and each.state in FINAL and _over_since(self._commands[name], each) < now
        ]
        for name in gone:
            del self.held[name]
            command = self._commands.pop(name)
            if command.action is not Action.READ_STATE:  # its nonce counts for nothing
                self.floor = max(self.floor, command.expires_at)
                self._nonces.pop(command.nonce, None)
        before = now - CUTS_KEPT_S * SECOND
        self._cuts = {name: at for name, at in self._cuts.items() if at >= before}
        for name in [name for name, at in self._refused.items() if at + KEPT_S * SECOND < now]:
            self._forget_refused(name)
        if gone or self._size > self._anew_at:
            self._rewrite()

    def _rewrite(self) -> None:
        items: list[Item] = [Floor(self.floor), *self.held.values(), *self.limits.values()]
        items += [*self.openings.values(), *self.limited.values()]
        items += [Cut(name, at) for name, at in self._cuts.items()]
        items += [LastSeq(device, seq, of_service) for (device, of_service), seq in self._seqs.items()]
        items += [Refused("", self._refused_floor), *(Refused(name, at) for name, at in self._refused.items())]
        data = b"".join(
            _HEAD.pack(len(raw), zlib.crc32(raw)) + raw for raw in (msgspec.msgpack.encode([item]) for item in items)
        )
        try:
            replace_file(self._path, data)
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error.strerror}", retry=True) from None
        self._size = len(data)
        self._anew_at = len(data) + COMPACT_BYTES

    def _load(self) -> None:
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"{self._path} cannot be read: {error.strerror}", retry=False) from None
        at = 0
        while at + _HEAD.size <= len(raw):
            length, crc = _HEAD.unpack_from(raw, at)
            body = raw[at + _HEAD.size : at + _HEAD.size + length]
            if len(body) < length or zlib.crc32(body) != crc:
                break
            self._take(_decoder.decode(body))
            at += _HEAD.size + length
        if len(raw) - at > MAX_RECORD + _HEAD.size:
            raise StorageError(
                f"{self._path} is damaged at byte {at}: supply commands wait until somebody has looked", retry=False
            )
        self._size = at
        self._anew_at = at + COMPACT_BYTES

    def _take(self, items: Iterable[Item]) -> None:
        for item in items:
            match item:
                case Held():
                    self._take_held(item)
                case Opening():
                    _keep(self.limited if item.limit else self.openings, item)
                case KeptLimit():
                    _keep(self.limits, item)
                case Cut():
                    self._cuts[item.command] = item.at
                case Floor():
                    self.floor = max(self.floor, item.expires_at)
                case LastSeq():
                    self._take_seq(item.device, item.seq, of_service=item.of_service)
                case Refused():
                    self._take_refused(item)

    def _take_refused(self, item: Refused) -> None:
        if not item.command:
            self._refused_floor = max(self._refused_floor, item.at)
            return
        self._refused[item.command] = item.at
        if len(self._refused) > MAX_REFUSED:
            self._forget_refused(next(iter(self._refused)))

    def _forget_refused(self, name: str) -> None:
        self._refused_floor = max(self._refused_floor, self._refused.pop(name))

    def _take_held(self, item: Held) -> None:
        command = item.command
        self.held[command.id] = item
        self._commands[command.id] = command
        if item.state in FINAL:
            self._open.pop(command.id, None)
            self._at.get(command.point, set()).discard(command.id)
        else:
            self._open[command.id] = item
            self._at.setdefault(command.point, set()).add(command.id)
        if command.action is not Action.READ_STATE:
            self._nonces[command.nonce] = command.id
            self._take_seq(command.device, command.seq, of_service=bool(item.service))

    def _take_seq(self, device: str, seq: int, *, of_service: bool) -> None:
        self._seqs[device, of_service] = max(self.last_seq(device, of_services=of_service), seq)


def _over_since(command: SupplyCommand, held: Held) -> int:
    """Return when a command that has ended may be forgotten (us UTC)."""
    if command.action is Action.READ_STATE:
        return held.changed_at + READS_KEPT_S * SECOND
    return max(command.expires_at, held.changed_at) + KEPT_S * SECOND


def _keep(into: dict[str, Opening] | dict[str, KeptLimit], item: Opening | KeptLimit) -> None:
    """Keep the last word about a device; one without a command says that it is over."""
    if item.command:
        into[item.device] = item  # type: ignore[assignment]  # both dictionaries hold what they are called with
    else:
        into.pop(item.device, None)

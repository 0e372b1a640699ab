"""COSEM objects as a simulated meter has them: attributes that are read, written and acted on, by rights. No APDUs.

Blue Book classes are tables of callables here: an object says for each attribute where its value comes from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from collector.protocols.dlms.axdr import Data, Tag, array, enum_, i8, octets, structure, u8, u16
from collector.protocols.dlms.references import Access, DataAccessResult, logical_name


class Role(IntEnum):
    """Who asks, each may do what those before it may: the public client, a reader, the management client."""

    PUBLIC = 0
    READER = 1
    MANAGER = 2


class Denied(Exception):  # noqa: N818 - it is an answer of the meter, not a fault
    """The object refuses; `result` is the code that the client is told (data-access-result, action-result alike)."""

    def __init__(self, result: DataAccessResult) -> None:
        super().__init__(result.name)
        self.result = result


class Ask(NamedTuple):
    """One access: when (us), by whom, with which selective access, and the client's address."""

    now: int
    role: Role = Role.MANAGER
    access: Access | None = None
    client: int = 1


Reader = Callable[[Ask], Data]
Writer = Callable[[Ask, Data], None]
Action = Callable[[Ask, Data | None], Data | None]

# Access modes of the object list (Blue Book class 15 attribute 2), version 1.
_MODE = {(False, False): 0, (True, False): 1, (False, True): 2, (True, True): 3}
NAME = 1  # attribute 1 of every class


@dataclass(frozen=True)
class CosemObject:
    """One object. `read`, `write` and `act` are by attribute or method number; attribute 1 is always the name.

    `least` may read, `changer` may write and act. `selective` names the attributes that take selective access.
    """

    class_id: int
    obis: str
    read: Mapping[int, Reader | Data]
    write: Mapping[int, Writer] = field(default_factory=dict)
    act: Mapping[int, Action] = field(default_factory=dict)
    version: int = 0
    least: Role = Role.READER
    changer: Role = Role.MANAGER
    selective: tuple[int, ...] = ()

    def get(self, attribute: int, ask: Ask) -> Data:
        """Return an attribute's value. Raises `Denied`: not there, or not for this client."""
        if ask.role < self.least:
            raise Denied(DataAccessResult.READ_WRITE_DENIED)
        if ask.access is not None and attribute not in self.selective:
            raise Denied(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED)
        if attribute == NAME:
            return octets(logical_name(self.obis))
        source = self.read.get(attribute)
        if source is None:
            known = attribute in self.write
            raise Denied(DataAccessResult.READ_WRITE_DENIED if known else DataAccessResult.OBJECT_UNDEFINED)
        return source if isinstance(source, Data) else source(ask)

    def set(self, attribute: int, value: Data, ask: Ask) -> None:
        """Write an attribute. Raises `Denied`: not there, not writable, not for this client, or a wrong type."""
        if attribute != NAME and attribute not in self.read and attribute not in self.write:
            raise Denied(DataAccessResult.OBJECT_UNDEFINED)
        writer = self.write.get(attribute)
        if writer is None or ask.role < self.changer:
            raise Denied(DataAccessResult.READ_WRITE_DENIED)
        writer(ask, value)

    def do(self, method: int, parameter: Data | None, ask: Ask) -> Data | None:
        """Act, and return what the method returns. Raises `Denied`: not there, not for this client, or not now."""
        action = self.act.get(method)
        if action is None:
            raise Denied(DataAccessResult.OBJECT_UNDEFINED)
        if ask.role < self.changer:
            raise Denied(DataAccessResult.READ_WRITE_DENIED)
        return action(ask, parameter)

    def listed(self, role: Role) -> Data:
        """Return the entry of the object list: class, version, name, and the rights of a client of this role."""
        numbers = sorted({NAME, *self.read, *self.write})
        attributes = []
        for number in numbers:
            readable = role >= self.least and (number == NAME or number in self.read)
            mode = _MODE[readable, role >= self.changer and number in self.write]
            selectors = array(i8(1), i8(2)) if number in self.selective else Data(Tag.NULL, None)
            attributes.append(structure(i8(number), enum_(mode), selectors))
        allowed = role >= self.changer
        methods = [structure(i8(number), enum_(int(allowed))) for number in sorted(self.act)]
        rights = structure(array(*attributes), array(*methods))
        return structure(u16(self.class_id), u8(self.version), octets(logical_name(self.obis)), rights)


Objects = dict[str, CosemObject]  # by OBIS code, full form


def find(objects: Objects, class_id: int, obis: str) -> CosemObject:
    """Return the object. Raises `Denied`: there is none of this name, or it is of another class."""
    found = objects.get(obis)
    if found is None:
        raise Denied(DataAccessResult.OBJECT_UNDEFINED)
    if found.class_id != class_id:
        raise Denied(DataAccessResult.OBJECT_CLASS_INCONSISTENT)
    return found


def typed(value: Data | None, *tags: Tag) -> Data:
    """Return the value if it has one of the tags. Raises `Denied`: type unmatched."""
    if value is None or value.tag not in tags:
        raise Denied(DataAccessResult.TYPE_UNMATCHED)
    return value


# --- the plain classes -----------------------------------------------------------------------------------------------


def data(obis: str, value: Reader | Data, *, least: Role = Role.READER) -> CosemObject:
    """Return an object of class 1, data: 2 value."""
    return CosemObject(1, obis, {2: value}, least=least)


def scaler_unit(scaler: int, unit: int) -> Data:
    """Return an attribute scaler_unit."""
    return structure(i8(scaler), enum_(unit))


def register(obis: str, value: Reader, scaler: int, unit: int) -> CosemObject:
    """Return an object of class 3, register: 2 value, 3 scaler_unit."""
    return CosemObject(3, obis, {2: value, 3: scaler_unit(scaler, unit)})

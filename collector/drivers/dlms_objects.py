"""Reads whole COSEM objects of a meter (its switch, limiter, calendar, the list of what it has). Changes nothing."""

from typing import TypeVar

from collector.capabilities import Talk
from collector.drivers.dlms_talk import NOT_THERE, own_talk
from collector.protocols.dlms.axdr import Data
from collector.protocols.dlms.object_parts import CosemValue
from collector.protocols.dlms.objects import ListedObject, parse_object_list
from collector.protocols.dlms.references import Attribute, DataAccessResult
from collector.protocols.dlms.refusals import refused

ASSOCIATION_CLASS = 15
CURRENT_ASSOCIATION = "0-0:40.0.0*255"
OBJECT_LIST = 2

V = TypeVar("V", bound=CosemValue)


async def read_object(talk: Talk, kind: type[V], obis: str) -> V:
    """Return the object of this class and code.

    Raises:
        RefusedError: the meter has it not, or does not show it to this client.
        FrameError: it is not what its class says.
        MeterError: as `DlmsTalk.run`.

    """
    own = own_talk(talk)
    places = [Attribute(kind.CLASS_ID, obis, number) for number in kind.ATTRIBUTES]
    answers = (await own.run(own.session.get_list(places))).value
    values: dict[int, Data] = {}
    for place, answer in zip(places, answers, strict=True):
        if not isinstance(answer, DataAccessResult):
            values[place.attribute] = answer
        elif place.attribute not in kind.OPTIONAL or answer not in NOT_THERE:
            raise refused(place, answer)
    return kind.of(values)


async def read_object_list(talk: Talk) -> tuple[ListedObject, ...]:
    """Return the objects that this association may see, with its rights. Raises as `read_object`."""
    own = own_talk(talk)
    timed = await own.run(own.session.get(Attribute(ASSOCIATION_CLASS, CURRENT_ASSOCIATION, OBJECT_LIST)))
    return parse_object_list(timed.value)

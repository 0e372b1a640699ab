"""One number in an MQTT message: where it stands, whether it is there, and its exact value. Knows no topic, no time."""

from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import NamedTuple

from collector.mqtt_profile import ChannelSpec, MessageSpec
from collector.protocols.json_text import decode_number, quote
from metering.errors import FrameError
from metering.model import Column, Kind
from metering.quality import Quality

LARGEST_STORED = 2**63 - 1  # what every store and wire keeps as an integer
BINARY_NOISE = Decimal(2) ** -50  # a few units in the last place of a double (2^-53), relative
ABSENT = object()  # what stands at a path that the message does not have

_EXACT = Context(prec=100, traps=[Inexact, InvalidOperation])


class Channel(NamedTuple):
    """A channel of a profile with the meter's parameters filled in."""

    position: int  # among the channels of its message
    path: tuple[str, ...]
    column: Column
    kind: Kind
    multiplier: Decimal  # from the device's number to the stored integer
    lowest: Decimal | None
    highest: Decimal | None
    sentinels: frozenset[Decimal]
    required: bool
    may_be_list: bool  # another channel reads its elements
    may_be_scalar: bool  # an element, while another channel reads the whole as one number


def compile_channels(specs: list[ChannelSpec], paths: list[tuple[str, ...]]) -> tuple[Channel, ...]:
    """Return the channels of one message; `paths` are theirs, in the same order."""
    known = set(paths)
    parents = {path[:-1] for path in paths if path and path[-1].isdecimal()}
    pairs = zip(specs, paths, strict=True)
    return tuple(_channel(index, spec, path, known, parents) for index, (spec, path) in enumerate(pairs))


def _channel(
    index: int, spec: ChannelSpec, path: tuple[str, ...], known: set[tuple[str, ...]], parents: set[tuple[str, ...]]
) -> Channel:
    column = Column(spec.obis, spec.unit, -spec.decimals, "int")
    lowest, highest = (bound.scaleb(spec.decimals) for bound in spec.range) if spec.range else (None, None)
    is_element = bool(path) and path[-1].isdecimal()
    return Channel(
        index,
        path,
        column,
        spec.true_kind,
        spec.factor.scaleb(spec.decimals),
        lowest,
        highest,
        frozenset(spec.sentinels),
        spec.required,
        path in parents,
        is_element and path[:-1] in known,
    )


def find(root: object, path: tuple[str, ...]) -> object:
    """Return what stands at the path, or `ABSENT`."""
    node = root
    for name in path:
        if isinstance(node, dict):
            node = node.get(name, ABSENT)
        elif isinstance(node, list) and name.isdecimal():
            node = node[int(name)] if int(name) < len(node) else ABSENT
        else:
            return ABSENT
    return node


def value_at(root: object, channel: Channel) -> object:
    """Return the value for a channel, or `ABSENT` where the message does not have it.

    Raises:
        FrameError: something stands in its way that is neither an object nor null, or it is required.

    """
    node = root
    for position, name in enumerate(channel.path):
        if isinstance(node, dict):
            node = node.get(name, ABSENT)
        elif isinstance(node, list) and name.isdecimal():
            node = node[int(name)] if int(name) < len(node) else ABSENT
        elif node is None or (channel.may_be_scalar and position == len(channel.path) - 1):
            node = ABSENT
        else:
            where = ".".join(channel.path[:position])
            raise FrameError(f"{where or 'the payload'} is {quote(node)}, where {quote(name)} was to be found in it")
        if node is ABSENT:
            break
    if channel.may_be_list and isinstance(node, list):
        node = ABSENT
    if node is ABSENT and channel.required:
        raise FrameError(f"{'.'.join(channel.path)} is missing")
    return node


def read_value(channel: Channel, value: object, root: object, spec: MessageSpec) -> tuple[int | None, Quality]:
    """Return the stored integer and its quality; no value (None) where the device says that it has none.

    Raises:
        FrameError: not a number, in another unit, or with more digits than the channel keeps.

    """
    where = f"{'.'.join(channel.path)}: " if channel.path else ""
    if value is None:
        return None, Quality.NOT_AVAILABLE
    try:
        number = decode_number(value, strings=spec.strings or spec.format == "number")
    except FrameError as error:
        raise FrameError(f"{where}{error}") from None
    if spec.unit_key:
        unit = find(root, (*channel.path[:-1], spec.unit_key))
        if unit != channel.column.unit:
            said = "without a unit" if unit is ABSENT else f"in {quote(unit)}"
            raise FrameError(f"{where}{said}, where {channel.column.unit!r} is agreed")
    if number in channel.sentinels:
        return None, Quality.NOT_AVAILABLE
    exact = _EXACT.multiply(number, channel.multiplier)
    stored = int(exact.to_integral_value())
    if stored != exact and not (spec.binary and abs(exact - stored) <= abs(exact) * BINARY_NOISE):
        decimals = -channel.column.scale
        raise FrameError(f"{where}{quote(number)} has more digits than the {decimals} decimals kept in the channel")
    if abs(stored) > LARGEST_STORED:
        raise FrameError(f"{where}{quote(number)} is larger than any meter's register")
    outside = (
        channel.lowest is not None and channel.highest is not None and not channel.lowest <= stored <= channel.highest
    )
    return stored, Quality.OUT_OF_RANGE if outside else Quality.VALID

"""Targets for A-XDR, APDUs and ACSE, and for a session whose meter says anything: named errors, nothing else."""

import contextlib

from collector.keys import MeterKeys
from collector.protocols.dlms import acse, axdr
from collector.protocols.dlms.apdu import parse_apdu
from collector.protocols.dlms.association import Association, Negotiated
from collector.protocols.dlms.get import GetResponse
from collector.protocols.dlms.notify import parse_notification
from collector.protocols.dlms.references import Attribute
from collector.protocols.dlms.session import Session, State
from metering.errors import MeterError

_ENERGY = Attribute(3, "1-0:1.8.0*255", 2)


def fuzz_axdr(data: bytes) -> None:
    """Read a value; what was read is written, and is the same again."""
    with contextlib.suppress(MeterError):
        value, _ = axdr.decode(data)
        again = axdr.encode(value)
        assert axdr.encode(axdr.decode_all(again)) == again


def fuzz_apdu(data: bytes) -> None:
    """Read an APDU and what it carries; what was read is written, and is the same again."""
    with contextlib.suppress(MeterError):
        parse_notification(data)
    with contextlib.suppress(MeterError):
        apdu = parse_apdu(data)
        again = apdu.to_bytes()
        assert parse_apdu(again).to_bytes() == again
        if isinstance(apdu, GetResponse) and isinstance(apdu.data, bytes):
            axdr.decode_all(apdu.data)


def fuzz_acse(data: bytes) -> None:
    """Open an association with a meter that answers this."""
    for parse in (acse.parse_aarq, acse.parse_aare, acse.parse_rlrq, acse.parse_rlre):
        with contextlib.suppress(MeterError):
            parse(data)
    session = Session(Association(), MeterKeys(), None, limit=4096)
    conversation = session.associate()
    next(conversation)
    with contextlib.suppress(MeterError, StopIteration):
        while True:
            conversation.send(data)


def fuzz_session(data: bytes) -> None:
    """Ask a meter whose answers these are: each begins with its length in one octet."""
    session = Session(Association(), MeterKeys(), None, limit=4096)
    session.state, session.negotiated = State.ASSOCIATED, Negotiated(Association().conformance, 64)
    answers = []
    while data:
        answers.append(data[1 : 1 + data[0]])
        data = data[1 + data[0] :]
    for conversation in (
        session.get(_ENERGY),
        session.get_list([_ENERGY, _ENERGY]),
        session.set(_ENERGY, axdr.octets(bytes(100))),
    ):
        with contextlib.suppress(MeterError, StopIteration):
            next(conversation)
            for answer in answers:
                conversation.send(answer)
        conversation.close()
        assert session.state is not State.GETTING

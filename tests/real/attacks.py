"""Supply commands as attackers make them, and what a gateway says to each. It sends none."""

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from metering import timing
from metering.model import SECOND
from metering.supply import Action, CommandMessage, Go, canonical, parse_command
from tests.gateway.supply.edge import Desk
from trust.keys import SigningKey
from trust.signatures import ALGORITHM, Kind, sign

A = Action.DISCONNECT
HOUR = 3600 * SECOND


class Attack(NamedTuple):
    """A command that must move nothing, and what the gateway says to it."""

    name: str
    made: Callable[[Desk], CommandMessage]
    says: str


def _signed(desk: Desk, *signers: str, **changes: Any) -> CommandMessage:  # noqa: ANN401 - any field
    """Return a disconnect as people signed it, with a fresh go."""
    return desk.message(desk.command("dlms", A, **changes), *signers)


def _instead(message: CommandMessage, signed: bytes) -> CommandMessage:
    return msgspec.structs.replace(message, signed=signed)


def _forged(desk: Desk) -> CommandMessage:
    message = _signed(desk)
    return _instead(message, sign(message.body, Kind.COMMAND, [SigningKey.generate(), SigningKey.generate()]))


def _in_their_names(desk: Desk) -> CommandMessage:
    """Sign with a key of one's own, and say that it is theirs."""
    message = _signed(desk)
    forged = _loose(sign(message.body, Kind.COMMAND, [SigningKey.generate()]))
    theirs = _loose(message.signed)
    for each in theirs["signatures"]:
        each["signature"] = forged["signatures"][0]["signature"]
    return _instead(message, json.dumps(theirs).encode())


def _changed(desk: Desk) -> CommandMessage:
    """Turn a command for another meter into one for this, below the same signatures."""
    message = desk.message(desk.command("modbus", A))
    meant = parse_command(message.body)
    command = msgspec.structs.replace(meant, device="dlms", point="MP-2", serial="70000123", floor_w=1000)
    return msgspec.structs.replace(message, body=canonical(command))


def _stripped(keep: int) -> Callable[[Desk], CommandMessage]:
    def made(desk: Desk) -> CommandMessage:
        message = _signed(desk)
        loose = _loose(message.signed)
        loose["signatures"] = loose["signatures"][:keep]
        return _instead(message, json.dumps(loose).encode())

    return made


def _doubled(desk: Desk) -> CommandMessage:
    message = _signed(desk, "anna")
    loose = _loose(message.signed)
    loose["signatures"] *= 2
    return _instead(message, json.dumps(loose).encode())


def _downgraded(algorithm: str) -> Callable[[Desk], CommandMessage]:
    """Say that the signature is none, or made with the approver's public key as a shared secret."""

    def made(desk: Desk) -> CommandMessage:
        message = _signed(desk)
        payload = _loose(message.signed)["payload"]
        signatures = []
        for name in ("anna", "ben"):
            public = desk.keys[name].public
            header = _text(json.dumps({"alg": algorithm, "kid": public.id, "typ": str(Kind.COMMAND)}).encode())
            mac = hmac.digest(public.raw, f"{header}.{payload}".encode(), hashlib.sha256)
            signatures.append({"protected": header, "signature": _text(mac) if algorithm == "HS256" else ""})
        return _instead(message, json.dumps({"payload": payload, "signatures": signatures}).encode())

    return made


def _of_another_kind(desk: Desk) -> CommandMessage:
    """Use what approvers signed to call it off."""
    message = _signed(desk)
    return _instead(message, sign(message.body, Kind.CANCEL, [desk.keys["anna"], desk.keys["ben"]]))


def _expired(desk: Desk) -> CommandMessage:
    now = timing.now()
    return _signed(desk, not_before=now - 2 * HOUR, expires_at=now - HOUR)


def _go_of_another(desk: Desk) -> CommandMessage:
    """Send a command that one person signed with everybody's go."""
    message = _signed(desk, "anna")
    return msgspec.structs.replace(message, go=Go(message.id, timing.now() + 30 * SECOND))


def replayed(message: CommandMessage) -> CommandMessage:
    """Return a message that was overheard, with a go of today."""
    return msgspec.structs.replace(message, go=Go(message.id, timing.now()))


def flood(desk: Desk, count: int) -> list[CommandMessage]:
    """Return many disconnects whose signatures are another command's."""
    good = _signed(desk)
    command = desk.command("dlms", A)
    bodies = [(f"f{n}", canonical(msgspec.structs.replace(command, id=f"f{n}"))) for n in range(count)]
    return [CommandMessage(name, body, good.signed, go=Go(name, timing.now())) for name, body in bodies]


ATTACKS = (
    Attack("forged", _forged, "no key that is known here signed it"),
    Attack("forged in the approvers' names", _in_their_names, "is wrong"),
    Attack("changed below its signatures", _changed, "signed a"),
    Attack("all signatures stripped", _stripped(0), "no JWS"),
    Attack("one signature stripped", _stripped(1), "1 of the approvers signed it; 2 are needed"),
    Attack("one signer twice", _doubled, "1 of the approvers signed it; 2 are needed"),
    Attack("the requester approves", lambda d: _signed(d, requester="anna"), "anna requested it and cannot approve it"),
    Attack("a service key as approver", lambda d: _signed(d, "anna", "payments"), "1 of the approvers signed it"),
    Attack("algorithm none", _downgraded("none"), f"{ALGORITHM} alone is"),
    Attack("algorithm HS256 with the public key", _downgraded("HS256"), f"{ALGORITHM} alone is"),
    Attack("signed to call it off", _of_another_kind, "not a"),
    Attack("another gateway's", lambda d: _signed(d, gateway="gw2"), "it is for the gateway gw2, not for gw1"),
    Attack("another point's", lambda d: _signed(d, point="MP-1"), "point 'MP-1' is meant"),
    Attack("a meter that was exchanged", lambda d: _signed(d, serial="70000122"), "serial '70000122' is meant"),
    Attack("another installation", lambda d: _signed(d, installation=5), "installation 5 is meant"),
    Attack("a floor of nothing", lambda d: _signed(d, floor_w=0), "floor_w 0 is meant"),
    Attack("expired", _expired, "it is past its expiry"),
    Attack("a go in place of an approval", _go_of_another, "1 of the approvers signed it; 2 are needed"),
)


def _loose(signed: bytes) -> dict[str, Any]:
    return dict(json.loads(signed))


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()

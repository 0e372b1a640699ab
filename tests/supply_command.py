"""A supply command that nothing is wrong with: tests change what they are about."""

from typing import Any

import msgspec

from metering.supply import Action, SupplyCommand

HOUR = 3_600_000_000


def a_command(**changes: Any) -> SupplyCommand:  # noqa: ANN401 - any field
    """Return a disconnection of the meter m1 at MP-1 within the first hour, with these fields changed."""
    made = SupplyCommand(
        id="c1",
        action=Action.DISCONNECT,
        point="MP-1",
        device="m1",
        serial="123",
        installation=7,
        gateway="gw1",
        reason="debt",
        requester="cleo",
        nonce="0" * 32,
        seq=1,
        not_before=0,
        expires_at=HOUR,
        case="case-7",
    )
    return msgspec.structs.replace(made, **changes)

"""Who uses a device's keys: one gateway at a time, as a table of states. It sends nothing and stores nothing.

A gateway counts as the holder from the moment in which the keys are offered to it until it has said that it uses them
no more (or a person has said so for it): whatever is on its way, lost or late, two never hold them together.
"""

from typing import Literal

import msgspec

LeaseState = Literal["free", "offered", "held", "renewing", "releasing"]
LeaseEvent = Literal["offer", "taken", "refused", "recall", "released", "force"]
Answer = Literal["taken", "refused", "released"]
BLOCK = 256  # values that a gateway reserves at once: its last reservation may not have reached us

TABLE: dict[tuple[LeaseState, LeaseEvent], LeaseState] = {
    ("free", "offer"): "offered",
    ("offered", "taken"): "held",
    ("offered", "refused"): "releasing",  # it may still take what is on its way: it is asked to let go first
    ("offered", "recall"): "releasing",
    ("held", "offer"): "renewing",  # newer keys, to the gateway that has the lease already
    ("held", "recall"): "releasing",
    ("renewing", "taken"): "held",
    ("renewing", "refused"): "held",  # it goes on with the keys that it has
    ("renewing", "recall"): "releasing",
    ("releasing", "released"): "free",
    ("releasing", "force"): "free",
}


class Lease(msgspec.Struct, frozen=True):
    """Whose a device's keys are. `number` counts up with each offer; `version` is of the keys that were offered last.

    `floor` is how far the counters were reserved, by all that is known. The holder was asked `tries` times since its
    last answer and is asked again at `next_at` (microseconds; None: it owes none).
    """

    device: str
    state: LeaseState = "free"
    holder: str = ""
    number: int = 0
    version: int = 0
    floor: int = 0
    tries: int = 0
    next_at: int | None = None

    @property
    def holders(self) -> frozenset[str]:
        """Return who may be using the keys."""
        return frozenset() if self.state == "free" else frozenset((self.holder,))


def offer(lease: Lease, gateway: str, version: int, now: int) -> Lease:
    """Offer keys to a gateway.

    Raises:
        ValueError: another one has them, or something is under way.

    """
    if lease.state == "held" and lease.holder != gateway:
        raise ValueError(f"the keys of {lease.device} are at {lease.holder}")
    moved = _step(lease, "offer")
    return msgspec.structs.replace(
        moved, holder=gateway, number=lease.number + 1, version=version, tries=0, next_at=now
    )


def recall(lease: Lease, now: int) -> Lease:
    """Ask the holder to use the keys no more. Raises `ValueError` where nobody has them."""
    return msgspec.structs.replace(_step(lease, "recall"), tries=0, next_at=now)


def answered(lease: Lease, gateway: str, number: int, answer: Answer, reserved: int, now: int) -> Lease:
    """Take what a gateway answered; what is late, of another or of an earlier lease changes nothing."""
    if gateway != lease.holder or number != lease.number or (lease.state, answer) not in TABLE:
        return lease
    moved = _step(lease, answer)
    floor = max(lease.floor, reserved)
    if moved.state == "free":
        return msgspec.structs.replace(moved, holder="", floor=floor, tries=0, next_at=None)
    due = now if moved.state == "releasing" else None
    return msgspec.structs.replace(moved, floor=floor, tries=0, next_at=due)


def forced(lease: Lease) -> Lease:
    """Take a person's word that the holder will use the keys no more. Raises `ValueError` where none was asked to."""
    return msgspec.structs.replace(_step(lease, "force"), holder="", tries=0, next_at=None)


def counted(lease: Lease, gateway: str, until: int) -> Lease:
    """Take a report that a gateway has reserved counters below `until`. Keys that nobody leased are its own then."""
    if lease.state == "free" and lease.number == 0:
        lease = msgspec.structs.replace(lease, state="held", holder=gateway)
    return msgspec.structs.replace(lease, floor=max(lease.floor, until))


def _step(lease: Lease, event: LeaseEvent) -> Lease:
    following = TABLE.get((lease.state, event))
    if following is None:
        raise ValueError(f"the keys of {lease.device} are {lease.state}: {event} is not possible now")
    return msgspec.structs.replace(lease, state=following)

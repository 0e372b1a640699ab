"""What the record of supply commands is made of: the things that it keeps, as they are written. It keeps none."""

from collections.abc import Iterable

import msgspec

from collector.capabilities import Limits
from metering.supply import SupplyCommand, canonical, parse_command
from metering.supply_states import Cause, State


class Held(msgspec.Struct, tag="h", array_like=True):
    """A command and where it stands. Instants in us UTC.

    `kids` are the keys that signed it; whether they still have a say the trust document in force tells. `service` is
    the service that gave it without any person; empty: persons did.
    `act_at` is when it is to act (chance within its spread, or staggered). `does` is what was sent for it, `cause` and
    `why` tell its last step.
    """

    body: bytes
    kids: tuple[str, ...]
    service: str
    state: State
    taken_at: int
    act_at: int
    cause: str = ""
    why: str = ""
    does: str = ""
    intent_at: int = 0
    changed_at: int = 0

    @property
    def command(self) -> SupplyCommand:
        """Return the command."""
        return parse_command(self.body)


class Opening(msgspec.Struct, tag="o", array_like=True, frozen=True):
    """A supply that this system opened (or limited: two things), and why. `command` empty: it is given back.

    `serial` is the meter's at which it was: at another one nothing of it is so.
    """

    device: str
    command: str
    reason: str
    at: int
    limit: bool = False
    serial: str = ""


class KeptLimit(msgspec.Struct, tag="l", array_like=True, frozen=True):
    """What a limiter was set to before a limit, to be given back at `until`. `command` empty: it was given back.

    `earlier` is the command and the end of the limit upon which this one was set.
    """

    device: str
    command: str
    values: dict[int, int]
    limit_w: int | None
    until: int
    earlier: tuple[str, int] | None = None

    @property
    def limits(self) -> Limits:
        """Return it as the switch takes it."""
        return Limits(self.values, self.limit_w)

    def earlier_one(self) -> "KeptLimit | None":
        """Return the limit upon which this one was set, as it was; None: it was the first."""
        if self.earlier is None:
            return None
        command, until = self.earlier
        return KeptLimit(self.device, command, self.values, self.limit_w, until)


class Cut(msgspec.Struct, tag="c", array_like=True, frozen=True):
    """A withholding order that was about to leave: it counts against the caps, whatever became of it."""

    command: str
    at: int


class Floor(msgspec.Struct, tag="f", array_like=True, frozen=True):
    """Below this no command is taken: nonces of commands that expired by then are forgotten."""

    expires_at: int


class LastSeq(msgspec.Struct, tag="s", array_like=True, frozen=True):
    """The highest seq that was taken for a device: an older command does not come after a newer one.

    What a service alone gave counts apart, as its numbers must not keep people's from giving back.
    """

    device: str
    seq: int
    of_service: bool = False


class Refused(msgspec.Struct, tag="r", array_like=True, frozen=True):
    """A command that was told as refused at the door: its head-end holds it for ended, whoever had sent that.

    `command` empty: those that were told until then are forgotten.
    """

    command: str
    at: int


Item = Held | Opening | KeptLimit | Cut | Floor | LastSeq | Refused


def held_of(
    command: SupplyCommand, kids: Iterable[str], service: str, taken_at: int, act_at: int, state: State
) -> Held:
    """Return a command as it is taken."""
    cause = Cause.GATEWAY_ACCEPTED  # whoever asks before this was told is answered with it
    return Held(canonical(command), tuple(sorted(kids)), service, state, taken_at, act_at, cause, changed_at=taken_at)

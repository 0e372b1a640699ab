"""What policy judges by: what collections knows of a debt, and what the registers hold. No rule is here."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from metering.supply import Reason

MAX_NOTICES = 100
AHEAD_S = 300  # so far ahead of ours collections' clock may be
LATEST = 7_258_118_400_000_000  # us: the year 2200; what is later is no instant of a debt

RegisterKind = Literal["protected", "hold", "dispute", "payment-plan"]


class Notice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A notice to the customer: `kind` as rule sets name it (demand, final-notice), and when it arrived."""

    id: str
    kind: str
    delivered_at: int | None  # us UTC; None: sent, and not known to have arrived
    channel: str = ""


class Contact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An attempt to reach the customer."""

    at: int
    channel: str
    outcome: str = ""


class CollectionFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What collections knows, as it said at `at` (us UTC). Amounts are decimal strings."""

    at: int
    owed: str = "0"
    currency: str = ""
    overdue_since: int | None = None
    notices: tuple[Notice, ...] = ()
    contacts: tuple[Contact, ...] = ()
    disputed: bool = False
    complaint: bool = False
    payment_plan: Literal["none", "kept", "broken"] = "none"
    accounts: int = 1  # that the debt combines

    def __post_init__(self) -> None:
        """Raise `ValueError` for an instant that no calendar of a rule could take."""
        told = [self.at, self.overdue_since, *(each.at for each in self.contacts)]
        told += [each.delivered_at for each in self.notices]
        if any(each is not None and not 0 <= each < LATEST for each in told):
            raise ValueError("an instant of these facts lies beyond 1970 to 2200")


class Entry(msgspec.Struct, frozen=True):
    """An entry of a register: it counts from `since` until before `until` (None: until further notice).

    `name` says what it is (life-support, medical, vulnerable; weather, manual; ...). `detail` has plain strings, as
    `low_c` and `high_c` of a forecast, which was made at `since`. A hold without a meter point is for all those of a
    region (a path such as `js/nj`).
    """

    id: str
    kind: RegisterKind
    point: str
    name: str
    since: int
    until: int | None
    reason: str
    source: str
    by: str
    detail: dict[str, str] = {}
    region: str = ""

    def counts(self, now: int) -> bool:
        """Tell whether it counts at an instant."""
        return self.since <= now and (self.until is None or now < self.until)


class Known(NamedTuple):
    """What is kept of some meter points: the entries of registers that count, and what collections pushed last."""

    entries: Mapping[str, Sequence[Entry]]
    pushed: Mapping[str, CollectionFacts]


class Question(msgspec.Struct, frozen=True):
    """What is to be judged: a supply withheld at `now` at a meter point in this zone, for this reason."""

    point: str
    zone: str
    reason: Reason
    now: int
    facts: CollectionFacts | None = None
    entries: Sequence[Entry] = ()

    def of(self, kind: RegisterKind) -> list[Entry]:
        """Return the entries of a register that count now."""
        return [each for each in self.entries if each.kind == kind and each.counts(self.now)]


class RuleResult(msgspec.Struct, frozen=True):
    """What one rule found, and by which inputs. `says` is a sentence for whoever asked."""

    rule: str
    passed: bool
    says: str
    inputs: dict[str, str]


class Verdict(msgspec.Struct, frozen=True):
    """The result of a whole rule set, kept as evidence."""

    rule_set: str
    version: int
    at: int
    passed: bool
    results: tuple[RuleResult, ...]

    def refusals(self) -> list[str]:
        """Return what is missing, a sentence each."""
        return [each.says for each in self.results if not each.passed]

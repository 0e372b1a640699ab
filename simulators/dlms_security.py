"""Who may talk to a simulated DLMS meter and how: its clients, keys, counters and lock-out. Opens no association."""

from collections.abc import Callable
from dataclasses import dataclass, field

from collector.keys import MeterKeys
from collector.protocols.dlms.acse import Conformance, Context, Mechanism
from collector.protocols.dlms.ciphering import AUTHENTICATED, ENCRYPTED
from metering.model import SECOND
from simulators.dlms_objects import Role
from simulators.meter import MONTH_START

MANAGEMENT, PUBLIC, READER = 1, 16, 32
MD5_CLIENT, SHA1_CLIENT, GMAC_CLIENT, SHA256_CLIENT = 33, 34, 35, 36
BOTH = AUTHENTICATED | ENCRYPTED
PLAIN_ONLY = frozenset({Context.LN})
CIPHERED_ONLY = frozenset({Context.LN_CIPHERED})
ANY_CONTEXT = PLAIN_ONLY | CIPHERED_ONLY
LOCK_AFTER = 5  # wrong passwords or keys of one client
LOCK_S = 900
_COUNTS_PER_SECOND = 20  # what the meter's own counters gain at most: a restarted simulator never goes back

ALL_SERVICES = (
    Conformance.GENERAL_PROTECTION
    | Conformance.PRIORITY
    | Conformance.BLOCK_GET
    | Conformance.BLOCK_SET
    | Conformance.BLOCK_ACTION
    | Conformance.MULTIPLE_REFERENCES
    | Conformance.DATA_NOTIFICATION
    | Conformance.GET
    | Conformance.SET
    | Conformance.SELECTIVE_ACCESS
    | Conformance.ACTION
)

# For tests and demonstrations only: these stand in public documents.
TEST_PASSWORD = b"12345678"
TEST_SECRET = b"a secret of HLS."


def test_keys() -> MeterKeys:
    """Return the keys that a simulated meter has unless told otherwise."""
    return MeterKeys(
        encryption=bytes(range(16)),
        authentication=bytes(range(0xD0, 0xE0)),
        broadcast=bytes(range(0xE0, 0xF0)),
        master=bytes(range(0xF0, 0x100)),
        password=TEST_PASSWORD,
    )


@dataclass(frozen=True)
class Client:
    """One client: its address, how it proves itself, what it may.

    `policy` is what every ciphered APDU must have at least (`ciphering.AUTHENTICATED`, `ENCRYPTED`, both, or 0: any
    protection will do). `secret` is the password of LLS or of HLS 3, 4 and 6; never shown.
    """

    address: int
    mechanism: Mechanism = Mechanism.NONE
    role: Role = Role.MANAGER
    contexts: frozenset[Context] = ANY_CONTEXT
    policy: int = 0
    secret: bytes = field(default=b"", repr=False)


def usual_clients() -> tuple[Client, ...]:
    """Return the clients that a simulated meter has unless told otherwise."""
    return (
        Client(PUBLIC, role=Role.PUBLIC, contexts=PLAIN_ONLY),
        Client(READER, Mechanism.LOW, Role.READER, secret=TEST_PASSWORD),
        Client(MD5_CLIENT, Mechanism.HIGH_MD5, secret=TEST_SECRET),
        Client(SHA1_CLIENT, Mechanism.HIGH_SHA1, secret=TEST_SECRET),
        Client(GMAC_CLIENT, Mechanism.HIGH_GMAC),
        Client(SHA256_CLIENT, Mechanism.HIGH_SHA256, secret=TEST_SECRET),
        Client(MANAGEMENT, Mechanism.HIGH_GMAC, contexts=CIPHERED_ONLY, policy=BOTH),
    )


@dataclass(frozen=True)
class AccessSettings:
    """`lock_after` failures in a row lock a client out for `lock_s` seconds (0: until somebody resets it)."""

    clients: tuple[Client, ...] = field(default_factory=usual_clients)
    keys: MeterKeys = field(default_factory=test_keys)
    conformance: Conformance = ALL_SERVICES
    max_pdu: int = 1024
    block_size: int | None = None  # bytes of a block's raw data; None: as many as the client takes
    lock_after: int = LOCK_AFTER
    lock_s: int = LOCK_S


class Security:
    """Keys, counters and failures of one meter. Counters live as long as the simulated meter does."""

    def __init__(self, settings: AccessSettings, title: bytes) -> None:
        self.settings = settings
        self.title = title
        self.clients = {client.address: client for client in settings.clients}
        self.keys = _copied(settings.keys)  # they may change, and settings may be shared
        self.expected: dict[int, int] = {}  # by client: the lowest counter that is taken
        self.refusals = 0  # APDUs with a counter that was too low
        self.failures: dict[int, int] = {}  # by client, in a row
        self.attempts: dict[int, int] = {}  # by client, all wrong passwords, answers and keys there ever were
        self.told: Callable[[int, int], None] = lambda *_: None  # (us, client): somebody was locked out
        self._locked: dict[int, int] = {}
        self._own = 0

    def own_counter(self, now: int) -> int:
        """Return the next counter of the meter's own APDUs."""
        passed = (now - MONTH_START) // (SECOND // _COUNTS_PER_SECOND)
        self._own = max(self._own + 1, passed)
        return self._own

    def take_counter(self, client: int, counter: int) -> int | None:
        """Take a client's counter; where it or a higher one was there before, return the lowest that is taken."""
        lowest = self.expected.get(client, 0)
        if counter < lowest:
            self.refusals += 1
            return lowest
        self.expected[client] = counter + 1
        return None

    def failed(self, client: int, now: int) -> None:
        """Count a wrong password, answer or key."""
        self.attempts[client] = self.attempts.get(client, 0) + 1
        count = self.failures[client] = self.failures.get(client, 0) + 1
        if count >= self.settings.lock_after:
            self._locked[client] = now
            self.told(now, client)

    def succeeded(self, client: int) -> None:
        """Begin the count of failures anew."""
        self.failures.pop(client, None)

    def locked(self, client: int, now: int) -> bool:
        """Tell whether the client is locked out."""
        since = self._locked.get(client)
        if since is None:
            return False
        if self.settings.lock_s and now - since >= self.settings.lock_s * SECOND:
            del self._locked[client]
            self.failures.pop(client, None)
            return False
        return True


def _copied(keys: MeterKeys) -> MeterKeys:
    return MeterKeys(**{name: getattr(keys, name) for name in MeterKeys.__slots__})

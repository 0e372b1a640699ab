"""What collections says of a debt: pushed, or asked for now over HTTP, signed. What follows from it is a rule's."""

import contextlib
import hashlib
import hmac
import http.client
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec
import sqlalchemy as sa

from headend.audit.chain import Entry, append
from headend.policy.facts import AHEAD_S, MAX_NOTICES, CollectionFacts, Contact, Notice
from headend.posting import Target
from headend.state.rows import put
from headend.state.store import State
from headend.state.tables import collection_facts as table
from metering import timing
from metering.errors import ConfigError
from metering.model import SECOND

TIME_S = 5.0  # for connecting, and then for the whole answer
PAUSE_S = 5.0  # in which a server that did not answer is not asked again: a campaign waits once, not for each meter
MAX_ANSWER = 64 * 1024  # bytes
TIMESTAMP = "Metergate-Timestamp"
SIGNATURE = "Metergate-Signature"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Word = Annotated[str, msgspec.Meta(max_length=64)]
Amount = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,12}(\.[0-9]{1,4})?$")]


class CollectionsError(Exception):
    """Collections said nothing that counts; the text says why."""


class NoticeSaid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A notice to the customer, and when it arrived; null: not known to have arrived."""

    id: Word
    kind: Word
    delivered_at: Moment | None
    channel: Word = ""


class ContactSaid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An attempt to reach the customer."""

    at: Moment
    channel: Word
    outcome: Word = ""


class FactsSaid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What collections knows of a meter point's debt as of `at`, as its server answers: instants are RFC 3339 texts."""

    at: Moment
    owed: Amount = "0"
    currency: Annotated[str, msgspec.Meta(pattern="^([A-Z]{3})?$")] = ""
    overdue_since: Moment | None = None
    notices: Annotated[tuple[NoticeSaid, ...], msgspec.Meta(max_length=MAX_NOTICES)] = ()
    contacts: Annotated[tuple[ContactSaid, ...], msgspec.Meta(max_length=MAX_NOTICES)] = ()
    disputed: bool = False
    complaint: bool = False
    payment_plan: Literal["none", "kept", "broken"] = "none"
    accounts: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1

    def facts(self) -> CollectionFacts:
        """Return it as rules judge it. Raises `ValueError` for an instant beyond 1970 to 2200."""
        return CollectionFacts(
            _instant(self.at),
            self.owed,
            self.currency,
            _instant(self.overdue_since) if self.overdue_since is not None else None,
            tuple(
                Notice(each.id, each.kind, _instant(each.delivered_at) if each.delivered_at else None, each.channel)
                for each in self.notices
            ),
            tuple(Contact(_instant(each.at), each.channel, each.outcome) for each in self.contacts),
            self.disputed,
            self.complaint,
            self.payment_plan,
            self.accounts,
        )


def read_facts(raw: bytes) -> CollectionFacts:
    """Return the facts of an answer in JSON. Raises `ValueError` (names the field)."""
    return msgspec.json.decode(raw, type=FactsSaid).facts()


def together(said: CollectionFacts | None, pushed: CollectionFacts | None) -> CollectionFacts | None:
    """Return the newer word of a request's and collections' own. What collections holds against it stands all the same.

    A dispute, a complaint and a kept plan that collections pushed end with its next push, not with somebody's request.
    """
    if said is None or pushed is None:
        return said or pushed
    newest = max(pushed, said, key=lambda each: each.at)
    return msgspec.structs.replace(
        newest,
        disputed=newest.disputed or pushed.disputed,
        complaint=newest.complaint or pushed.complaint,
        payment_plan="kept" if pushed.payment_plan == "kept" else newest.payment_plan,
    )


class FactsBook:
    """The newest facts that collections pushed, by meter point. Blocking; all methods raise `StorageError`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def get(self, point: str) -> CollectionFacts | None:
        """Return what was pushed last; None where nothing was."""
        return self._state.read(lambda connection: _get(connection, point))

    def of_points(self, points: Sequence[str]) -> dict[str, CollectionFacts]:
        """Return the same of some hundred meter points; those of which nothing was pushed are not in it."""
        query = sa.select(table.c.point, table.c.body).where(table.c.point.in_(points))
        rows = self._state.read(lambda connection: connection.execute(query).all())
        return {row.point: msgspec.json.decode(row.body, type=CollectionFacts) for row in rows}

    def put(self, point: str, facts: CollectionFacts, actor: str, region: str, now: int) -> None:
        """Keep facts in the place of older ones, with the audit's entry.

        Raises:
            CollectionsError: newer ones are there, or they are of the future.

        """
        if facts.at > now + AHEAD_S * SECOND:
            raise CollectionsError("at: lies in the future")

        def work(connection: sa.Connection) -> None:
            last = _get(connection, point)
            if last == facts:
                return
            if last is not None and last.at >= facts.at:
                raise CollectionsError(f"at: facts of {timing.to_rfc3339(last.at)} are here already")
            body = msgspec.json.encode(facts).decode()
            put(connection, table, {"point": point, "at": facts.at, "body": body, "by": actor})
            append(connection, [Entry(now, actor, "collection-facts", point, region, msgspec.to_builtins(facts))])

        self._state.write(work)


class Asker:
    """Asks collections' own server now: POST, signed, over TLS or to this machine; no redirect is followed."""

    def __init__(self, url: str, secret: str, clock: Callable[[], int] = timing.now) -> None:
        """Check the address. Raises `ConfigError`."""
        try:
            self._target = Target.parse(url)
        except ValueError as error:
            raise ConfigError(str(error), key="policy.collections.url") from None
        self._secret = secret.encode()
        self._clock = clock
        self._silent: tuple[float, str] = (0.0, "")  # until when it is not asked again, and why (of a steady clock)

    def ask(self, point: str) -> CollectionFacts:
        """Return what collections says now. Blocking, at most some 2 * TIME_S. Raises `CollectionsError`.

        For PAUSE_S after it did not answer it is not asked, and counts as silent.
        """
        until, why = self._silent
        if time.monotonic() < until:
            raise CollectionsError(f"{why}; it is asked again within {PAUSE_S:g} s")
        try:
            return self._ask(point)
        except TimeoutError:
            raise self._silenced(f"no answer within {TIME_S:g} s") from None
        except http.client.HTTPException:
            raise self._silenced("its answer is not HTTP, or was cut off") from None
        except OSError as error:
            raise self._silenced(error.strerror or type(error).__name__) from None
        except ValueError as error:
            raise CollectionsError(f"its answer cannot be read: {error}") from None

    def _silenced(self, why: str) -> CollectionsError:
        self._silent = (time.monotonic() + PAUSE_S, why)
        return CollectionsError(why)

    def _ask(self, point: str) -> CollectionFacts:
        body = msgspec.json.encode({"point": point, "nonce": secrets.token_hex(16)})
        stamp = timing.to_rfc3339(self._clock())
        headers = {
            "Content-Type": "application/json",
            "Connection": "close",
            TIMESTAMP: stamp,
            SIGNATURE: sign(self._secret, stamp, body),
        }
        return read_facts(self._post(body, headers))

    def _post(self, body: bytes, headers: dict[str, str]) -> bytes:
        host, port, path, tls = self._target
        with contextlib.ExitStack() as stack:
            line = stack.enter_context(socket.create_connection((host, port), timeout=TIME_S))
            timer = threading.Timer(TIME_S, _cut, [stack.enter_context(line.dup())])
            timer.daemon = True
            timer.start()
            stack.callback(timer.cancel)
            spoken = tls.wrap_socket(line, server_hostname=host) if tls is not None else line
            stack.enter_context(spoken)
            connection = http.client.HTTPConnection(host, port, timeout=TIME_S)
            connection.sock = spoken
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            if answer.status != http.HTTPStatus.OK:
                raise CollectionsError(f"it answers with status {answer.status}")
            raw = answer.read(MAX_ANSWER + 1)
        if len(raw) > MAX_ANSWER:
            raise CollectionsError(f"its answer has more than {MAX_ANSWER} bytes")
        return raw


def sign(secret: bytes, stamp: str, body: bytes) -> str:
    """Return the signature of a request: HMAC-SHA256 over the time, a dot and the body, as `v1=<hex>`."""
    return "v1=" + hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _cut(line: socket.socket) -> None:
    """End a connection whose time is over, whatever it waits for."""
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def _get(connection: sa.Connection, point: str) -> CollectionFacts | None:
    body = connection.execute(sa.select(table.c.body).where(table.c.point == point)).scalar_one_or_none()
    return None if body is None else msgspec.json.decode(body, type=CollectionFacts)


def _instant(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)

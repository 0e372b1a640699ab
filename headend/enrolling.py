"""Lets gateways enrol, a few at a time, and keeps the broker's list of revoked certificates. It knows no HTTP."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from headend.authority import Authority, digest_of, key_of
from headend.state.enrolment import Certificate, Enrolment
from headend.state.store import State
from metering import timing
from metering.model import SECOND
from storage.files import replace_file

TRIES = 10  # of one asker within WINDOW_S
ALL_TRIES = 120  # of all askers
WINDOW_S = 60.0
MAX_ASKERS = 10_000  # whose tries are counted; the longest silent ones are forgotten
CRL_EVERY_S = 86_400  # the list is written anew so often, though nothing was revoked: it must not run out


class TooManyTriesError(Exception):
    """Too many enrolments were tried; `retry_s` says when the next one may be."""

    def __init__(self, retry_s: int) -> None:
        super().__init__("too many tries to enrol")
        self.retry_s = retry_s


class NotEnrolledError(Exception):
    """The token does not let this key in. The text never says why: it may be a guess."""

    def __init__(self) -> None:
        super().__init__("the token is unknown, expired or spent: ask for a new one")


class Enrolling:
    """Enrolment with one authority. `crl` is where the list of revoked certificates is kept, where it is wanted."""

    def __init__(
        self,
        state: State,
        authority: Authority,
        crl: Path | None,
        clock: Callable[[], int] = timing.now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._enrolment = Enrolment(state)
        self._authority = authority
        self._crl = crl
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._tries: OrderedDict[str, list[float]] = OrderedDict()
        self._listed: tuple[list[tuple[str, int]], int] | None = None

    @property
    def authority_pem(self) -> str:
        """Return the authority's own certificate."""
        return self._authority.pem

    def enrol(self, token: str, csr: str, asker: str) -> Certificate:
        """Spend a one-time token for a request (PKCS#10, PEM) and return the gateway's certificate. Blocking.

        Raises:
            TooManyTriesError: by this asker, or by all.
            BadRequestOfCertificateError: the request is none.
            NotEnrolledError: the token is not good for it.
            StorageError: the state.

        """
        with self._lock:
            self._throttle(asker)
        key = key_of(csr.encode())
        now = self._clock()
        made = self._enrolment.use(token, digest_of(key), lambda gateway: self._authority.sign(gateway, key, now), now)
        if made is None:
            raise NotEnrolledError
        return made

    def write_crl(self) -> bool:
        """Write the list of revoked certificates where it has changed or grows old; tell whether it was. Blocking.

        Raises:
            StorageError: the state.
            OSError: the file.

        """
        if self._crl is None:
            return False
        now = self._clock()
        revoked = self._enrolment.revoked(now)
        if self._listed is not None:
            last, at = self._listed
            if last == revoked and now - at < CRL_EVERY_S * SECOND:
                return False
        replace_file(self._crl, self._authority.revocations(revoked, now))
        self._listed = (revoked, now)
        return True

    def _throttle(self, asker: str) -> None:
        now = self._monotonic()
        for name, limit in ((f"from {asker}", TRIES), ("", ALL_TRIES)):
            recent = [at for at in self._tries.pop(name, ()) if now - at < WINDOW_S]
            self._tries[name] = recent
            if len(recent) >= limit:
                raise TooManyTriesError(1 + int(WINDOW_S - (now - recent[0])))
            recent.append(now)
        while len(self._tries) > MAX_ASKERS:
            self._tries.popitem(last=False)

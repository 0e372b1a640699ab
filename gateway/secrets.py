"""One meter's secrets as the key store has them now, for a driver that was made once. It keeps none of its own."""

from typing import Protocol

from collector.keys import InvocationCounter, MeterKeys
from metering.errors import AuthError


class Keys(Protocol):
    """The key store, as the gateway uses it (`gateway.keystore.KeyStore`)."""

    def keys_of(self, meter: str) -> MeterKeys:
        """Return a meter's secrets; all empty where there are none."""
        ...

    def counter_of(self, meter: str, client_title: bytes) -> InvocationCounter:
        """Return the invocation counter of the meter's present encryption key for this client system title."""
        ...

    def fingerprint(self, meter: str) -> str:
        """Return what changes with the meter's secrets; empty where there are none."""
        ...

    def refuse(self, meter: str, reason: str) -> None:
        """Note, durably, that the meter refused its present secrets."""
        ...

    def refused(self, meter: str) -> str:
        """Return why the meter is not to be asked with its present secrets; empty where it may be."""
        ...

    def held(self, meter: str) -> str:
        """Return why a meter that wants secrets is not to be asked for now; empty where it may be."""
        ...


class Secrets:
    """What a driver holds: the keys, changed in place, and the counter (`InvocationCounter`) of the present key.

    `client_title` is ours where values of the counter are used, else None. Without a store there are no secrets.
    """

    def __init__(self, store: Keys | None, meter: str, client_title: bytes | None = None) -> None:
        self.keys = MeterKeys()
        self._store = store
        self._meter = meter
        self._title = client_title
        self._counter: InvocationCounter | None = None
        self._seen: str | None = None
        self.renew()

    def renew(self) -> None:
        """Take what the store has now. A new key counts for the next conversation, not for one that is open."""
        if self._store is None or (now := self._store.fingerprint(self._meter)) == self._seen:
            return
        found = self._store.keys_of(self._meter)
        for name in MeterKeys.__slots__:
            setattr(self.keys, name, getattr(found, name))
        if self._title is not None:
            self._counter = self._store.counter_of(self._meter, self._title)
        self._seen = now

    def next(self) -> int:
        """Return a value that was never given out before. Raises `AuthError`."""
        return self._present.next()

    def raise_to(self, expected: int) -> None:
        """Take the meter's word that it wants at least `expected`. Raises `AuthError`."""
        self._present.raise_to(expected)

    def skip(self) -> bool:
        """Go on though the meter does not tell its own counter; False where that is not safe. Raises `AuthError`."""
        return self._present.skip()

    @property
    def known(self) -> bool:
        """Tell whether values may be given out; False: the meter's counter has to be read first."""
        return self._present.known

    @property
    def _present(self) -> InvocationCounter:
        if self._counter is None:
            raise AuthError("there is no key store, and so no invocation counter", meter=self._meter)
        return self._counter

"""`metergate token`: makes, lists and revokes the API's bearer tokens. It prints a token once, when it is made."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from headend.tokens import TokenBook, TokenInfo
from metergate.headend_file import is_headend, load_headend, open_state
from metergate.site import load_site
from metering import timing
from metering.errors import ConfigError
from metering.model import SECOND

DAY = 86_400 * SECOND


def create(file: Path, name: str, scopes: list[str], regions: list[str], days: int, person: str = "") -> None:
    """Make a token and print it."""
    with _book(file) as book:
        try:
            token = book.create(name, scopes, regions, timing.now() + days * DAY, person)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    print(token)


def show(file: Path) -> None:
    """Print all tokens, without their secrets."""
    with _book(file) as book:
        tokens = book.list()
    now = timing.now()
    for token in tokens:
        regions = ",".join(region or "everywhere" for region in token.regions)
        whose = f"{token.name} ({token.person})" if token.person != token.name else token.name
        print(f"{token.id}  {whose}  {','.join(token.scopes)}  {regions}  {_state(token, now)}")
    if not tokens:
        print("no token yet; make one with: metergate token create")


def revoke(file: Path, identity: str) -> None:
    """End a token."""
    with _book(file) as book:
        known = book.revoke(identity)
    if not known:
        raise ConfigError(f"there is no token {identity!r}; metergate token list shows them")
    print(f"{identity} is revoked")


def _state(token: TokenInfo, now: int) -> str:
    if token.revoked_at is not None:
        return f"revoked {timing.to_rfc3339(token.revoked_at)}"
    if token.expires_at is None:
        return "does not expire"
    word = "expired" if token.expires_at <= now else "until"
    return f"{word} {timing.to_rfc3339(token.expires_at)}"


@contextlib.contextmanager
def _book(file: Path) -> Iterator[TokenBook]:
    if is_headend(file):
        with contextlib.closing(open_state(load_headend(file))) as state:
            yield TokenBook(state)
        return
    data = load_site(file).gateway.data
    data.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(TokenBook(data / "state.db")) as book:
        yield book

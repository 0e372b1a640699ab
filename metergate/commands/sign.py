"""`metergate key make|public|sign`: a person's own signing key, and what they sign with it: shown first, then asked."""

import sys
from collections.abc import Iterable
from pathlib import Path

import typer

from metering.errors import ConfigError
from metering.secret import resolve_secret
from storage.files import replace_file
from trust.keys import PublicKey, SigningKey
from trust.sheet import MAX_SHEET, read_sheet
from trust.signatures import sign


def make_signing_key(path: Path, person: str, passphrase: str | None) -> None:
    """Make a key and print the line by which the trust document knows its holder."""
    key = SigningKey.generate()
    key.save(path, resolve_secret(passphrase) if passphrase else None)
    print(f"{path}: a new signing key, for {person} alone; for the draft of the trust document:")
    print(holder_line(person, key.public))


def show_public(path: Path, passphrase: str | None) -> None:
    """Print the public form of a key and its id."""
    key = open_key(path, passphrase)
    print(f"{key.public}  id {key.public.id}")


def sign_sheet(key_file: Path, sheet_file: Path, out: Path | None, passphrase: str | None, *, yes: bool) -> None:
    """Show what a sheet orders, ask, and sign it."""
    try:
        sheet = read_sheet(read_small(sheet_file, MAX_SHEET))
    except ValueError as error:
        raise ConfigError(f"nothing is signed: {str(error)[:300]}", file=str(sheet_file)) from None
    key = open_key(key_file, passphrase)
    agreed(sheet.lines(), yes=yes)
    signed = sign(sheet.payload, sheet.kind, [key])
    if out is None:
        print(signed.decode())
        return
    write_new(out, signed)
    print(f"{out}: signed by {key.public.id}; post it to /v1/commands/…/approvals")


def holder_line(person: str, key: PublicKey) -> str:
    """Return a holder as a draft of a trust document names them."""
    return f'{{person = "{person}", key = "{key}"}}'


def open_key(path: Path, passphrase: str | None) -> SigningKey:
    """Return a signing key. `passphrase` is `env:NAME` or `file:PATH`. Raises `ConfigError`."""
    return SigningKey.load(path, resolve_secret(passphrase) if passphrase else None)


def agreed(lines: Iterable[str], *, yes: bool) -> None:
    """Show what is signed and ask at the terminal; a script says --yes.

    Raises:
        ConfigError: the answer is no, or there is nobody to ask.

    """
    for line in lines:
        print(line, file=sys.stderr)
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("nothing is signed: there is no terminal to ask at; whoever has read it says --yes")
    if not typer.confirm("Sign this?", default=False, err=True):
        raise ConfigError("nothing is signed")


def read_small(path: Path, most: int = 16 << 20) -> bytes:
    """Return a file's bytes. Raises `ConfigError` where it cannot be read or is longer than `most`."""
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if len(raw) > most:
        raise ConfigError(f"{path} is longer than {most} bytes")
    return raw


def write_new(path: Path, content: bytes) -> None:
    """Write a new file, whole or not at all. Raises `ConfigError` where it is there already or cannot be written."""
    if path.exists():
        raise ConfigError(f"{path} is there already")
    try:
        replace_file(path, content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None

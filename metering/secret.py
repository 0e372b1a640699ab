"""Secrets stay out of configuration: a setting says where the secret is (`env:NAME`, `file:PATH`), never what it is."""

import os
from pathlib import Path

from metering.errors import ConfigError

LONGEST_SECRET = 4096  # bytes; a longer file is not a password or a token but a mistake


def resolve_secret(reference: str) -> str:
    """Return the secret that `env:NAME` or `file:PATH` points at, without the line's end.

    Raises:
        ConfigError: not such a reference, or nothing is there. The message never quotes a secret.

    """
    scheme, _, place = reference.partition(":")
    if scheme == "env" and place:
        value = os.environ.get(place)
        if not value:
            raise ConfigError(f"the environment variable {place} is not set or empty")
        return value
    if scheme == "file" and place:
        return _from_file(Path(place))
    raise ConfigError("a secret does not stand in the file: write env:NAME or file:PATH")


def _from_file(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST_SECRET + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"the secret file {path} cannot be read: {reason}") from None
    if len(text) > LONGEST_SECRET:
        raise ConfigError(f"the secret file {path} is longer than {LONGEST_SECRET} characters")
    secret = text.strip()
    if not secret:
        raise ConfigError(f"the secret file {path} is empty")
    return secret

"""Under which epoch a gateway's log goes up: the log's own, or a new one since it was put back. It compares nothing."""

import secrets
from pathlib import Path

import msgspec

from storage.files import replace_file

FILE = "uplink.json"  # in the gateway's data folder


class _Saved(msgspec.Struct, frozen=True):
    log_epoch: str
    epoch: str


def load_epoch(state: Path, log_epoch: str) -> str:
    """Return the epoch under which a log goes up."""
    try:
        saved = msgspec.json.decode(state.read_bytes(), type=_Saved)
    except (OSError, msgspec.MsgspecError):
        return log_epoch
    return saved.epoch if saved.log_epoch == log_epoch else log_epoch


def new_epoch() -> str:
    """Return an epoch that nobody had before."""
    return secrets.token_hex(16)


def save_epoch(state: Path, log_epoch: str, epoch: str) -> None:
    """Make durable that the log goes up under `epoch` from now on. Raises `OSError`."""
    replace_file(state, msgspec.json.encode(_Saved(log_epoch, epoch)))

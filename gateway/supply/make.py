"""Makes a gateway's supply control from its settings and its parts. It starts nothing."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

import structlog

from gateway.clock import Clock
from gateway.meters import BusMeter
from gateway.recorder import Recorder
from gateway.settings import GatewaySettings, SupplySettings
from gateway.supply.executor import POLL_S, VERIFY_S, Executor
from gateway.supply.onward import Onward
from gateway.supply.outside import Outside
from gateway.supply.record import Record
from gateway.supply.service import SupplyService
from gateway.supply.trust_file import TrustFile
from gateway.work import MeterWork
from metering.model import Block

FOLDER = "supply"
LOCKOUT = "lockout"
KEY_BYTES = 32
MAX_REASON = 200  # characters of a lock-out's reason

logger = structlog.get_logger(__name__)


def told(step: str) -> None:
    """Note a step of a command at its meter."""
    logger.debug("supply command", step=step)


def make_supply(
    gateway: GatewaySettings,
    settings: SupplySettings,
    recorder: Recorder,
    clock: Clock,
    work: MeterWork,
    take: Callable[[list[Block]], None],
    meters: Callable[[], dict[str, BusMeter]],
    *,
    verify_s: float = VERIFY_S,
    poll_s: float = POLL_S,
    on_step: Callable[[str], None] = told,
) -> SupplyService:
    """Return the supply control of a gateway; the last three are the executor's.

    Raises:
        ConfigError: the trust document on its disk cannot be used.
        StorageError: the record of its commands cannot be read.

    """
    folder = gateway.data / FOLDER
    lockout = settings.lockout or gateway.data / LOCKOUT
    return SupplyService(
        Record(folder / "record"),
        TrustFile(gateway.data, gateway.id),
        Executor(
            work,
            take,
            lambda: digest_key(folder / "digest.key"),
            verify_s=verify_s,
            poll_s=poll_s,
            on_step=on_step,
        ),
        recorder,
        Outside(
            lambda device: meters().get(device),
            lambda: len(meters()),
            clock.now,
            Onward(clock).trusted,
            lambda: locked_by(lockout),
            settings.dry_run,
        ),
    )


def locked_by(path: Path) -> str:
    """Return why nothing is withheld: what the lock-out file says, or that it is there; empty without one.

    What cannot be looked at counts as locked.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            said = file.readline(MAX_REASON).strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return said or f"the file {path} is there"


def digest_key(path: Path) -> bytes:
    """Return the gateway's own key of digests, made at its first use. Raises `OSError`."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(fd, "wb") as file:
        key = secrets.token_bytes(KEY_BYTES)
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    return key

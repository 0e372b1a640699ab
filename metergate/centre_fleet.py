"""Wires the fleet of a head-end: its authority, what operators see of it, and how the registry stays fresh."""

import asyncio

import structlog

from collector.mqtt_profile import MqttProfile
from gateway.models import load_any
from headend.enrolling import Enrolling
from headend.fleet import Fleet, Live
from headend.intake import Intake
from headend.state.registry import REFRESH_S, DatabaseRegistry
from headend.state.store import State
from metergate.headend_file import HeadendFile, open_authority
from metering.errors import StorageError

_log = structlog.get_logger(__name__)


def build_enrolling(file: HeadendFile, state: State) -> Enrolling | None:
    """Return how gateways enrol; None where the file has no [enrolment]. Raises `ConfigError`."""
    if file.enrolment is None:
        return None
    return Enrolling(state, open_authority(file.enrolment), file.enrolment.crl_file)


def build_fleet(
    file: HeadendFile, state: State, registry: DatabaseRegistry, intake: Intake, enrolling: Enrolling | None
) -> Fleet:
    """Return the fleet as operators see it."""

    def model_of(name: str) -> tuple[str, str, int]:
        model = load_any(name, file.headend.profiles)
        return model.maker, model.model, 0 if isinstance(model, MqttProfile) else model.memory_days

    return Fleet(state, registry, Live(intake.gateways, intake.ledger), model_of, enrolling)


async def keep_fresh(registry: DatabaseRegistry, enrolling: Enrolling | None) -> None:
    """Take up what others changed in the registry, and keep the list of revoked certificates, for ever.

    While the state does not answer, what was known holds.
    """
    failing = ""
    while True:
        try:
            await asyncio.to_thread(registry.refresh)
            if enrolling is not None and await asyncio.to_thread(enrolling.write_crl):
                _log.info("the list of revoked certificates was written; the broker reads it after SIGHUP")
            failing = ""
        except (StorageError, OSError) as error:
            if failing != str(error):
                _log.error("the registry cannot be kept fresh; what was known holds", reason=str(error))
            failing = str(error)
        await asyncio.sleep(REFRESH_S)

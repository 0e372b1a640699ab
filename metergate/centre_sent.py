"""Wires what a head-end sends to gateways and their journals answer: meter keys, configurations, supply commands."""

from collections.abc import Iterator
from dataclasses import dataclass

from headend.configurations import ConfigurationOffice
from headend.inbox.port import Inbox
from headend.intake import Intake
from headend.journal import JournalReader
from headend.key_floors import FloorTeller
from headend.key_office import KeyOffice
from headend.state.configs import Configs
from headend.state.gateways import Gateways
from headend.state.keys import KeyBook
from headend.state.registry import DatabaseRegistry
from headend.state.store import State
from headend.supply.desk import SupplyDesk
from headend.supply.dispatch import Dispatch
from metergate.centre_supply import build_desk
from metergate.centre_told import runs_of
from metergate.headend_file import HeadendFile
from metergate.remote import check_remote
from storage.log import Log


@dataclass
class Sent:
    """The parts; `supply` and `dispatch` are None without [supply]."""

    keys: KeyOffice
    configurations: ConfigurationOffice
    supply: SupplyDesk | None
    dispatch: Dispatch | None
    journal: JournalReader

    def running(self) -> Iterator[KeyOffice | ConfigurationOffice | Dispatch | JournalReader]:
        """Yield what is to be run until the head-end stops."""
        yield self.keys
        yield self.configurations
        if self.dispatch is not None:
            yield self.dispatch
        yield self.journal

    def here(self, gateway: str) -> None:
        """Have sent what waits for a gateway that says it is there."""
        self.configurations.here(gateway)
        if self.dispatch is not None:
            self.dispatch.here(gateway)


def build_sent(
    file: HeadendFile, state: State, registry: DatabaseRegistry, inbox: Inbox, intake: Intake, log: Log
) -> Sent:
    """Return the parts, with the intake keeping counters that were reserved. Raises `ConfigError`."""
    book = KeyBook(state)
    floors = FloorTeller(book, inbox.publish, lambda: runs_of(intake), lambda: (journal.position, log.next_seq))
    keys = KeyOffice(book, inbox.publish, floors)
    intake.reserved = keys.reserved
    configurations = ConfigurationOffice(
        Configs(state), Gateways(state), inbox.publish, lambda text: check_remote(text, file.headend.profiles)
    )
    handlers = {**keys.handlers(), **configurations.handlers()}
    supply = build_desk(file, state, registry)
    dispatch = None
    if supply is not None:
        dispatch = Dispatch(supply, inbox.publish)
        handlers |= dispatch.handlers()
    journal = JournalReader(log, handlers)
    sent = Sent(keys, configurations, supply, dispatch, journal)
    intake.statuses.on_here = sent.here
    return sent

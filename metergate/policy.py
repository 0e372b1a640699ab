"""Builds policy and its registers of a head-end or a site. What they do stands in `headend.policy`."""

from headend.policy.collections import Asker, FactsBook
from headend.policy.desk import Choice, PolicyDesk
from headend.policy.office import RegisterOffice
from headend.policy.registers import Registers
from headend.policy.rule_set import load_rule_set
from headend.state.store import State
from metergate.supply_file import PolicySettings
from metering.ports import Registry
from metering.secret import resolve_secret


def build_policy(settings: PolicySettings, state: State, registry: Registry) -> PolicyDesk:
    """Return what judges commands. Raises `ConfigError`: a rule set, an address or a secret is not right."""
    choices = [
        Choice(each.region, each.customer, load_rule_set(each.rule_set, settings.folder)) for each in settings.rule_sets
    ]

    def region_of(point: str) -> str | None:
        found = registry.point(point)
        return found.region if found is not None else None

    asked = settings.collections
    asker = Asker(asked.url, resolve_secret(asked.secret)) if asked is not None else None
    return PolicyDesk(choices, Registers(state), FactsBook(state), region_of, asker)


def build_registers(state: State, registry: Registry) -> RegisterOffice:
    """Return what the API asks of registers."""
    return RegisterOffice(Registers(state), FactsBook(state), registry)

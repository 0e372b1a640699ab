"""What `metergate check` finds in [policy], [supply], [audit] and [[webhook]]: it loads them, and starts nothing."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from headend.policy.collections import Asker
from headend.policy.rule_set import load_rule_set
from metergate.centre_supply import TrustCopies
from metergate.headend_file import HeadendFile, SupplySettings
from metergate.site import SiteFile
from metergate.supply_file import PolicySettings
from metering.errors import ConfigError
from metering.secret import resolve_secret
from trust.keys import SigningKey

_MOST = (  # one threshold, another that it cannot exceed to any effect
    ("user_per_hour", "user_per_day"),
    ("user_per_hour", "total_per_hour"),
    ("user_per_day", "total_per_day"),
    ("total_per_hour", "total_per_day"),
)


def supply_faults(file: HeadendFile | SiteFile) -> list[str]:
    """Return what is wrong, a sentence each: where, what, and what to do."""
    found = [*_policy(file.policy)]
    key = file.supply.service_key if file.supply is not None else None
    if key is not None:
        found += _told("supply.service_key", lambda: SigningKey.load(key))
    if file.audit is not None:
        found += _told("audit", file.audit.load)
    if isinstance(file, HeadendFile):
        for hook in file.webhook:
            found += _told(f"webhook {hook.name}", hook.open)
        found += _supply(file.supply, file.policy) if file.supply is not None else []
    return found


def _policy(policy: PolicySettings) -> Iterator[str]:
    if policy.folder is not None and not policy.folder.is_dir():
        yield f"policy.folder: {policy.folder} is no folder: name the one with your own rule sets, or leave it out"
    for each in policy.rule_sets:
        where = f"policy.rule_sets, region {each.region!r}"
        yield from _told(where, lambda each=each: load_rule_set(each.rule_set, policy.folder))  # type: ignore[misc]  # mypy does not infer a default's type
    for (region, customer), count in Counter((each.region, each.customer) for each in policy.rule_sets).items():
        if count > 1:
            yield (
                f"policy.rule_sets: {count} are for the region {region!r} and the class {customer!r}, of which only the"
                " first ever judges: leave one"
            )
    asked = policy.collections
    if asked is not None:
        yield from _told("policy.collections", lambda: Asker(asked.url, resolve_secret(asked.secret)))


def _supply(supply: SupplySettings, policy: PolicySettings) -> Iterator[str]:
    if not policy.rule_sets:
        yield (
            "policy.rule_sets: there is none, so no supply can be withheld anywhere: name a rule set for each region,"
            " or leave out [supply]"
        )
    for less, more in _MOST:
        if getattr(supply, less) > getattr(supply, more):
            yield (
                f"supply.{less}: {getattr(supply, less)} is above {more}, {getattr(supply, more)}, and so never counts:"
                f" lower it, or raise {more}"
            )
    yield from _documents(supply.trust)


def _documents(folder: Path) -> Iterator[str]:
    copies = TrustCopies(lambda gateway: folder / f"{gateway}.json")
    names = sorted(path.stem for path in folder.glob("*.json")) if folder.is_dir() else []
    if not names:
        yield (
            f"supply.trust: {folder} holds no trust document: put each gateway's there, as metergate trust sign"
            " writes it"
        )
    for name in names:
        if copies(name) is None:
            yield f"supply.trust: {folder / name}.json is no signed trust document of {name}: copy it again"


def _told(where: str, load: Callable[[], object]) -> list[str]:
    try:
        load()
    except (ConfigError, ValueError, OSError) as error:
        return [f"{where}: {error}"]
    return []

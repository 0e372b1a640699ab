"""What a file says of supply control at a head-end or a site: when a supply may be withheld, who signs the audit."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from gateway.fields import CustomerClass, FilePath, Id, Secret, Strict
from gateway.settings import SupplySettings
from metering.secret import resolve_secret
from trust.keys import SigningKey


class RuleSetChoice(Strict):
    """Which rule set says when a supply may be withheld: in a region, from a class of customers (empty: all)."""

    region: str = Field(pattern=r"^(?:[A-Za-z0-9_-]{1,64}(?:/[A-Za-z0-9_-]{1,64})*)?$")
    customer: CustomerClass = Field(default="", alias="class")
    rule_set: Id


class CollectionsSettings(Strict):
    """Collections' own server, which is asked for the facts of a debt at every judgement."""

    url: str = Field(max_length=1024)
    secret: Secret


class PolicySettings(Strict):
    """When a supply may be withheld. Where no rule set is for a meter point, it is not."""

    rule_sets: list[RuleSetChoice] = Field(default=[], max_length=1000)
    folder: FilePath | None = None  # with rule sets of one's own
    collections: CollectionsSettings | None = None


class AuditSettings(Strict):
    """Who signs the audit's heads: the head-end's own key (metergate key make)."""

    key: Annotated[str, Field(pattern=r"^file:.+$")]
    passphrase: Secret | None = None

    def load(self) -> SigningKey:
        """Return the key. Raises `ConfigError`."""
        secret = resolve_secret(self.passphrase) if self.passphrase is not None else None
        return SigningKey.load(Path(self.key.removeprefix("file:")), secret)


class SiteSupply(SupplySettings):
    """Supply control of a site whose API is its own head-end. `service_key` signs restores after a payment."""

    service_key: FilePath | None = None

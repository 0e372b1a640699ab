"""What a file says of supply control at a head-end or a site: when a supply may be withheld. It opens nothing."""

from pydantic import Field

from gateway.fields import FilePath, Id, Secret, Strict
from gateway.settings import SupplySettings


class RuleSetChoice(Strict):
    """Which rule set says when a supply may be withheld: in a region, from a class of customers (empty: all)."""

    region: str = Field(pattern=r"^(?:[A-Za-z0-9_-]{1,64}(?:/[A-Za-z0-9_-]{1,64})*)?$")
    customer: str = Field(default="", alias="class", max_length=64)
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


class SiteSupply(SupplySettings):
    """Supply control of a site whose API is its own head-end. `service_key` signs restores after a payment."""

    service_key: FilePath | None = None

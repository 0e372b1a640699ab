"""What collections knows of a debt, as it is sent with a request and pushed. What follows from it is policy's."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.parameters import Instant
from headend.policy.facts import CollectionFacts, Contact, Notice

_DECIMAL = r"^[0-9]{1,18}(\.[0-9]{1,6})?$"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NoticeBody(_Body):
    """A notice to the customer, and when it arrived; without that it is not known to have arrived."""

    id: str = Field(max_length=64)
    kind: str = Field(max_length=64)
    delivered_at: Instant = None
    channel: str = Field("", max_length=64)


class ContactBody(_Body):
    """An attempt to reach the customer."""

    at: Instant
    channel: str = Field(max_length=64)
    outcome: str = Field("", max_length=200)


class FactsBody(_Body):
    """What collections knows of the debt, as it is at `at`."""

    at: Instant
    owed: str = Field("0", pattern=_DECIMAL)
    currency: str = Field("", max_length=3)
    overdue_since: Instant = None
    notices: list[NoticeBody] = Field([], max_length=100)
    contacts: list[ContactBody] = Field([], max_length=100)
    disputed: bool = False
    complaint: bool = False
    payment_plan: Literal["none", "kept", "broken"] = "none"
    accounts: int = Field(1, ge=1, le=1000)

    def facts(self) -> CollectionFacts:
        """Return it as policy takes it."""
        return CollectionFacts(
            self.at or 0,
            self.owed,
            self.currency,
            self.overdue_since,
            tuple(Notice(each.id, each.kind, each.delivered_at, each.channel) for each in self.notices),
            tuple(Contact(each.at or 0, each.channel, each.outcome) for each in self.contacts),
            self.disputed,
            self.complaint,
            self.payment_plan,
            self.accounts,
        )

    @model_validator(mode="after")
    def _can_be_judged(self) -> Self:
        self.facts()
        return self

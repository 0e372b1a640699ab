"""Query parameters of the figures of collection and of gaps, checked."""

from typing import Annotated, Literal

from fastapi import Query
from pydantic import Field

from api.parameters import DAY, OptionalId, Range, Region
from headend.state.collection_report import By, Per, ReportQuery
from headend.state.gaps import GapsQuery, GapState

WEEK = 7  # days that are told of where no range is given
_ON_TIME = {"15min": 900, "1h": 3_600, "4h": 14_400, "1d": 86_400}


class CollectionRange(Range):
    """Which figures."""

    by: By = "gateway"
    per: Per = Field("range", description="One row for the whole range, for each day, or by quarter hours as well.")
    on_time: Literal["15min", "1h", "4h", "1d"] = Field("1h", description="How long after its slot is on time.")
    region: Region = ""
    id: Annotated[str, Field(max_length=256)] = Field("", description="Only this gateway, region, device or point.")
    limit: int = Field(100, ge=1, le=1000)

    @property
    def on_time_s(self) -> int:
        """Return the limit in seconds."""
        return _ON_TIME[self.on_time]

    def query(self, judged_until: int) -> ReportQuery:
        """Return what is asked, of whole days; without a range, of the last week that is judged."""
        start, end = self.bounds(judged_until)
        if self.from_ is None and not self.cursor:
            start = end - WEEK * DAY
        first, last = max(-(-start // DAY), 0), max(-(-end // DAY), 0)
        return ReportQuery(self.by, first, last, self.limit, self.per, region=self.region.strip("/"), key=self.id)


class GapsRange(Range):
    """Which gaps. Gaps of seqs have no range: they are all listed, for those who see everything."""

    type: list[Literal["intervals", "seqs"]] = Field(["intervals", "seqs"], max_length=2)
    state: list[GapState] = Field([], max_length=4)
    device: OptionalId = ""
    limit: int = Field(100, ge=1, le=1000)

    def query(self, now: int) -> GapsQuery:
        """Return what is asked; without a range, of the last week."""
        start, end = self.bounds(now)
        if self.from_ is None and not self.cursor:
            start = end - WEEK * DAY
        devices = (self.device,) if self.device else None
        return GapsQuery(start, end, self.limit, tuple(sorted(set(self.state))), devices)


CollectionParameters = Annotated[CollectionRange, Query()]
GapsParameters = Annotated[GapsRange, Query()]

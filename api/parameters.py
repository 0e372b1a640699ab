"""Query parameters of the API, checked: an unknown one is refused by its name, an instant must say its offset."""

import re
from collections.abc import Callable
from typing import Annotated

from fastapi import Path, Query, Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from api.problems import ProblemError
from headend.audit.desk import AuditQuery
from headend.completeness import Wanted
from headend.readings import Question, range_of_cursor
from metering.model import SECOND, Kind, Source
from metering.obis import canonical_obis
from metering.timing import from_rfc3339

DAY = 86_400 * SECOND
MAX_LIMIT = 10_000

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)")


def _instant(text: object) -> object:
    if not isinstance(text, str) or not _RFC3339.fullmatch(text):
        raise ValueError("not an RFC 3339 time such as 2026-11-23T12:45:00Z (write + as %2B)")
    return from_rfc3339(text.upper())


# Absent or a time; the document speaks of the time alone, since a query cannot say null.
Instant = Annotated[int | None, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})]
Obis = Annotated[
    str,
    Field(
        max_length=24,
        json_schema_extra={"pattern": r"^\d{1,3}-\d{1,3}:\d{1,3}\.\d{1,3}\.\d{1,3}(\*\d{1,3})?$"},
    ),
    AfterValidator(canonical_obis),
]
Identity = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
OptionalId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,64}$")]
Region = Annotated[str, Field(max_length=256, description="A region prefix by path segment, such as js/nj.")]
Cursor = Annotated[str, Field(max_length=1024, description="Where the last page ended: its `next`.")]


class Strict(BaseModel):
    """Parameters of one route, and no others."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Pages(Strict):
    """How much at once, and from where on."""

    limit: int = Field(100, ge=1, le=1000)
    cursor: Cursor = ""


class InRegion(Pages):
    """Pages of points or devices inside a region prefix."""

    region: Region = ""


class Range(Strict):
    """From and to; the last day where they are left out."""

    from_: Instant = Field(None, alias="from")
    to: Instant = None
    cursor: Cursor = ""

    def bounds(self, now: int) -> tuple[int, int]:
        """Return the range in microseconds."""
        start, end = self.from_, self.to
        known = range_of_cursor(self.cursor) if self.cursor else None
        if known is not None:
            start, end = known[0] if start is None else start, known[1] if end is None else end
        end = now if end is None else end
        return (end - DAY if start is None else start), end


class ReadingsRange(Range):
    """Which readings of one meter point or device."""

    obis: list[Obis] = Field([], max_length=64)
    kind: list[Kind] = Field([], max_length=8)
    source: list[Source] = Field([], max_length=8)
    versions: bool = Field(default=False, description="All versions, not only the current one.")
    limit: int = Field(1000, ge=1, le=MAX_LIMIT)

    def question(self, now: int, *, point: str = "", device: str = "") -> Question:
        """Return what is asked of the office."""
        start, end = self.bounds(now)
        wanted = Wanted(tuple(sorted(set(self.obis))), tuple(sorted(set(self.kind))), tuple(sorted(set(self.source))))
        return Question(point, device, start, end, wanted, self.versions)


class EventsRange(Range):
    """Which events."""

    point: OptionalId = ""
    device: OptionalId = ""
    region: Region = ""
    limit: int = Field(100, ge=1, le=1000)


class Latest(Pages):
    """Whose latest values."""

    point: OptionalId = ""
    device: OptionalId = ""
    region: Region = ""
    kind: list[Kind] = Field([], max_length=8)
    limit: int = Field(1000, ge=1, le=MAX_LIMIT)


class After(Strict):
    """Where the change feed goes on."""

    after: Cursor = ""
    limit: int = Field(500, ge=1, le=5000)
    wait: float = Field(0, ge=0, le=30, description="Seconds to wait where there is nothing new.")


class Audit(Pages):
    """Which entries of the audit; all where nothing is said."""

    subject: str = Field("", pattern=r"^[A-Za-z0-9_.:/-]{0,128}$", description="What it was about, such as a command.")
    kind: OptionalId = ""
    from_: Instant = Field(None, alias="from")
    to: Instant = None

    def query(self) -> AuditQuery:
        """Return it as the head-end asks."""
        return AuditQuery(self.subject, self.kind, self.from_, self.to)


def no_parameters() -> Callable[[Request], None]:
    """Return a dependency for routes that take no query parameters."""

    def check(request: Request) -> None:
        for name in request.query_params:
            found = [{"field": name, "message": "there is no such parameter"}]
            raise ProblemError(400, "bad-parameter", f"{name}: there is no such parameter", errors=found)

    return check


ReadingsParameters = Annotated[ReadingsRange, Query()]
AuditParameters = Annotated[Audit, Query()]
EventsParameters = Annotated[EventsRange, Query()]
LatestParameters = Annotated[Latest, Query()]
AfterParameters = Annotated[After, Query()]
RegionParameters = Annotated[InRegion, Query()]

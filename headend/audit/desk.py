"""Who may read which entries of the audit, page by page. Blocking; it writes nothing."""

from typing import NamedTuple

import sqlalchemy as sa

from headend.audit.chain import Link, Trail
from headend.readings import BadRequestError, pack_cursor, unpack_cursor
from headend.registry import EVERYWHERE, covers
from headend.state.tables import audit
from headend.tokens import Grant

MAX_SEQ = 2**62


class AuditQuery(NamedTuple):
    """Which entries: of a subject, of a kind, with start <= at < end; nothing given: all."""

    subject: str = ""
    kind: str = ""
    start: int | None = None
    end: int | None = None


class AuditDesk:
    """Answers questions about the audit inside the asker's regions."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    def page(self, grant: Grant, query: AuditQuery, limit: int, cursor: str) -> tuple[list[Link], str]:
        """Return entries in the order of the chain, and the next page's cursor.

        An entry without a region is for those who see everything.

        Raises:
            BadRequestError: the cursor belongs to another question.
            StorageError: the state does not answer.

        """
        about = ("audit", *query)
        after = int(unpack_cursor(cursor, about, (int,))[0]) if cursor else 0
        if not 0 <= after <= MAX_SEQ:
            raise BadRequestError("cursor", "is not a cursor of this API")
        found = self._trail.page(after, limit + 1, _where(grant, query))
        page = found[:limit]
        return page, pack_cursor(about, page[-1].seq) if len(found) > limit else ""


def _where(grant: Grant, query: AuditQuery) -> sa.ColumnElement[bool]:
    wanted: list[sa.ColumnElement[bool]] = [sa.true()]
    if not covers(grant.regions, EVERYWHERE):
        inside = [audit.c.region == each for each in grant.regions]
        inside += [audit.c.region.startswith(f"{each}/", autoescape=True) for each in grant.regions]
        wanted.append(sa.or_(sa.false(), *inside))
    if query.subject:
        wanted.append(audit.c.subject == query.subject)
    if query.kind:
        wanted.append(audit.c.kind == query.kind)
    if query.start is not None:
        wanted.append(audit.c.at >= query.start)
    if query.end is not None:
        wanted.append(audit.c.at < query.end)
    return sa.and_(*wanted)

"""The registers: who is protected, held, in dispute, in a payment plan. An entry ends, and stays. No rule is here.

What an entry says it protects from is withheld supply. So one person adds it, and it takes two to end it before its
`until`: one asks, another one confirms in time. Nothing else changes an entry. Every change is in the audit, in its own
transaction.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from headend.audit.chain import Entry as AuditEntry
from headend.audit.chain import append
from headend.policy.facts import Entry, RegisterKind
from headend.state.store import State
from headend.state.tables import register_entries as table
from metering.model import SECOND

CONFIRM_WITHIN_S = 24 * 3600  # after which an end has to be asked for anew
MAX_ENTRIES = 100  # of one meter point, kind and name that have not ended: no others keep one out
_TOLD = ("id", "name", "since", "until", "reason", "source", "detail")
_FIELDS = tuple(each for each in Entry.__struct_fields__ if each != "detail")
_detail = msgspec.json.Decoder(dict[str, str])


class RegisterError(Exception):
    """It cannot be done to this entry; the text says why and what to do."""


class By(NamedTuple):
    """Who changes an entry: the token as the audit has it (`token:<id>`), whose it is, and the meter point's region."""

    actor: str
    person: str
    region: str


class Kept(msgspec.Struct, frozen=True):
    """An entry, and how it came to an early end: who asked for it, when, why, and who confirmed it."""

    entry: Entry
    added_at: int
    end_asked_by: str = ""
    end_asked_person: str = ""
    end_asked_at: int | None = None
    end_reason: str = ""
    ended_by: str = ""

    def is_asked(self, now: int) -> bool:
        """Tell whether its end waits for a second person."""
        asked = self.end_asked_at
        return not self.ended_by and asked is not None and 0 <= now - asked < CONFIRM_WITHIN_S * SECOND


class Registers:
    """All entries. Blocking; all methods raise `StorageError`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def of_point(self, point: str, region: str, now: int) -> list[Entry]:
        """Return the entries of a meter point, and the holds of the regions that it lies in, that count now."""
        return self.of_points({point: region}, now)[point]

    def of_points(self, regions: Mapping[str, str], now: int) -> dict[str, list[Entry]]:
        """Return the same for each of some hundred meter points, by its region."""
        within = {each: _regions(each) for each in set(regions.values())}
        own = table.c.point.in_(regions)
        wide = sa.and_(table.c.point == "", table.c.region.in_(set().union(*within.values())))
        until = sa.or_(table.c.until.is_(None), table.c.until > now)
        found: dict[str, list[Entry]] = {point: [] for point in regions}
        for each in self._select(sa.or_(own, wide), table.c.since <= now, until):
            entry = each.entry
            if entry.point:
                found[entry.point].append(entry)
                continue
            for point, region in regions.items():
                if entry.region in within[region]:
                    found[point].append(entry)
        return found

    def history(self, kind: RegisterKind, point: str) -> list[Kept]:
        """Return all entries of a meter point in a register, ended ones too, the oldest first."""
        return self._select(table.c.kind == kind, table.c.point == point)

    def page(self, kind: RegisterKind, after: tuple[str, str], limit: int, now: int | None) -> list[Kept]:
        """Return entries after (point, id) in that order; those that have not ended at `now`, or all (None)."""
        point, name = after
        where = [
            table.c.kind == kind,
            table.c.point != "",
            sa.or_(table.c.point > point, sa.and_(table.c.point == point, table.c.id > name)),
        ]
        where += [sa.or_(table.c.until.is_(None), table.c.until > now)] if now is not None else []
        return self._select(*where, order=(table.c.point, table.c.id), limit=limit)

    def of_regions(self, after: str, limit: int, now: int | None) -> list[Kept]:
        """Return holds of whole regions after an id, by ids; those that have not ended at `now`, or all (None)."""
        where = [table.c.kind == "hold", table.c.point == "", table.c.id > after]
        where += [sa.or_(table.c.until.is_(None), table.c.until > now)] if now is not None else []
        return self._select(*where, order=(table.c.id,), limit=limit)

    def get(self, kind: RegisterKind, point: str, name: str) -> Kept | None:
        """Return an entry; None where there is none."""
        return self._state.read(lambda connection: _get(connection, kind, point, name))

    def add(self, entry: Entry, region: str, now: int) -> Kept:
        """Add an entry and return it; the same one again adds nothing.

        Raises:
            RegisterError: an entry of this id says something else, or the meter point has too many of this name.

        """
        return self._state.write(lambda connection: _add(connection, entry, region, now))

    def end(self, kind: RegisterKind, point: str, name: str, by: By, reason: str, now: int) -> Kept:
        """Ask that an entry ends: it counts until another person confirms.

        Raises:
            KeyError: there is none.
            RegisterError: it has ended.

        """
        return self._state.write(lambda connection: _end(connection, (kind, point, name), by, reason, now))

    def confirm(self, kind: RegisterKind, point: str, name: str, by: By, now: int) -> Kept:
        """End an entry whose end another person asked for.

        Raises:
            KeyError: there is none.
            RegisterError: nobody asked, too long ago, or it was the same person.

        """
        return self._state.write(lambda connection: _confirm(connection, (kind, point, name), by, now))

    def _select(
        self, *where: sa.ColumnElement[bool], order: tuple[Any, ...] = (), limit: int | None = None
    ) -> list[Kept]:
        query = sa.select(table).where(*where).order_by(*(order or (table.c.since, table.c.id))).limit(limit)
        return [_kept(row) for row in self._state.read(lambda connection: connection.execute(query).all())]


def _regions(region: str) -> list[str]:
    """Return a region and all that it lies in."""
    names = region.split("/")
    return ["/".join(names[:count]) for count in range(1, len(names) + 1)]


def _add(connection: sa.Connection, entry: Entry, region: str, now: int) -> Kept:
    found = _get(connection, entry.kind, entry.point, entry.id)
    if found is not None:
        if msgspec.structs.replace(found.entry, by=entry.by) == entry and not found.ended_by:
            return found
        raise RegisterError(f"the entry {entry.id} is there already and says something else: choose another id")
    where = [
        table.c.point == entry.point,
        table.c.region == entry.region,
        table.c.kind == entry.kind,
        table.c.name == entry.name,
    ]
    where.append(sa.or_(table.c.until.is_(None), table.c.until > now))
    if connection.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one() >= MAX_ENTRIES:
        raise RegisterError(f"{MAX_ENTRIES} entries named {entry.name} have not ended there, and it takes no more")
    kept = Kept(entry, now)
    connection.execute(sa.insert(table).values(_row(kept)))
    body = {name: getattr(entry, name) for name in _TOLD}
    append(connection, [_told(now, entry.by, f"register-{entry.kind}-added", entry, region, body)])
    return kept


def _end(connection: sa.Connection, key: tuple[RegisterKind, str, str], by: By, reason: str, now: int) -> Kept:
    actor, person, region = by
    found = _open(connection, key, actor, now)
    if found.ended_by:
        return found
    if found.is_asked(now):
        return found
    changed = msgspec.structs.replace(
        found, end_asked_by=actor, end_asked_person=person, end_asked_at=now, end_reason=reason
    )
    _change(connection, changed)
    body = {"id": found.entry.id, "name": found.entry.name, "person": person, "reason": reason}
    append(connection, [_told(now, actor, f"register-{found.entry.kind}-end-asked", found.entry, region, body)])
    return changed


def _confirm(connection: sa.Connection, key: tuple[RegisterKind, str, str], by: By, now: int) -> Kept:
    actor, person, region = by
    found = _open(connection, key, actor, now)
    if found.ended_by:
        return found
    if not found.is_asked(now):
        hours = CONFIRM_WITHIN_S // 3600
        raise RegisterError(f"nobody asked within {hours} h that this entry ends: ask first, then another confirms")
    if found.end_asked_person == person or found.end_asked_by == actor:
        text = f"{person} asked for the end of this entry and does not confirm it: another person does"
        raise RegisterError(text)
    entry = msgspec.structs.replace(found.entry, until=now)
    changed = msgspec.structs.replace(found, entry=entry, ended_by=actor)
    _change(connection, changed)
    persons = {"asked_by": found.end_asked_by, "asked_person": found.end_asked_person, "person": person}
    body = {"id": entry.id, "name": entry.name, "reason": found.end_reason} | persons
    append(connection, [_told(now, actor, f"register-{found.entry.kind}-ended", found.entry, region, body)])
    return changed


def _open(connection: sa.Connection, key: tuple[RegisterKind, str, str], actor: str, now: int) -> Kept:
    """Return an entry that can end, or one that this very try ended before its connection broke."""
    found = _get(connection, *key)
    if found is None:
        raise KeyError(key[2])
    over = found.entry.until is not None and found.entry.until <= now
    if over and (found.ended_by, found.entry.until) != (actor, now):
        raise RegisterError(f"the entry {found.entry.id} has ended already")
    return found


def _change(connection: sa.Connection, kept: Kept) -> None:
    entry = kept.entry
    where = (table.c.kind == entry.kind, table.c.point == entry.point, table.c.id == entry.id)
    connection.execute(sa.update(table).where(*where).values(_row(kept)))


def _told(now: int, actor: str, kind: str, entry: Entry, region: str, body: Mapping[str, object]) -> AuditEntry:
    return AuditEntry(now, actor, kind, entry.point or entry.region, region, body)


def _get(connection: sa.Connection, kind: RegisterKind, point: str, name: str) -> Kept | None:
    query = sa.select(table).where(table.c.kind == kind, table.c.point == point, table.c.id == name)
    row = connection.execute(query).one_or_none()
    return None if row is None else _kept(row)


def _kept(row: Any) -> Kept:  # noqa: ANN401 - a row has the type of its query
    entry = Entry(**{name: getattr(row, name) for name in _FIELDS}, detail=_detail.decode(row.detail))
    return Kept(entry, **{name: getattr(row, name) for name in Kept.__struct_fields__ if name != "entry"})


def _row(kept: Kept) -> dict[str, Any]:
    own = {name: getattr(kept, name) for name in Kept.__struct_fields__ if name != "entry"}
    fields = {name: getattr(kept.entry, name) for name in _FIELDS}
    return own | fields | {"detail": msgspec.json.encode(kept.entry.detail, order="deterministic").decode()}

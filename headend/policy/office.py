"""Registers and collections' facts as the API asks for them: inside a token's regions, every change with its author."""

from collections.abc import Callable
from typing import Protocol

from headend.policy.collections import CollectionsError, FactsBook
from headend.policy.facts import CollectionFacts, Entry, RegisterKind
from headend.policy.registers import By, Kept, RegisterError, Registers
from headend.readings import BadRequestError, NotFoundError
from headend.registry import covers
from headend.tokens import Grant
from metering import timing
from metering.model import MeterPoint


class Points(Protocol):
    """Where meter points are known."""

    def point(self, point_id: str) -> MeterPoint | None:
        """Return a meter point; None where there is none."""
        ...


class RegisterOffice:
    """What the API asks. Blocking. Raises `NotFoundError`, `BadRequestError`, `StorageError`."""

    def __init__(
        self, registers: Registers, facts: FactsBook, points: Points, clock: Callable[[], int] = timing.now
    ) -> None:
        self._registers = registers
        self._facts = facts
        self._points = points
        self.clock = clock

    def page(self, grant: Grant, kind: RegisterKind, cursor: str, limit: int, *, ended: bool) -> tuple[list[Kept], str]:
        """Return entries in sight by meter point and id, and the next page's cursor.

        A page may have fewer entries than `limit`, as what is out of sight is left out of it.
        """
        point, slash, name = cursor.partition("/")
        if cursor and not (point and slash and name):
            raise BadRequestError("cursor", "it is not one that a page ended with")
        found = self._registers.page(kind, (point, name), limit, None if ended else self.clock())
        after = f"{found[-1].entry.point}/{found[-1].entry.id}" if len(found) == limit else ""
        return [each for each in found if self._sees(grant, each.entry.point)], after

    def of_point(self, grant: Grant, kind: RegisterKind, point: str) -> list[Kept]:
        """Return all entries of a meter point in a register, ended ones too."""
        self._region(grant, point)
        return self._registers.history(kind, point)

    def add(self, grant: Grant, entry: Entry) -> Kept:
        """Add an entry. Its `by` is the grant's own."""
        region = self._region(grant, entry.point)
        if entry.until is not None and entry.until <= entry.since:
            raise BadRequestError("until", "it lies after since")
        try:
            return self._registers.add(entry, region, self.clock())
        except RegisterError as error:
            raise BadRequestError("id", str(error)) from None

    def end(self, grant: Grant, kind: RegisterKind, point: str, name: str, reason: str) -> Kept:
        """Ask that an entry ends, which another person confirms."""
        region = self._region(grant, point)
        try:
            return self._registers.end(kind, point, name, _by(grant, region), reason, self.clock())
        except KeyError:
            raise NotFoundError(f"there is no entry {name}") from None
        except RegisterError as error:
            raise BadRequestError("id", str(error)) from None

    def confirm(self, grant: Grant, kind: RegisterKind, point: str, name: str) -> Kept:
        """End an entry whose end another person asked for."""
        region = self._region(grant, point)
        try:
            return self._registers.confirm(kind, point, name, _by(grant, region), self.clock())
        except KeyError:
            raise NotFoundError(f"there is no entry {name}") from None
        except RegisterError as error:
            raise BadRequestError("id", str(error)) from None

    def put_facts(self, grant: Grant, point: str, facts: CollectionFacts) -> None:
        """Keep what collections says of a meter point."""
        region = self._region(grant, point)
        try:
            self._facts.put(point, facts, actor(grant), region, self.clock())
        except CollectionsError as error:
            raise BadRequestError("at", str(error).removeprefix("at: ")) from None

    def facts(self, grant: Grant, point: str) -> CollectionFacts:
        """Return what collections pushed last of a meter point."""
        self._region(grant, point)
        found = self._facts.get(point)
        if found is None:
            raise NotFoundError(f"collections has said nothing of the meter point {point}")
        return found

    def _sees(self, grant: Grant, point: str) -> bool:
        found = self._points.point(point)
        return found is not None and covers(grant.regions, found.region)

    def _region(self, grant: Grant, point: str) -> str:
        found = self._points.point(point)
        if found is None or not covers(grant.regions, found.region):
            raise NotFoundError(f"there is no meter point {point}")
        return found.region


def _by(grant: Grant, region: str) -> By:
    return By(actor(grant), grant.who, region)


def actor(grant: Grant) -> str:
    """Return who asks, as the audit has it."""
    return f"token:{grant.token}"

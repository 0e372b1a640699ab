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
        return self._add(entry, self._region(grant, entry.point))

    def end(self, grant: Grant, kind: RegisterKind, point: str, name: str, reason: str) -> Kept:
        """Ask that an entry ends, which another person confirms."""
        return self._end((kind, point, name), _by(grant, self._region(grant, point)), reason)

    def confirm(self, grant: Grant, kind: RegisterKind, point: str, name: str) -> Kept:
        """End an entry whose end another person asked for."""
        return self._confirm((kind, point, name), _by(grant, self._region(grant, point)))

    # --- of whole regions ---------------------------------------------------------------------------------------------

    def holds_of_regions(self, grant: Grant, cursor: str, limit: int, *, ended: bool) -> tuple[list[Kept], str]:
        """Return holds of regions in sight by their ids, and the next page's cursor, as `page` does."""
        found = self._registers.of_regions(cursor, limit, None if ended else self.clock())
        after = found[-1].entry.id if len(found) == limit else ""
        return [each for each in found if covers(grant.regions, each.entry.region)], after

    def hold_region(self, grant: Grant, entry: Entry) -> Kept:
        """Add a hold for a region."""
        if not covers(grant.regions, entry.region):
            raise NotFoundError(f"there is no region {entry.region}")
        return self._add(entry, entry.region)

    def end_of_region(self, grant: Grant, name: str, reason: str) -> Kept:
        """Ask that a region's hold ends, which another person confirms."""
        return self._end(("hold", "", name), _by(grant, self._held_region(grant, name)), reason)

    def confirm_of_region(self, grant: Grant, name: str) -> Kept:
        """End a region's hold whose end another person asked for."""
        return self._confirm(("hold", "", name), _by(grant, self._held_region(grant, name)))

    def _held_region(self, grant: Grant, name: str) -> str:
        found = self._registers.get("hold", "", name)
        if found is None or not covers(grant.regions, found.entry.region):
            raise NotFoundError(f"there is no entry {name}")
        return found.entry.region

    # --- collections' word --------------------------------------------------------------------------------------------

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

    def _add(self, entry: Entry, region: str) -> Kept:
        if entry.until is not None and entry.until <= entry.since:
            raise BadRequestError("until", "it lies after since")
        try:
            return self._registers.add(entry, region, self.clock())
        except RegisterError as error:
            raise BadRequestError("id", str(error)) from None

    def _end(self, key: tuple[RegisterKind, str, str], by: By, reason: str) -> Kept:
        try:
            return self._registers.end(*key, by, reason, self.clock())
        except KeyError:
            raise NotFoundError(f"there is no entry {key[2]}") from None
        except RegisterError as error:
            raise BadRequestError("id", str(error)) from None

    def _confirm(self, key: tuple[RegisterKind, str, str], by: By) -> Kept:
        try:
            return self._registers.confirm(*key, by, self.clock())
        except KeyError:
            raise NotFoundError(f"there is no entry {key[2]}") from None
        except RegisterError as error:
            raise BadRequestError("id", str(error)) from None

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

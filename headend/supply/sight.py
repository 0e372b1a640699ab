"""Which commands an asker sees: those inside the regions of the token. It changes nothing."""

import sqlalchemy as sa

from headend.readings import NotFoundError
from headend.registry import covers
from headend.state.tables import commands as table
from headend.supply.book import Book
from headend.supply.command import Command
from headend.tokens import Grant


class Sight:
    """The commands of a book as askers see them. All methods raise `NotFoundError`, `StorageError`."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def get(self, name: str) -> Command:
        """Return a command, whoever asks."""
        found = self._book.get(name)
        if found is None:
            raise NotFoundError(f"there is no command {name}")
        return found

    def seen(self, grant: Grant, name: str) -> Command:
        """Return a command that the asker sees."""
        found = self._book.get(name)
        if found is None or not covers(grant.regions, found.region):
            raise NotFoundError(f"there is no command {name}")
        return found

    def together(self, command: Command) -> list[Command]:
        """Return a command, or its whole campaign, whoever asks."""
        return self._book.of_campaign(command.campaign) if command.campaign else [self.get(command.id)]

    def all(self, grant: Grant, command: Command) -> list[Command]:
        """Return a command, or its whole campaign, all of which the asker must see."""
        found = self.together(command)
        if not all(covers(grant.regions, each.region) for each in found):
            raise NotFoundError(f"the campaign {command.campaign} reaches beyond your regions")
        return found


def inside(grant: Grant) -> sa.ColumnElement[bool]:
    """Return what holds for commands inside the asker's regions."""
    found: list[sa.ColumnElement[bool]] = []
    for prefix in grant.regions:
        path = prefix.strip("/")
        within = sa.or_(table.c.region == path, table.c.region.startswith(f"{path}/", autoescape=True))
        found.append(within if path else sa.true())
    return sa.or_(*found) if found else sa.false()

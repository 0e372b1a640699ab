"""Signatures of commands and campaigns at the head-end: whose they are, and whether there are enough. No authority.

The gateway judges them itself by the document on its own disk: what is believed here only saves a journey.
"""

from collections.abc import Callable

import msgspec

from headend.supply.book import Book
from headend.supply.command import Command
from metering.supply import WITHHOLDING, CommandMessage
from metering.supply_states import State
from trust.authority import Authority, NotAuthorisedError
from trust.document import TrustDocument
from trust.signatures import BadSignatureError, Kind, payload_of, verify

Trust = Callable[[str], TrustDocument | None]  # the copy of a gateway's trust document


class NotAcceptedError(ValueError):
    """A request that the desk understands and refuses; `kind` names the refusal, `reasons` what is missing."""

    def __init__(self, kind: str, text: str, reasons: list[str] | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.reasons = reasons or []


class Signatures:
    """The signatures in a book, judged by copies of the gateways' trust documents."""

    def __init__(self, book: Book, trust: Trust) -> None:
        self._book = book
        self._trust = trust

    def check(self, command: Command, kind: Kind, payload: bytes, signed: bytes) -> frozenset[str]:
        """Return whose signatures these are: all of them of approvers that the gateway's document knows."""
        document = self.document(command)
        try:
            if payload_of(signed) != payload:
                raise NotAcceptedError("bad-signature", "something else was signed than this command")
            kids = verify(signed, kind, document.approver_keys()).kids
        except BadSignatureError as error:
            raise NotAcceptedError("bad-signature", str(error)) from None
        count = len(msgspec.json.decode(signed)["signatures"])
        if count != len(kids):
            text = f"{count - len(kids)} of the signatures are doubled or of keys that {command.gateway} does not know"
            raise NotAcceptedError("bad-signature", text)
        return kids

    def message(self, command: Command) -> CommandMessage:
        """Return a command as it is sent, without a go."""
        return CommandMessage(command.id, command.body, self.of(command), command.path)

    def missing(self, command: Command) -> list[str]:
        """Return what a command waits for, in words."""
        if command.state is State.QUARANTINED:
            return [command.why]
        if command.state is not State.AWAITING_APPROVAL:
            return []
        if not self.of(command):
            k = self.document(command).k if command.order.action in WITHHOLDING else 1
            return [f"{k} approvals"]
        try:
            Authority(self.document(command)).authorise(self.message(command))
        except NotAuthorisedError as error:
            return [str(error)]
        return []

    def document(self, command: Command) -> TrustDocument:
        """Return the copy of the trust document of a command's gateway. Raises `NotAcceptedError`."""
        found = self._trust(command.gateway)
        if found is None:
            text = f"no trust document of {command.gateway} is known here: [supply] trust"
            raise NotAcceptedError("no-trust-document", text)
        return found

    def payload(self, command: Command) -> bytes:
        """Return what is signed: the canonical command, or its campaign's manifest."""
        return self._book.manifest(command.campaign)[0] if command.campaign else command.body

    def of(self, command: Command) -> bytes:
        """Return the signatures so far; empty for none."""
        return self._book.manifest(command.campaign)[1] if command.campaign else command.signed

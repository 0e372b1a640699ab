"""Whether a command was ordered by those who may, as the gateway's own trust document has it. Pure; no clock, no state.

The head-end's word counts for nothing here: a stolen head-end, broker or database can withhold commands and can make
none.
"""

from typing import NamedTuple

from metering.supply import (
    WITHHOLDING,
    Action,
    CommandMessage,
    Manifest,
    SupplyCommand,
    parse_command,
    parse_manifest,
)
from trust.document import Binding, Service, TrustDocument, persons_of
from trust.keys import PublicKey
from trust.merkle import leads_to
from trust.signatures import BadSignatureError, Kind, payload_of, verify

MAX_BODY = 4096  # bytes of one command
# What a service key may give by itself, and only for what was opened for a debt (the guard's own record says that).
OF_A_SERVICE = frozenset({Action.RESTORE, Action.UNLIMIT})


class NotAuthorisedError(ValueError):
    """A command that this gateway must not carry out; the text says why."""


class Authorised(NamedTuple):
    """A command with its meter's binding, and who stands behind it: persons, at most one service, and their keys.

    It acts at a time of chance within `spread_s`.
    """

    command: SupplyCommand
    binding: Binding
    persons: frozenset[str]
    service: Service | None
    kids: frozenset[str] = frozenset()
    spread_s: int = 0


class Authority:
    """Judges commands by one trust document."""

    def __init__(self, document: TrustDocument) -> None:
        self.document = document
        self._bindings = {each.device: each for each in document.bindings}
        self._services = {PublicKey.parse(each.key).id: each for each in document.services}
        self._keys = document.approver_keys() | document.service_keys()

    def authorise(self, message: CommandMessage) -> Authorised:
        """Return the command of a message if it may be carried out as far as signatures and the document say.

        Reading a meter's state takes nothing from anybody and needs no signature.

        Raises:
            NotAuthorisedError: it may not; the text says why.

        """
        command = _command(message)
        binding = self._bound(command)
        if command.action is Action.READ_STATE:
            return Authorised(command, binding, frozenset(), None)
        try:
            kids, campaign = self._signers(message, command)
        except BadSignatureError as error:
            raise NotAuthorisedError(str(error)[:300]) from None
        persons = persons_of(self.document.approvers, kids)
        services = [self._services[kid] for kid in sorted(kids) if kid in self._services]
        service = services[0] if services else None
        self._enough(command, persons, service)
        least = self.document.caps.spread_s if campaign and command.action in WITHHOLDING else 0
        return Authorised(command, binding, persons, service, kids, max(command.spread_s, least))

    def binding_of(self, command: SupplyCommand) -> Binding | None:
        """Return the binding of a command's meter; None where it is not bound as the command means it."""
        try:
            return self._bound(command)
        except NotAuthorisedError:
            return None

    def _bound(self, command: SupplyCommand) -> Binding:
        """Return the binding of the command's meter, which must be meant in every detail."""
        if command.gateway != self.document.gateway:
            raise NotAuthorisedError(f"it is for the gateway {command.gateway}, not for {self.document.gateway}")
        binding = self._bindings.get(command.device)
        if binding is None:
            raise NotAuthorisedError(f"the trust document binds no meter {command.device}")
        for name in ("point", "serial", "installation", "floor_w"):
            meant, bound = getattr(command, name), getattr(binding, name)
            if meant != bound:
                raise NotAuthorisedError(f"{name} {meant!r} is meant; {binding.device} is bound with {bound!r}")
        return binding

    def _signers(self, message: CommandMessage, command: SupplyCommand) -> tuple[frozenset[str], bool]:
        """Return the ids of the keys that signed it, and whether they signed a campaign."""
        if message.proof or payload_of(message.signed) != message.body:
            verified = verify(message.signed, Kind.MANIFEST, self._keys)
            _belongs(command, message, _manifest(verified.payload))
            return verified.kids, True
        return verify(message.signed, Kind.COMMAND, self._keys).kids, False

    def _enough(self, command: SupplyCommand, persons: frozenset[str], service: Service | None) -> None:
        if command.action in WITHHOLDING:
            if command.requester in persons:
                raise NotAuthorisedError(f"{command.requester} requested it and cannot approve it")
            if len(persons) < self.document.k:
                raise NotAuthorisedError(f"{len(persons)} of the approvers signed it; {self.document.k} are needed")
            if command.point in self.document.never_cut:
                raise NotAuthorisedError(f"the meter point {command.point} is on the never-cut list")
        elif not persons and service is None:
            raise NotAuthorisedError("none of the approvers signed it; one is needed")
        elif not persons and command.action not in OF_A_SERVICE:
            raise NotAuthorisedError(f"a service alone may restore and unlimit, not {command.action}")


def _command(message: CommandMessage) -> SupplyCommand:
    if len(message.body) > MAX_BODY:
        raise NotAuthorisedError(f"a command of {len(message.body)} bytes; the limit is {MAX_BODY}")
    try:
        command = parse_command(message.body)
    except (ValueError, RecursionError) as error:
        raise NotAuthorisedError(f"no command: {str(error)[:200]}") from None
    if faults := command.faults():
        raise NotAuthorisedError("; ".join(faults))
    if command.id != message.id:
        raise NotAuthorisedError(f"the message {message.id} carries the command {command.id}")
    return command


def _manifest(payload: bytes) -> Manifest:
    try:
        return parse_manifest(payload)
    except (ValueError, RecursionError) as error:
        raise NotAuthorisedError(f"neither this command nor a campaign was signed: {str(error)[:200]}") from None


def _belongs(command: SupplyCommand, message: CommandMessage, manifest: Manifest) -> None:
    if not leads_to(message.body, message.proof, bytes.fromhex(manifest.root)):
        raise NotAuthorisedError(f"the command is none of the campaign {manifest.id}, which was signed")
    if (manifest.action, manifest.requester) != (command.action, command.requester):
        raise NotAuthorisedError("action or requester are not those of the campaign that was signed")
    if command.not_before < manifest.not_before or command.expires_at > manifest.expires_at:
        raise NotAuthorisedError("the command reaches beyond the time of the campaign that was signed")

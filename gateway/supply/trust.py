"""The trust document in force at a gateway, and who may order what by it. How it lies on the disk is `trust_file`."""

import structlog

from gateway.supply.trust_file import TrustFile
from metering.errors import ConfigError
from metering.supply import SupplyCommand
from trust.authority import Authority
from trust.document import Binding, TrustDocument

logger = structlog.get_logger(__name__)


class Trust:
    """What is in force now."""

    def __init__(self, file: TrustFile) -> None:
        self._file = file
        self.authority = Authority(file.document) if file.document is not None else None

    @property
    def document(self) -> TrustDocument | None:
        """Return the document in force; None: none was installed."""
        return self._file.document

    def binding_of(self, command: SupplyCommand) -> Binding | None:
        """Return the binding of a command's meter; None where it is not bound as the command means it."""
        return self.authority.binding_of(command) if self.authority is not None else None

    def renew(self) -> None:
        """Take up a document that was installed meanwhile; one that cannot be used leaves the last one in force."""
        try:
            changed = self._file.renew()
        except ConfigError as error:
            logger.warning("the trust document on disk cannot be used: the last one stays", reason=str(error))
            return
        if changed and self._file.document is not None:
            self.authority = Authority(self._file.document)
            logger.info("a trust document is in force", version=self._file.document.version)

"""The get service of a simulated meter: single values, lists, blocks, and the faults of a transfer."""

from collector.protocols.dlms import axdr, get
from collector.protocols.dlms.acse import Conformance
from collector.protocols.dlms.invoke import Apdu
from collector.protocols.dlms.references import Access, Attribute, DataAccessResult
from simulators.dlms_blocks import BLOCK_OVERHEAD, UNKNOWN, Outgoing, Turn
from simulators.dlms_objects import Denied, find


class Reading:
    """Answers get-requests of one association."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._getting: Outgoing | None = None

    def _value(self, attribute: Attribute, access: Access | None) -> axdr.Data | DataAccessResult:
        if access is not None and not self._turn.agreed.conformance & Conformance.SELECTIVE_ACCESS:
            return DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
        try:
            found = find(self._turn.meter.objects, attribute.class_id, attribute.obis)
            return found.get(attribute.attribute, self._turn.ask(access))
        except Denied as denied:
            return denied.result

    def single(self, request: get.GetRequest) -> Apdu:
        """Answer get-request-normal."""
        self._getting = None
        value = self._value(request.attribute, request.access)
        if isinstance(value, DataAccessResult):
            return get.GetResponse(request.invoke, value)
        whole = get.GetResponse(request.invoke, axdr.encode(value))
        return whole if self._fits(whole) else self._in_blocks(request.invoke, whole.data)

    def several(self, request: get.GetListRequest) -> Apdu:
        """Answer get-request-with-list."""
        self._getting = None
        results = tuple(self._value(attribute, access) for attribute, access in request.targets)
        whole = get.GetListResponse(request.invoke, results)
        return whole if self._fits(whole) else self._in_blocks(request.invoke, get.write_results(results))

    def _fits(self, apdu: Apdu) -> bool:
        if self._turn.struck_by("wrong_block", "endless", "abort"):
            return False  # such a fault wants a transfer to strike
        length = len(apdu.to_bytes())
        size = self._turn.meter.settings.access.block_size
        return length <= self._turn.agreed.max_pdu and (size is None or length <= size + BLOCK_OVERHEAD)

    def _block_size(self) -> int:
        most = max(self._turn.agreed.max_pdu - BLOCK_OVERHEAD, 1)
        return min(self._turn.meter.settings.access.block_size or most, most)

    def _in_blocks(self, invoke: int, raw: bytes | DataAccessResult) -> Apdu:
        if not self._turn.agreed.conformance & Conformance.BLOCK_GET or isinstance(raw, DataAccessResult):
            return get.GetResponse(invoke, DataAccessResult.DATA_BLOCK_UNAVAILABLE)
        self._getting = Outgoing(raw, self._turn.block_size())
        return self._block(invoke)

    def further(self, request: get.GetNextRequest) -> Apdu:
        """Answer get-request-next."""
        going = self._getting
        if going is None:
            return _no_block(request, DataAccessResult.NO_LONG_GET_IN_PROGRESS)
        if request.number != going.number:
            self._getting = None
            return _no_block(request, DataAccessResult.DATA_BLOCK_NUMBER_INVALID)
        return self._block(request.invoke)

    def _block(self, invoke: int) -> Apdu:
        going = self._getting
        if going is None:
            return UNKNOWN
        last, number, raw = going.next()
        if self._turn.struck_by("abort"):
            self._getting = None
            result = DataAccessResult.LONG_GET_ABORTED
            return get.GetBlockResponse(invoke, last=True, number=number, raw=result)
        if self._turn.struck_by("endless"):
            again = raw or going.raw[: going.size]
            return get.GetBlockResponse(invoke, last=False, number=number, raw=again)
        if last:
            self._getting = None
        if self._turn.struck_by("wrong_block"):
            number += 1
        return get.GetBlockResponse(invoke, last=last, number=number, raw=raw)


def _no_block(request: get.GetNextRequest, result: DataAccessResult) -> Apdu:
    return get.GetBlockResponse(request.invoke, last=True, number=request.number, raw=result)

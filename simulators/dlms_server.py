"""The services of a simulated meter within an open association: plain APDUs in, plain APDUs out. No keys."""

from collections.abc import Callable
from typing import NamedTuple

from collector.protocols.dlms import action, failures, get
from collector.protocols.dlms import set as setting
from collector.protocols.dlms.acse import Conformance
from collector.protocols.dlms.invoke import Apdu
from simulators.dlms_blocks import UNKNOWN, Agreed, Turn
from simulators.dlms_faults import DlmsFault, spoilt_value
from simulators.dlms_meter import DlmsMeter
from simulators.dlms_reading import Reading
from simulators.dlms_writing import Writing


class _Service(NamedTuple):
    """What a request needs to have been agreed on, and who answers it."""

    needs: Conformance
    answer: Callable[..., Apdu]


class Services:
    """Serves the requests of one open association."""

    def __init__(self, meter: DlmsMeter, agreed: Agreed) -> None:
        self._turn = Turn(meter, agreed)
        self._agreed = agreed
        reading, writing, can = Reading(self._turn), Writing(self._turn), Conformance
        self._services: dict[type[Apdu], _Service] = {
            get.GetRequest: _Service(can.GET, reading.single),
            get.GetNextRequest: _Service(can.BLOCK_GET, reading.further),
            get.GetListRequest: _Service(can.MULTIPLE_REFERENCES, reading.several),
            setting.SetRequest: _Service(can.SET, writing.set),
            setting.SetListRequest: _Service(can.MULTIPLE_REFERENCES, writing.set_list),
            setting.SetFirstBlockRequest: _Service(can.BLOCK_SET, writing.set_first),
            setting.SetListFirstBlockRequest: _Service(can.BLOCK_SET, writing.set_list_first),
            setting.SetBlockRequest: _Service(can.BLOCK_SET, writing.set_block),
            action.ActionRequest: _Service(can.ACTION, writing.act),
            action.ActionListRequest: _Service(can.MULTIPLE_REFERENCES, writing.act_list),
            action.ActionNextBlockRequest: _Service(can.BLOCK_ACTION, writing.act_next),
            action.ActionFirstBlockRequest: _Service(can.BLOCK_ACTION, writing.act_first),
            action.ActionListFirstBlockRequest: _Service(can.BLOCK_ACTION, writing.act_list_first),
            action.ActionBlockRequest: _Service(can.BLOCK_ACTION, writing.act_block),
        }

    def answer(self, request: Apdu, now: int, fault: DlmsFault | None = None) -> Apdu:
        """Return the answer to a request APDU at `now`, spoiled by a fault of the reply where one strikes."""
        self._turn.now, self._turn.fault = now, fault
        if fault is not None and fault.kind == "exception":
            return failures.ExceptionResponse(failures.NOT_ALLOWED, fault.code)
        if fault is not None and isinstance(request, get.GetRequest):
            spoilt = spoilt_value(fault)
            if spoilt:
                return get.GetResponse(request.invoke, spoilt)
        service = self._services.get(type(request))
        if service is None or not self._agreed.conformance & service.needs:
            return UNKNOWN
        return service.answer(request)

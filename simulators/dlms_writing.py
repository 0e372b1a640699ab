"""The set and action services of a simulated meter: single ones, lists, and values that come or go in blocks."""

from collections.abc import Callable

from collector.protocols.dlms import action, axdr
from collector.protocols.dlms import set as setting
from collector.protocols.dlms.acse import Conformance
from collector.protocols.dlms.cursor import Cursor
from collector.protocols.dlms.invoke import Apdu
from collector.protocols.dlms.references import Access, ActionResult, Attribute, DataAccessResult, Method
from metering.errors import FrameError
from simulators.dlms_blocks import UNKNOWN, Incoming, Outgoing, Turn
from simulators.dlms_objects import Denied, find

MAX_LONG_SET = 65536  # bytes of a value that comes in blocks

_BlockIn = (
    setting.SetFirstBlockRequest
    | setting.SetListFirstBlockRequest
    | setting.SetBlockRequest
    | action.ActionFirstBlockRequest
    | action.ActionListFirstBlockRequest
    | action.ActionBlockRequest
)


class Writing:
    """Answers set- and action-requests of one association."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._giving: Outgoing | None = None  # what a method returns
        self._taking: Incoming | None = None

    def _change(self, attribute: Attribute, access: Access | None, value: axdr.Data) -> DataAccessResult:
        try:
            found = find(self._turn.meter.objects, attribute.class_id, attribute.obis)
            found.set(attribute.attribute, value, self._turn.ask(access))
        except Denied as denied:
            return denied.result
        return DataAccessResult.SUCCESS

    def set(self, request: setting.SetRequest) -> Apdu:
        """Answer set-request-normal."""
        return setting.SetResponse(request.invoke, self._change(request.attribute, request.access, request.value))

    def set_list(self, request: setting.SetListRequest) -> Apdu:
        """Answer set-request-with-list."""
        pairs = zip(request.targets, request.values, strict=True)
        results = tuple(self._change(attribute, access, value) for (attribute, access), value in pairs)
        return setting.SetListResponse(request.invoke, results)

    def set_first(self, request: setting.SetFirstBlockRequest) -> Apdu:
        """Answer set-request-with-first-datablock."""

        def done(invoke: int, number: int, raw: bytes) -> Apdu:
            try:
                value = axdr.decode_all(raw)
            except FrameError:
                return setting.SetLastBlockResponse(invoke, DataAccessResult.TYPE_UNMATCHED, number)
            result = self._change(request.attribute, request.access, value)
            return setting.SetLastBlockResponse(invoke, result, number)

        self._taking = Incoming(done)
        return self._take(request, setting.SetBlockResponse, setting.SetLastBlockResponse)

    def set_list_first(self, request: setting.SetListFirstBlockRequest) -> Apdu:
        """Answer set-request-with-list-and-first-datablock."""

        def done(invoke: int, number: int, raw: bytes) -> Apdu:
            try:
                values = setting.read_values(Cursor(raw))
                pairs = list(zip(request.targets, values, strict=True))
            except (FrameError, ValueError):
                return setting.SetLastBlockResponse(invoke, DataAccessResult.TYPE_UNMATCHED, number)
            results = tuple(self._change(attribute, access, value) for (attribute, access), value in pairs)
            return setting.SetLastListBlockResponse(invoke, results, number)

        self._taking = Incoming(done)
        return self._take(request, setting.SetBlockResponse, setting.SetLastBlockResponse)

    def set_block(self, request: setting.SetBlockRequest) -> Apdu:
        """Answer set-request-with-datablock."""
        if self._taking is None:
            result = DataAccessResult.NO_LONG_SET_IN_PROGRESS
            return setting.SetLastBlockResponse(request.invoke, result, request.number)
        return self._take(request, setting.SetBlockResponse, setting.SetLastBlockResponse)

    def _take(
        self,
        request: _BlockIn,
        more: Callable[[int, int], Apdu],
        refused: Callable[[int, DataAccessResult, int], Apdu],
    ) -> Apdu:
        taking = self._taking
        if taking is None:
            return UNKNOWN
        taking.number += 1
        taking.raw += request.raw
        if request.number != taking.number or len(taking.raw) > MAX_LONG_SET:
            self._taking = None
            wrong = request.number != taking.number
            result = DataAccessResult.DATA_BLOCK_NUMBER_INVALID if wrong else DataAccessResult.LONG_SET_ABORTED
            return refused(request.invoke, result, request.number)
        if not request.last:
            return more(request.invoke, request.number)
        self._taking = None
        return taking.done(request.invoke, request.number, bytes(taking.raw))

    # -- action

    def _do(self, method: Method, parameter: axdr.Data | None) -> tuple[ActionResult, action.Returned]:
        try:
            found = find(self._turn.meter.objects, method.class_id, method.obis)
            return ActionResult.SUCCESS, found.do(method.method, parameter, self._turn.ask())
        except Denied as denied:
            return ActionResult(denied.result), None

    def act(self, request: action.ActionRequest) -> Apdu:
        """Answer action-request-normal."""
        result, returned = self._do(request.method, request.parameter)
        whole = action.ActionResponse(request.invoke, result, returned)
        return self._give(request.invoke, whole, action.write_outcome(result, returned))

    def act_list(self, request: action.ActionListRequest) -> Apdu:
        """Answer action-request-with-list."""
        return self._acted(request.invoke, request.methods, request.parameters)

    def _acted(self, invoke: int, methods: tuple[Method, ...], parameters: tuple[axdr.Data, ...]) -> Apdu:
        pairs = zip(methods, parameters, strict=True)
        results = tuple(self._do(method, _unless_null(parameter)) for method, parameter in pairs)
        whole = action.ActionListResponse(invoke, results)
        raw = axdr.encode_length(len(results)) + b"".join(action.write_outcome(*result) for result in results)
        return self._give(invoke, whole, raw)

    def _give(self, invoke: int, whole: Apdu, raw: bytes) -> Apdu:
        if (
            len(whole.to_bytes()) <= self._turn.agreed.max_pdu
            or not self._turn.agreed.conformance & Conformance.BLOCK_ACTION
        ):
            return whole
        self._giving = Outgoing(raw, self._turn.block_size())
        return action.ActionBlockResponse(invoke, *self._giving.next())

    def act_next(self, request: action.ActionNextBlockRequest) -> Apdu:
        """Answer action-request-next-pblock."""
        giving = self._giving
        if giving is None or request.number != giving.number:
            self._giving = None
            return action.ActionResponse(request.invoke, ActionResult.NO_LONG_ACTION_IN_PROGRESS)
        last, number, raw = giving.next()
        if last:
            self._giving = None
        return action.ActionBlockResponse(request.invoke, last, number, raw)

    def act_first(self, request: action.ActionFirstBlockRequest) -> Apdu:
        """Answer action-request-with-first-pblock."""

        def done(invoke: int, _: int, raw: bytes) -> Apdu:
            try:
                parameter = axdr.decode_all(raw)
            except FrameError:
                return action.ActionResponse(invoke, ActionResult.TYPE_UNMATCHED)
            return self.act(action.ActionRequest(invoke, request.method, parameter))

        self._taking = Incoming(done)
        return self._take(request, action.ActionNextBlockResponse, _action_refused)

    def act_list_first(self, request: action.ActionListFirstBlockRequest) -> Apdu:
        """Answer action-request-with-list-and-first-pblock."""

        def done(invoke: int, _: int, raw: bytes) -> Apdu:
            try:
                parameters = setting.read_values(Cursor(raw))
                return self._acted(invoke, request.methods, parameters)
            except (FrameError, ValueError):
                return action.ActionResponse(invoke, ActionResult.TYPE_UNMATCHED)

        self._taking = Incoming(done)
        return self._take(request, action.ActionNextBlockResponse, _action_refused)

    def act_block(self, request: action.ActionBlockRequest) -> Apdu:
        """Answer action-request-with-pblock."""
        if self._taking is None:
            return action.ActionResponse(request.invoke, ActionResult.NO_LONG_ACTION_IN_PROGRESS)
        return self._take(request, action.ActionNextBlockResponse, _action_refused)


def _action_refused(invoke: int, result: DataAccessResult, _: int) -> Apdu:
    del result
    return action.ActionResponse(invoke, ActionResult.LONG_ACTION_ABORTED)


def _unless_null(parameter: axdr.Data) -> axdr.Data | None:
    return None if parameter.tag is axdr.Tag.NULL else parameter

"""Get, set and action of a simulated DLMS meter as APDUs: lists, blocks in both directions, and refusals."""

from collections.abc import Callable
from typing import Any

import pytest

from collector.protocols.dlms import action, axdr, failures, get
from collector.protocols.dlms import set as setting
from collector.protocols.dlms.acse import Conformance
from collector.protocols.dlms.apdu import parse_apdu
from collector.protocols.dlms.association import CLIENT_CONFORMANCE
from collector.protocols.dlms.association import Association as Wanted
from collector.protocols.dlms.cursor import Cursor
from collector.protocols.dlms.invoke import Apdu
from collector.protocols.dlms.references import ActionResult, Attribute, DataAccessResult, Method
from simulators.dlms_meter import DlmsSettings
from simulators.dlms_security import AccessSettings, Client

Bench = Any
Make = Callable[..., Any]
Ask = Callable[[Apdu], Any]
C = 0xC1
OVER, UNDER = Attribute(71, "0-0:17.0.0*255", 6), Attribute(71, "0-0:17.0.0*255", 7)
SERIAL, NOBODY = Attribute(1, "0-0:96.1.0*255", 2), Attribute(1, "0-0:96.1.7*255", 2)
SHIFT, PRESET = Method(8, "0-0:1.0.0*255", 6), Method(8, "0-0:1.0.0*255", 5)
OPEN_CLIENT = 17
SECOND = 1_000_000


@pytest.fixture
def bench(make: Make) -> Bench:
    return make(DlmsSettings(history=False, access=AccessSettings((Client(OPEN_CLIENT),), block_size=20)))


@pytest.fixture
def ask(bench: Bench) -> Ask:
    talk = bench.talk(Wanted(OPEN_CLIENT))
    return lambda apdu: parse_apdu(talk.association.serve(apdu.to_bytes(), bench.clock.now))


def in_pieces(raw: bytes, size: int = 4) -> list[tuple[bool, int, bytes]]:
    parts = [raw[at : at + size] for at in range(0, len(raw), size)]
    return [(number == len(parts), number, part) for number, part in enumerate(parts, 1)]


def test_a_list_of_values_comes_in_blocks_that_join_to_it(bench: Bench, ask: Ask):
    targets = tuple((attribute, None) for attribute in (SERIAL, NOBODY, OVER, SERIAL))
    answer, raw = ask(get.GetListRequest(C, targets)), b""
    while True:
        raw += answer.raw
        if answer.last:
            break
        answer = ask(get.GetNextRequest(C, answer.number))
    serial, over = axdr.octets(bench.meter.meter.serial.encode()), axdr.u32(60)
    assert get.read_results(Cursor(raw)) == (serial, DataAccessResult.OBJECT_UNDEFINED, over, serial)


def test_a_list_of_values_is_written_each_with_its_own_result(bench: Bench, ask: Ask):
    targets = ((OVER, None), (SERIAL, None), (UNDER, None), (NOBODY, None), (OVER, None))
    values = (axdr.u32(5), axdr.u8(0), axdr.u8(7), axdr.u8(0), axdr.u32(6))
    results = (
        DataAccessResult.SUCCESS,
        DataAccessResult.READ_WRITE_DENIED,
        DataAccessResult.TYPE_UNMATCHED,
        DataAccessResult.OBJECT_UNDEFINED,
        DataAccessResult.SUCCESS,
    )
    assert ask(setting.SetListRequest(C, targets, values)) == setting.SetListResponse(C, results)
    assert (bench.meter.limiter.over_s, bench.meter.limiter.under_s) == (6, 60)
    bench.meter.limiter.over_s = 60
    first, *rest = in_pieces(setting.write_values(values))
    answer = ask(setting.SetListFirstBlockRequest(C, targets, *first))
    for block in rest:
        assert answer == setting.SetBlockResponse(C, block[1] - 1)
        answer = ask(setting.SetBlockRequest(C, *block))
    assert answer == setting.SetLastListBlockResponse(C, results, rest[-1][1])
    assert bench.meter.limiter.over_s == 6


def test_a_value_in_blocks_must_keep_its_order_and_be_one(bench: Bench, ask: Ask):
    first, second = in_pieces(axdr.encode(axdr.u32(9)))
    start = setting.SetFirstBlockRequest(C, OVER, None, *first)
    assert ask(start) == setting.SetBlockResponse(C, 1)
    assert ask(setting.SetBlockRequest(C, *second)) == setting.SetLastBlockResponse(C, DataAccessResult.SUCCESS, 2)
    assert bench.meter.limiter.over_s == 9
    ask(start)
    wrong = ask(setting.SetBlockRequest(C, last=True, number=3, raw=b""))
    assert wrong.result is DataAccessResult.DATA_BLOCK_NUMBER_INVALID
    after = ask(setting.SetBlockRequest(C, *second))
    assert after.result is DataAccessResult.NO_LONG_SET_IN_PROGRESS
    broken = setting.SetFirstBlockRequest(C, OVER, None, last=True, number=1, raw=b"\x06\x00")
    assert ask(broken).result is DataAccessResult.TYPE_UNMATCHED


def test_methods_in_a_list_and_with_a_parameter_in_blocks(bench: Bench, ask: Ask):
    clock, now = bench.meter.clock, bench.clock.now
    methods = (SHIFT, SHIFT, Method(8, "0-0:1.0.0*255", 9))
    parameters = (axdr.i16(2), axdr.i16(2000), axdr.null())
    results = (ActionResult.SUCCESS, ActionResult.SCOPE_OF_ACCESS_VIOLATED, ActionResult.OBJECT_UNDEFINED)
    answer = ask(action.ActionListRequest(C, methods, parameters))
    assert answer == action.ActionListResponse(C, tuple((result, None) for result in results))
    assert clock.shown(now) == now + 2 * SECOND
    first, *rest = in_pieces(setting.write_values(parameters))
    answer = ask(action.ActionListFirstBlockRequest(C, methods, *first))
    for block in rest:
        assert answer == action.ActionNextBlockResponse(C, block[1] - 1)
        answer = ask(action.ActionBlockRequest(C, *block))
    assert answer == action.ActionListResponse(C, tuple((result, None) for result in results))
    assert clock.shown(now) == now + 4 * SECOND
    stamp = axdr.octets(clock.stamp(now))
    first, *rest = in_pieces(axdr.encode(axdr.structure(stamp, stamp, stamp)))
    answer = ask(action.ActionFirstBlockRequest(C, PRESET, *first))
    for block in rest:
        answer = ask(action.ActionBlockRequest(C, *block))
    assert answer == action.ActionResponse(C, ActionResult.SUCCESS)
    ask(action.ActionRequest(C, Method(8, "0-0:1.0.0*255", 4), axdr.i8(0)))
    assert clock.shown(now) == now


def test_blocks_that_nobody_asked_for_are_refused(ask: Ask):
    late = ask(action.ActionBlockRequest(C, last=True, number=2, raw=b""))
    assert late.result is ActionResult.NO_LONG_ACTION_IN_PROGRESS
    assert ask(action.ActionNextBlockRequest(C, 1)).result is ActionResult.NO_LONG_ACTION_IN_PROGRESS
    assert ask(get.GetNextRequest(C, 1)).raw is DataAccessResult.NO_LONG_GET_IN_PROGRESS


def test_what_was_not_agreed_on_is_not_served(bench: Bench):
    wanted = Wanted(OPEN_CLIENT, conformance=CLIENT_CONFORMANCE & ~Conformance.MULTIPLE_REFERENCES)
    talk = bench.talk(wanted)
    request = get.GetListRequest(C, ((SERIAL, None),))
    answer = parse_apdu(talk.association.serve(request.to_bytes(), bench.clock.now))
    assert answer == failures.ExceptionResponse(failures.UNKNOWN_SERVICE, failures.NOT_SUPPORTED)

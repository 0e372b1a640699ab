"""Supply commands carried out on simulated meters of three protocols: read back, reported, never believed by word."""

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from collector.capabilities import SupplySwitch
from metering import timing
from metering.model import SECOND, Source
from metering.supply import Action, Go
from metering.supply_states import State
from tests.gateway.supply.edge import DEVICES, Desk, Edge, Street, street

A = Action


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.supply.progress.LOOK_ARMED_S", 0.2)


@pytest.mark.parametrize("device", DEVICES)
async def test_a_meter_goes_dark_and_comes_back_and_each_step_is_told(place: Street, tmp_path: Path, device: str):
    async with Edge(tmp_path, place, Desk(place)) as edge:
        cut = await edge.order(device, A.DISCONNECT)
        assert (cut.state, place.on(device)) == (State.VERIFIED, False)
        assert edge.service.account.record.openings[device].reason == "debt"
        back = await edge.order(device, A.RESTORE, "payments")
        if device == "dlt645":
            assert back.state is State.ARMED
            place.dlt645.press()
            back = await edge.ended(back.command.id, State.VERIFIED)
        assert (back.state, place.on(device)) == (State.VERIFIED, True)
        assert device not in edge.service.account.record.openings
    told = [entry.state for entry in edge.told(cut.command.id)]
    assert told == ["accepted", "executing", "verified"]
    last = edge.told(cut.command.id)[-1].detail
    assert last["cause"] == "as-asked"
    assert last["frames"]
    assert len(last["digest"]) == 64
    assert msgspec.json.decode(last["before"])["output"] is True
    assert msgspec.json.decode(last["after"])["output"] is False
    assert {block.layout.source for block in edge.blocks} == {Source.COMMAND}
    assert len({block.measured_at for block in edge.blocks if block.device == device}) >= 2


def found_in(folder: Path, secrets: Sequence[bytes]) -> list[Path]:
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "keys.json"]
    return [file for file in files if any(each in file.read_bytes() for each in secrets)]


async def test_no_password_stands_in_what_is_told_or_kept(place: Street, tmp_path: Path):
    async with Edge(tmp_path, place, Desk(place)) as edge:
        await edge.order("dlt645", A.DISCONNECT)
    shifted = bytes(byte + 0x33 & 0xFF for byte in bytes.fromhex("563412"))
    secrets = (bytes.fromhex("123456"), bytes.fromhex("563412"), shifted)
    assert found_in(tmp_path, [form for each in secrets for form in (each, each.hex().encode())]) == []


async def test_what_is_so_already_is_verified_without_an_action(place: Street, tmp_path: Path):
    async with Edge(tmp_path, place, Desk(place)) as edge:
        found = await edge.order("modbus", A.RESTORE, "anna")
        assert found.state is State.VERIFIED
        assert found.does == ""
        assert place.relay.moved == []
    assert [entry.state for entry in edge.told(found.command.id)] == ["accepted", "verified"]


@pytest.mark.parametrize(("misdeed", "state"), [("deaf", State.FAILED), ("stuck", State.FAILED)])
async def test_a_meter_that_confirms_and_does_not_do_it_has_failed(
    place: Street, tmp_path: Path, misdeed: str, state: State
):
    place.relay.misdeed = misdeed
    async with Edge(tmp_path, place, Desk(place), verify_s=0.5) as edge:
        found = await edge.order("modbus", A.DISCONNECT)
        assert found.state is state
        assert place.relay.moved == [False]
        assert edge.service.account.record.openings == {}


async def test_a_restore_that_was_not_done_is_ordered_again_until_it_is(place: Street, tmp_path: Path):
    async with Edge(tmp_path, place, Desk(place), verify_s=0.3) as edge:
        await edge.order("modbus", A.DISCONNECT)
        place.relay.misdeed = "deaf"
        command = edge.desk.command("modbus", A.RESTORE)
        await edge.service.take(edge.desk.message(command, "payments"))
        await edge.ended(command.id, State.UNKNOWN)
        place.relay.misdeed = ""
        assert (await edge.ended(command.id)).state is State.VERIFIED
        assert place.on("modbus")


async def test_a_fault_of_a_driver_ends_nothing_and_is_tried_again_after_a_pause(place: Street, tmp_path: Path):
    async with Edge(tmp_path, place, Desk(place)) as edge:
        meter, calls = edge.meters["modbus"], 0
        real = meter.make_switch
        assert real is not None

        def failing() -> SupplySwitch:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise RuntimeError("a mistake")
            return real()

        meter.make_switch = failing
        assert (await edge.order("modbus", A.DISCONNECT)).state is State.VERIFIED
        assert calls == 2


async def test_a_slow_relay_is_waited_for(place: Street, tmp_path: Path):
    place.relay.delay_s = 1.0
    async with Edge(tmp_path, place, Desk(place)) as edge:
        assert (await edge.order("modbus", A.DISCONNECT)).state is State.VERIFIED


async def test_nothing_is_closed_onto_a_voltage(place: Street, tmp_path: Path):
    async with Edge(tmp_path, place, Desk(place)) as edge:
        await edge.order("modbus", A.DISCONNECT)
        place.relay.back_feed_v = 228.0
        found = await edge.order("modbus", A.RESTORE, "payments")
        assert found.state is State.REFUSED_BY_GUARD
        assert "228 V stand on the load side" in found.why
        assert not place.on("modbus")
        assert edge.service.account.record.openings["modbus"].reason == "debt"


async def test_another_meter_than_the_bound_one_is_not_switched(place: Street, tmp_path: Path):
    place.modbus.swap("SW-000018", timing.now(), 0)
    async with Edge(tmp_path, place, Desk(place)) as edge:
        found = await edge.order("modbus", A.DISCONNECT)
        assert found.state is State.REFUSED_BY_GUARD
        assert "another meter answers" in found.why
        assert place.on("modbus")


async def test_a_direct_reconnect_of_a_meter_that_can_only_be_armed_is_told(tmp_path: Path):
    async with street(control_mode=1) as place, Edge(tmp_path, place, Desk(place)) as edge:
        await edge.order("dlms", A.DISCONNECT)
        found = await edge.order("dlms", A.RECONNECT, "anna")
        assert found.state is State.REFUSED_BY_METER
        assert "this meter can only be armed" in found.why
        armed = await edge.order("dlms", A.RESTORE, "anna")
        assert armed.state is State.ARMED
        place.dlms.switch.push_button(timing.now())
        assert (await edge.ended(armed.command.id, State.VERIFIED)).state is State.VERIFIED


async def test_an_armed_meter_that_nobody_closes_has_lapsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.supply.progress.ARMED_S", 0.5)
    async with street(control_mode=1) as place, Edge(tmp_path, place, Desk(place)) as edge:
        await edge.order("dlms", A.DISCONNECT)
        armed = await edge.order("dlms", A.ARM, "anna")
        assert (await edge.ended(armed.command.id, State.LAPSED)).why == "nobody closed it at the meter"
        assert edge.service.account.record.openings["dlms"].reason == "debt"


async def test_a_meter_that_wants_its_encryption_machine_is_not_cut_by_password_and_says_why(tmp_path: Path):
    async with street() as place:
        place.dlt645.made = dataclasses.replace(place.dlt645.made, needs_module=True)
        async with Edge(tmp_path, place, Desk(place)) as edge:
            found = await edge.order("dlt645", A.DISCONNECT)
        assert (found.state, place.on("dlt645")) == (State.REFUSED_BY_METER, True)
        assert "ESAM" in found.why
        assert "dlt645" not in edge.service.account.record.openings


async def test_what_a_service_gives_back_above_its_rate_is_staggered_and_alarmed(place: Street, tmp_path: Path):
    desk = Desk(place)
    slow = msgspec.structs.replace(desk.document.services[0], per_hour=1)
    desk.document = msgspec.structs.replace(desk.document, services=(slow,))
    async with Edge(tmp_path, place, desk) as edge:
        for device in ("modbus", "dlms"):
            await edge.order(device, A.DISCONNECT)
        assert (await edge.order("modbus", A.RESTORE, "payments")).state is State.VERIFIED
        second = desk.command("dlms", A.RESTORE)
        await edge.service.take(desk.message(second, "payments"))
        held = edge.service.account.record.held[second.id]
        assert timing.now() < held.act_at < second.expires_at
        assert held.state is State.ACCEPTED
        raised = [each.name for each in edge.events()]
        assert raised.count("restores-staggered") == 1
        assert (await edge.order("dlms", A.RESTORE, "anna")).state is State.VERIFIED  # a person does not wait


async def test_a_disconnect_waits_for_a_fresh_go_and_expires_without(place: Street, tmp_path: Path):
    async with Edge(tmp_path, place, Desk(place)) as edge:
        command = edge.desk.command("modbus", A.DISCONNECT, expires_at=timing.now() + 3 * SECOND)
        await edge.service.take(edge.desk.message(command, go=False))
        old = Go(command.id, timing.now() - 61 * SECOND)
        edge.service.go(old)
        found = await edge.ended(command.id)
        assert found.state is State.EXPIRED
        assert place.on("modbus")
    assert "asks-go" in [entry.state for entry in edge.told(command.id)]


async def test_a_go_that_is_asked_for_lets_it_act(place: Street, tmp_path: Path):
    async with Edge(tmp_path, place, Desk(place)) as edge:
        command = edge.desk.command("modbus", A.DISCONNECT)
        await edge.service.take(edge.desk.message(command, go=False))
        await asyncio.sleep(0.3)
        assert place.on("modbus")
        edge.service.go(Go(command.id, timing.now()))
        assert (await edge.ended(command.id)).state is State.VERIFIED


async def test_a_locked_gateway_withholds_nothing_and_gives_back(place: Street, tmp_path: Path):
    async with Edge(tmp_path, place, Desk(place)) as edge:
        await edge.order("modbus", A.DISCONNECT)
        (tmp_path / "lockout").write_text("the key switch is turned\n")
        found = await edge.order("dlms", A.DISCONNECT)
        assert (found.state, place.on("dlms")) == (State.REFUSED_BY_GUARD, True)
        assert "the key switch is turned" in found.why
        assert (await edge.order("modbus", A.RESTORE, "payments")).state is State.VERIFIED


async def test_a_dry_run_does_all_but_the_act(place: Street, tmp_path: Path):
    async with Edge(tmp_path, place, Desk(place), dry_run=True) as edge:
        found = await edge.order("dlms", A.DISCONNECT)
        assert found.state is State.REFUSED_BY_GUARD
        assert "dry run" in found.why
        assert place.on("dlms")


async def test_a_restore_supersedes_a_waiting_disconnect(place: Street, tmp_path: Path):
    async with Edge(tmp_path, place, Desk(place)) as edge:
        waiting = edge.desk.command("modbus", A.DISCONNECT)
        await edge.service.take(edge.desk.message(waiting, go=False))
        assert (await edge.order("modbus", A.RESTORE, "anna")).state is State.VERIFIED
        edge.service.go(Go(waiting.id, timing.now()))
        assert (await edge.ended(waiting.id)).state is State.SUPERSEDED
        assert place.relay.moved == []


async def test_a_service_does_not_give_back_what_it_does_not_know(place: Street, tmp_path: Path):
    place.relay.meter.switch_supply(on=False, at=timing.now())
    async with Edge(tmp_path, place, Desk(place)) as edge:
        found = await edge.order("modbus", A.RESTORE, "payments")
        assert found.state is State.REFUSED_BY_GUARD
        assert "a reason that this gateway does not know" in found.why
        assert (await edge.order("modbus", A.RESTORE, "anna", "ben")).state is State.VERIFIED


async def test_a_silent_meter_is_asked_until_the_command_expires(place: Street, tmp_path: Path):
    await place._servers[0].close()
    async with Edge(tmp_path, place, Desk(place)) as edge:
        found = await edge.order("modbus", A.DISCONNECT, expires_at=timing.now() + 3 * SECOND)
        assert found.state is State.EXPIRED
        assert place.relay.moved == []

"""Where supply commands come in, over real connections: copies, crashes and strangers under a command's id."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from gateway.supply.items import held_of
from metering import timing
from metering.supply import Action, Go
from metering.supply_states import Cause, State
from tests.gateway.supply.edge import Desk, Edge, Street

A = Action


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.supply.door.ANSWER_AGAIN_S", 0.0)


def kids(desk: Desk) -> list[str]:
    return [desk.keys[name].public.id for name in ("anna", "ben")]


async def test_two_copies_that_come_at_once_are_one_command_and_no_refusal(place: Street, tmp_path: Path):
    desk = Desk(place)
    message = desk.message(desk.command("modbus", A.DISCONNECT))
    async with Edge(tmp_path, place, desk) as edge:
        await asyncio.gather(*(edge.service.take(message) for _ in range(4)))
        await edge.ended(message.id)
        assert not place.on("modbus")
    assert [entry.state for entry in edge.told(message.id)] == ["accepted", "executing", "verified"]


async def test_a_copy_that_comes_before_the_first_was_told_is_answered_as_the_first(place: Street, tmp_path: Path):
    desk = Desk(place)
    command = desk.command("modbus", A.DISCONNECT)
    edge = Edge(tmp_path, place, desk)
    await edge.service.account.put(held_of(command, kids(desk), "", command.not_before, 0, State.ACCEPTED))
    await edge.service.take(desk.message(command))
    async with edge:  # what it tells as it starts comes after the answer
        await edge.ended(command.id)
    answer = edge.told(command.id)[0]
    assert (answer.state, answer.detail["cause"], answer.detail["again"]) == (
        "accepted",
        "gateway-accepted",
        "it came again",
    )


async def test_what_a_crash_left_in_the_record_alone_is_told_after_the_start(place: Street, tmp_path: Path):
    desk = Desk(place)
    waits, ended = desk.command("modbus", A.DISCONNECT), desk.command("dlms", A.DISCONNECT)
    edge = Edge(tmp_path, place, desk)
    held = held_of(ended, kids(desk), "", ended.not_before, 0, State.VERIFIED)
    held.cause = Cause.AS_ASKED
    await edge.service.account.put(held, held_of(waits, kids(desk), "", waits.not_before, 0, State.ACCEPTED))
    async with edge:
        edge.service.go(Go(waits.id, timing.now()))
        await edge.ended(waits.id)
    assert [(entry.state, entry.detail["cause"]) for entry in edge.told(ended.id)] == [("verified", "as-asked")]
    assert [entry.state for entry in edge.told(waits.id)] == ["accepted", "executing", "verified"]


async def test_the_same_message_again_is_answered_and_not_done_again(place: Street, tmp_path: Path):
    async with Edge(tmp_path, place, Desk(place)) as edge:
        command = edge.desk.command("modbus", A.DISCONNECT)
        message = edge.desk.message(command)
        for _ in range(3):
            await edge.service.take(message)
            await edge.ended(command.id)
        assert place.relay.moved == [False]
    assert [entry.state for entry in edge.told(command.id)] == ["accepted", "executing", *["verified"] * 3]


async def test_a_flood_of_forged_commands_is_refused_and_does_not_fill_the_log(place: Street, tmp_path: Path):
    async with Edge(tmp_path, place, Desk(place)) as edge:
        good = edge.desk.message(edge.desk.command("modbus", A.DISCONNECT))
        for number in range(300):
            await edge.service.take(msgspec.structs.replace(good, id=f"x{number}"))
        assert edge.service.door.refused == 300
        assert place.relay.moved == []
    entries = sum(len(edge.told(f"x{number}")) for number in range(300))
    assert entries == 60


async def test_an_approver_who_is_taken_out_has_no_say_in_a_disconnect_that_waits(place: Street, tmp_path: Path):
    desk = Desk(place)
    async with Edge(tmp_path, place, desk) as edge:
        waiting = desk.command("modbus", A.DISCONNECT)
        await edge.service.take(desk.message(waiting, go=False))
        left = tuple(each for each in desk.document.approvers if each.person != "ben")
        desk.document = msgspec.structs.replace(desk.document, version=2, approvers=left)
        desk.renew(tmp_path)
        edge.service.go(Go(waiting.id, timing.now()))
        found = await edge.ended(waiting.id)
        assert (found.state, place.relay.moved) == (State.REFUSED_BY_GUARD, [])
        assert found.why == "1 of those who signed it are approvers still; 2 are needed"


async def test_what_comes_under_the_id_of_a_command_at_work_does_not_end_it(place: Street, tmp_path: Path):
    async with Edge(tmp_path, place, Desk(place)) as edge:
        waiting = edge.desk.command("modbus", A.DISCONNECT)
        good = edge.desk.message(waiting, go=False)
        await edge.service.take(good)
        await edge.service.take(msgspec.structs.replace(good, body=b"{}"))
        edge.service.go(Go(waiting.id, timing.now()))
        assert (await edge.ended(waiting.id)).state is State.VERIFIED
    told = [entry for entry in edge.told(waiting.id) if entry.state != "asks-go"]
    assert [entry.state for entry in told] == ["accepted", "accepted", "executing", "verified"]
    assert told[1].detail["again"].startswith("another came under its id: no command")


async def test_what_was_told_as_refused_is_not_done_when_it_comes_later(place: Street, tmp_path: Path):
    desk = Desk(place)
    cut, back = desk.command("modbus", A.DISCONNECT), desk.command("modbus", A.RESTORE)
    good = desk.message(cut)
    async with Edge(tmp_path, place, desk) as edge:
        await edge.service.take(
            msgspec.structs.replace(good, signed=b"{}")
        )  # whoever holds the broker keeps the good one
        await edge.service.take(msgspec.structs.replace(desk.message(back), signed=b"{}"))
    async with Edge(tmp_path, place, desk) as edge:
        await edge.service.take(good)
        await edge.service.take(desk.message(back))  # what gives back is never in the way
        assert (await edge.ended(back.id)).state is State.VERIFIED
        assert place.relay.moved == []
    assert [entry.state for entry in edge.told(cut.id)] == ["refused-by-guard", "refused-by-guard"]
    assert "told as refused before" in edge.told(cut.id)[1].detail["why"]


async def test_a_flood_of_replays_is_answered_so_often_a_minute(
    place: Street, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.supply.door.ANSWERS_A_MINUTE", 5)
    async with Edge(tmp_path, place, Desk(place)) as edge:
        message = edge.desk.message(edge.desk.command("modbus", A.DISCONNECT))
        await edge.service.take(message)
        await edge.ended(message.id)
        for _ in range(50):
            await edge.service.take(message)
        assert place.relay.moved == [False]
    assert [entry.state for entry in edge.told(message.id)][3:] == ["verified"] * 5

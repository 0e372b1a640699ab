"""Attackers with the head-end's own certificate, or its database: the relay does not move, and all is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from headend.state.store import State as Database
from headend.state.tables import commands
from headend.supply.strangers import A_MINUTE
from metering import timing, wire
from metering.errors import LinkDownError
from metering.model import SECOND
from metering.supply import Action, CommandMessage, Go
from mqtt.loop import MqttConnection
from tests.faults.site_process import until
from tests.real.attacks import ATTACKS, HOUR, flood, replayed
from tests.real.supply_place import HEADEND, POINTS, SupplyPlace, body_of, command_topic, facts
from trust.document import Caps

pytestmark = pytest.mark.real
FLOOD = 10_001


class Attacker:
    """Somebody with a stolen certificate."""

    def __init__(self, place: SupplyPlace, connection: MqttConnection) -> None:
        self._place = place
        self._connection = connection

    async def send(self, topic: str, payload: bytes) -> None:
        """Send as soon as the broker takes it."""

        async def sent() -> bool:
            try:
                self._connection.publish(topic, payload)
            except LinkDownError:  # not there yet, or a thousand are on their way
                return False
            return True

        await until(sent, "the attacker at the broker")

    async def order(self, message: CommandMessage) -> None:
        """Send a command straight to the gateway."""
        await self.send(command_topic(), wire.encode(message))

    async def told(self, name: str, words: str) -> None:
        """Wait until the audit says so of a command."""

        said: list[str] = []

        async def there() -> bool:
            said[:] = [body_of(each) for each in await self._place.audit_of(name)]
            return any(words in each for each in said)

        try:
            await until(there, f"{words!r} of {name}")
        except AssertionError as error:
            raise AssertionError(f"{error}; the audit has {said}") from None

    async def answered(self, message: CommandMessage, words: str) -> None:
        """Send until the audit says so: one that follows an answer at once gets none."""

        async def there() -> bool:
            await self.order(message)
            return any(words in body_of(each) for each in await self._place.audit_of(message.id))

        await until(there, f"the answer {words!r} in the audit")


@contextlib.asynccontextmanager
async def attacking(place: SupplyPlace, identity: str = HEADEND) -> AsyncIterator[Attacker]:
    stop = asyncio.Event()
    connection = place.attacker(identity)
    task = asyncio.create_task(connection.run(stop))
    try:
        yield Attacker(place, connection)
    finally:
        stop.set()
        await task


def never_moved(place: SupplyPlace) -> bool:
    return place.street.on("dlms") and place.street.dlms.meter._switched == []


async def test_no_command_that_was_tampered_with_moves_the_relay_and_each_refusal_is_in_the_audit(tmp_path: Path):
    async with SupplyPlace(tmp_path) as place, attacking(place) as attacker:
        for attack in ATTACKS:
            message = attack.made(place.desk)
            await attacker.order(message)
            await attacker.told(message.id, attack.says)
            kinds = [each["kind"] for each in await place.audit_of(message.id)]
            assert kinds == ["command-stranger"], attack.name
            assert never_moved(place), attack.name
    assert place.verify() == 0


async def test_what_was_overheard_is_not_done_again_nor_done_late_nor_out_of_order(tmp_path: Path):
    async with SupplyPlace(tmp_path) as place, attacking(place) as attacker:
        heard: list[CommandMessage] = []
        spy = place.attacker("gw1", lambda message: heard.append(wire.decode(message.payload, CommandMessage)))
        spy.subscribe([command_topic()])
        stop = asyncio.Event()
        spying = asyncio.create_task(spy.run(stop))
        await until(lambda: _listening(spy), "the spy at the broker")
        name = await _cut(place)
        (back,) = (await place.request("restore", "paid")).json()["commands"]
        await place.reaches(back["id"], "verified")
        moved = list(place.street.dlms.meter._switched)
        cut = next(each for each in heard if each.id == name)

        for message, words in (
            (replayed(cut), "it came again"),
            (msgspec.structs.replace(cut, body=b"{}"), "another came under its id"),
        ):
            await attacker.answered(message, words)
        assert await place.state_of(name) == "verified"

        nonce = msgspec.json.decode(cut.body)["nonce"]
        last = msgspec.json.decode(cut.body)["seq"]
        again = place.desk.command("dlms", Action.DISCONNECT, seq=last + 100, nonce=nonce)
        await attacker.order(place.desk.message(again))
        await attacker.told(again.id, f"its nonce was used before, by {name}")

        held_back = place.desk.command("dlms", Action.DISCONNECT, seq=last + 101)
        later = place.desk.command("dlms", Action.RESTORE, seq=last + 102)
        await attacker.order(place.desk.message(later, "anna"))
        await attacker.told(later.id, "verified")
        await attacker.order(place.desk.message(held_back))
        await attacker.told(held_back.id, f"number {last + 101} comes after {last + 102}")
        assert place.street.dlms.meter._switched == moved
        stop.set()
        await spying
    assert place.verify() == 0


async def test_an_old_go_and_a_clock_that_was_moved_back_let_nothing_act(tmp_path: Path):
    async with SupplyPlace(tmp_path) as place, attacking(place) as attacker:
        stale = place.desk.command("dlms", Action.DISCONNECT)
        message = place.desk.message(stale, go=False)
        old = Go(stale.id, timing.now() - 61 * SECOND)
        await attacker.order(msgspec.structs.replace(message, go=old))
        await attacker.told(stale.id, "asks-go")
        for number, body in enumerate((msgspec.msgpack.encode(old), msgspec.msgpack.encode(Go("c0", 1)), b"\xc1", b"")):
            control = wire.Control(f"go-{number}", "go", body=body)
            await attacker.send(wire.topic("gw1", "control"), wire.encode(control))
        lifted = place.desk.command("dlms", Action.RESTORE)
        await attacker.order(place.desk.message(lifted, "anna"))
        await attacker.told(stale.id, "superseded")
        await attacker.told(lifted.id, "verified")

        clock = place.parts.gateway.clock
        right = clock._wall
        clock._wall = lambda: right() - 2 * HOUR
        back = clock.now()
        late = place.desk.command("dlms", Action.DISCONNECT, not_before=back, expires_at=back + HOUR)
        signed = place.desk.message(late, go=False)
        await attacker.order(msgspec.structs.replace(signed, go=Go(late.id, back)))
        await attacker.told(late.id, "accepted")
        assert never_moved(place)
        clock._wall = right
        await attacker.told(late.id, "it expired before it could act")
        assert never_moved(place)
    assert place.verify() == 0


async def test_a_database_that_was_edited_by_hand_orders_nothing_and_an_edited_audit_is_found(tmp_path: Path):
    async with SupplyPlace(tmp_path) as place:
        half, none, turned = [
            (await place.request("disconnect", "debt", device, facts=facts())).json()["commands"][0]["id"]
            for device in ("dlms", "modbus", "dlt645")
        ]
        await place.approve(half, "anna")
        await place.approve(turned, "anna")
        _by_hand(place, half, state="queued")
        _by_hand(place, none, state="queued")
        other = place.desk.command("dlt645", Action.DISCONNECT, id=turned)
        _by_hand(place, turned, state="queued", body=place.desk.message(other).body)
        for name in (half, none, turned):
            await place.reaches(name, "refused-by-guard")
            assert "command-refused-by-guard" in [each["kind"] for each in await place.audit_of(name)]
        assert all(place.street.on(device) for device in ("dlms", "modbus", "dlt645"))
    assert place.verify() == 0
    with contextlib.closing(Database.open(tmp_path / "centre" / "state.db")) as database:
        database.write(lambda connection: connection.exec_driver_sql("DROP TRIGGER audit_no_update"))
        change = "UPDATE audit SET body = replace(body, 'refused-by-guard', 'verified')"
        database.write(lambda connection: connection.exec_driver_sql(change))
    assert place.verify() == 1


async def test_ten_thousand_and_one_disconnects_at_once_move_nothing_and_a_restore_still_goes_through(tmp_path: Path):
    async with SupplyPlace(tmp_path) as place, attacking(place) as attacker, attacking(place, "gw2") as neighbour:
        await neighbour.order(flood(place.desk, 1)[0])  # another gateway's certificate: the broker drops it
        name = await _cut(place)
        for message in flood(place.desk, FLOOD):
            await attacker.order(message)
        (back,) = (await place.request("restore", "paid")).json()["commands"]
        await place.reaches(back["id"], "verified")
        assert place.street.on("dlms")
        gateway = place.parts.gateway

        async def all_seen() -> bool:
            return gateway.supply.door.refused + gateway.orders.let_go >= FLOOD

        await until(all_seen, "the end of the flood")
        assert gateway.supply.door.refused > 0
        assert len(place.street.dlms.meter._switched) == 1  # dark once, from the first command to the restore
        assert await place.state_of(name) == "verified"
        told = (await place.ask("auditor", "/v1/audit?kind=command-stranger&limit=1000")).json()["entries"]
        assert 0 < len(told) <= A_MINUTE
        orders = [{"point": f"MP-{number}"} for number in range(FLOOD)]
        body = {"action": "disconnect", "reason": "debt", "orders": orders}
        asked = await place.ask("clerk", "/v1/commands", body, **{"Idempotency-Key": "many"})
        assert asked.status_code in {400, 413, 422}
    assert place.verify() == 0


async def test_the_caps_hold_against_stolen_keys_that_order_everything_at_once(tmp_path: Path):
    async with SupplyPlace(tmp_path, caps=Caps(1, 1000, 1000)) as place, attacking(place) as attacker:
        names = []
        for device in POINTS:
            message = place.desk.message(place.desk.command(device, Action.DISCONNECT))
            names.append(message.id)
            await attacker.order(message)

        async def all_ended() -> bool:
            told = [body_of(each) for name in names for each in await place.audit_of(name)]
            ends = sum("at most 1 meters an hour" in each for each in told)
            return ends == len(POINTS) - 1 and any("as-asked" in each for each in told)

        await until(all_ended, "one that is dark and the refusal of the others")
        assert sorted(map(place.street.on, POINTS)) == [False, True, True]
    assert place.verify() == 0


async def _cut(place: SupplyPlace) -> str:
    (made,) = (await place.request("disconnect", "debt", facts=facts())).json()["commands"]
    name = str(made["id"])
    for who in ("anna", "ben"):
        await place.approve(name, who)
    await place.reaches(name, "verified")
    assert not place.street.on("dlms")
    return name


def _by_hand(place: SupplyPlace, name: str, **values: object) -> None:
    """Edit a command in the database, as somebody with its password would, and have it due at once."""
    statement = sa.update(commands).where(commands.c.id == name).values(values | {"due_at": 1})
    place.centre.state.write(lambda connection: connection.execute(statement))


async def _listening(connection: MqttConnection) -> bool:
    return connection.status().listening

"""kill -9 at every step of a supply command: relay and record agree, nothing is done twice or after its expiry."""

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from gateway.supply.executor import Step
from gateway.supply.record import Record
from metering import timing
from metering.model import SECOND
from metering.supply import Action, CommandMessage
from metering.supply_states import State
from tests.gateway.supply.edge import DEVICES, Desk, Street, keys_of, street

pytestmark = pytest.mark.fault
SCRIPT = Path(__file__).with_name("supply_process.py")
# Where a process dies: at every step of the executor, and before and after each thing that is written down (taken in,
# meant to do, ended).
STEPS = [(str(step), 0) for step in Step] + [
    (place, number) for number in range(3) for place in ("before-put", "after-put")
]
RUN_S = 60


class Case:
    """One gateway on disk, its street, and how often each relay was moved."""

    def __init__(self, place: Street, folder: Path) -> None:
        self.place = place
        self.folder = folder
        self.desk = Desk(place)
        folder.mkdir(parents=True, exist_ok=True)
        keys_of(folder)
        self.desk.install(folder)
        self.moved: dict[str, list[str]] = {device: [] for device in DEVICES}
        self._count()

    def _count(self) -> None:
        place = self.place
        operate, relay = place.dlms.switch.operate, place.dlt645.relay.operate

        def dlms(cause: str, now: int) -> bool:
            done = operate(cause, now)
            self.moved["dlms"] += [cause] if done else []
            return done

        def dlt645(switch: int, now: int) -> bool:
            done = relay(switch, now)
            self.moved["dlt645"] += [f"{switch:02X}"] if done else []
            return done

        place.dlms.switch.operate = dlms
        place.dlt645.relay.operate = dlt645
        self.moved["modbus"] = place.relay.moved

    def write(self, messages: Sequence[CommandMessage]) -> Path:
        path = self.folder / "commands"
        path.write_bytes(msgspec.msgpack.encode(list(messages)))
        return path

    async def run(self, commands: Path, step: str = "", passes: int = 0, kill_after: float | None = None) -> int:
        ports = ",".join(map(str, self.place.ports))
        with (self.folder / "said").open("ab") as said:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(SCRIPT),
                str(self.folder),
                ports,
                str(commands),
                step,
                str(passes),
                stdout=said,
                stderr=said,
            )
        if kill_after is not None:
            await asyncio.sleep(kill_after)
            if process.returncode is None:
                process.kill()
        return await asyncio.wait_for(process.wait(), RUN_S)

    def state_of(self, message: CommandMessage) -> State:
        return Record(self.folder / "supply" / "record").held[message.id].state

    def agrees(self, device: str, message: CommandMessage) -> None:
        """Hold record and relay against each other after a disconnect."""
        state, dark = self.state_of(message), not self.place.on(device)
        assert state in {State.VERIFIED, State.FAILED}, state
        assert (state is State.VERIFIED) is dark
        assert len(self.moved[device]) <= 1, self.moved[device]
        opened = Record(self.folder / "supply" / "record").openings
        assert (device in opened) is dark


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    async with street() as place:
        yield Case(place, tmp_path / "gateway")


# The steps around the order for every protocol, and some before and after; `make soak` has all of them.
USUAL = [(device, step, 0) for device in DEVICES for step in ("intended", "sent")]
USUAL += [("modbus", "after-put", 0), ("dlms", "registers-read", 0), ("dlt645", "read-back", 0)]


@pytest.mark.parametrize(("device", "step", "passes"), USUAL)
async def test_a_disconnect_that_is_killed_at_a_step_is_settled_by_reading(
    case: Case, device: str, step: str, passes: int
):
    message = case.desk.message(case.desk.command(device, Action.DISCONNECT))
    commands = case.write([message])
    assert await case.run(commands, step, passes) == -signal.SIGKILL
    assert len(case.moved[device]) <= 1
    assert await case.run(commands) == 0
    case.agrees(device, message)


async def test_a_restore_that_is_killed_is_ordered_again_until_the_customer_has_power(case: Case):
    cut = case.write([case.desk.message(case.desk.command("modbus", Action.DISCONNECT))])
    assert await case.run(cut) == 0
    message = case.desk.message(case.desk.command("modbus", Action.RESTORE), "payments")
    commands = case.write([message])
    assert await case.run(commands, "intended") == -signal.SIGKILL  # the intent is durable, no frame has left
    assert case.moved["modbus"] == [False]
    assert await case.run(commands) == 0
    assert case.state_of(message) is State.VERIFIED
    assert case.place.on("modbus")


async def test_nothing_is_done_after_its_expiry_however_long_the_power_was_off(case: Case):
    expires_at = timing.now() + 20 * SECOND
    message = case.desk.message(case.desk.command("modbus", Action.DISCONNECT, expires_at=expires_at))
    commands = case.write([message])
    assert await case.run(commands, "registers-read") == -signal.SIGKILL
    await asyncio.sleep(max(0.0, (expires_at - timing.now()) / SECOND))
    assert await case.run(commands) == 0
    assert case.state_of(message) is State.EXPIRED
    assert case.place.relay.moved == []


@pytest.mark.soak
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("step", "passes"), STEPS)
async def test_every_step_of_every_protocol(case: Case, device: str, step: str, passes: int):
    message = case.desk.message(case.desk.command(device, Action.DISCONNECT))
    commands = case.write([message])
    assert await case.run(commands, step, passes) == -signal.SIGKILL
    assert await case.run(commands) == 0
    case.agrees(device, message)


@pytest.mark.soak
@pytest.mark.parametrize("device", DEVICES)
async def test_two_hundred_kills_for_each_protocol(tmp_path: Path, device: str):
    chance = random.Random(device)
    for number in range(200):
        async with street() as place:
            case = Case(place, tmp_path / str(number))
            message = case.desk.message(case.desk.command(device, Action.DISCONNECT))
            commands = case.write([message])
            for _ in range(chance.randint(1, 3)):  # it may die again while it settles
                if chance.random() < 0.5:
                    await case.run(commands, *chance.choice(STEPS))
                else:
                    await case.run(commands, kill_after=chance.uniform(0.3, 1.5))
            assert await case.run(commands) == 0
            case.agrees(device, message)

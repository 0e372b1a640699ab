"""What keeps the audit sound while a head-end runs: heads go to file and gateways, and what waited joins the chain."""

import asyncio
from pathlib import Path

import pytest

from headend.audit import keeper
from headend.audit.chain import Entry, Head, Trail
from headend.audit.heads import HeadsFile, open_head
from headend.audit.keeper import AuditKeeper
from headend.audit.spool import Spool
from headend.state.store import State
from metering.errors import LinkDownError
from metering.wire import Control, decode
from trust.keys import SigningKey


class Desk:
    """An audit with its keeper, whose gateways note what they are sent."""

    def __init__(self, folder: Path, *, key: bool = True) -> None:
        self.state = State.open(folder / "state.db")
        self.trail, self.spool = Trail(self.state), Spool(folder / "spool.jsonl")
        self.heads = HeadsFile(folder / "heads.jsonl")
        self.key = SigningKey.generate()
        self.sent: list[tuple[str, Control]] = []
        self.down = False
        made = self.key if key else None
        self.keeper = AuditKeeper(
            self.trail, self.spool, self.heads, made, self.publish, lambda: ["gw1", "gw2"], lambda: 5_000_000
        )

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        assert not retain
        if self.down:
            raise LinkDownError("the broker is not there")
        self.sent.append((topic, decode(payload, Control)))

    def kept(self) -> list[Head]:
        return [open_head(each, self.key.public).head for each in self.heads.read()]


def entry(number: int) -> Entry:
    return Entry(number, "token:ab", "k", f"c{number}", "js/nj", {"number": number})


async def test_a_head_goes_to_the_file_and_to_each_gateway_at_the_start_and_at_the_end(tmp_path: Path):
    desk = Desk(tmp_path)
    first = desk.trail.write(entry(1))
    stop = asyncio.Event()
    task = asyncio.create_task(desk.keeper.run(stop))
    async with asyncio.timeout(20):
        while len(desk.sent) < 2:  # noqa: ASYNC110 - a test that looks
            await asyncio.sleep(0.01)
    last = desk.trail.write(entry(2))
    stop.set()
    await task
    assert desk.kept() == [first, last]
    assert [topic for topic, _ in desk.sent] == ["m/v1/gw1/control", "m/v1/gw2/control"] * 2
    assert {control.kind for _, control in desk.sent} == {"anchor"}
    assert open_head(desk.sent[-1][1].body, desk.key.public).head == last
    desk.state.close()


async def test_an_empty_audit_has_no_head_and_a_broker_that_is_down_keeps_no_head_from_the_file(tmp_path: Path):
    desk = Desk(tmp_path)
    await desk.keeper.sign_now(desk.key)
    assert desk.kept() == []
    desk.down = True
    head = desk.trail.write(entry(1))
    await desk.keeper.sign_now(desk.key)
    assert desk.kept() == [head]
    desk.state.close()


async def test_what_waited_in_the_spool_joins_the_chain_also_where_no_head_is_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(keeper, "DRAIN_S", 0.02)
    desk = Desk(tmp_path, key=False)
    desk.spool.put(entry(1))
    stop = asyncio.Event()
    task = asyncio.create_task(desk.keeper.run(stop))
    async with asyncio.timeout(20):
        while not desk.trail.head().seq:  # noqa: ASYNC110 - a test that looks
            await asyncio.sleep(0.01)
    stop.set()
    await task
    assert desk.kept() == []
    desk.state.close()


def test_a_torn_line_takes_no_other_head_with_it(tmp_path: Path):
    path = tmp_path / "heads.jsonl"
    path.write_bytes(b'{"payload":"torn')
    HeadsFile(path).add(b'{"whole":1}')
    assert list(HeadsFile(path).read()) == [b'{"whole":1}']

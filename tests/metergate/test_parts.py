import asyncio
from pathlib import Path

import pytest

from headend.audit.chain import Entry, Trail
from headend.kpi.figures import DAY
from headend.readings import BadRequestError
from headend.supply.making import Order, Request
from headend.tokens import Grant
from metergate.commands.audit import run_verify
from metergate.commands.kpi import run_kpi
from metergate.headend_file import HEADS_FILE
from metergate.parts import build
from metergate.site import SiteFile, load_site
from metering import timing
from metering.batch import Batch
from metering.model import SECOND, Block, Column, Expectation, Kind, Layout, Source
from metering.ports import ReadingsQuery
from metering.supply import Action
from storage.codec import pack
from trust.keys import SigningKey

LAYOUT = Layout(Kind.REGISTER, Source.POLL, 900, (Column("1-0:1.8.0*255", "kWh", -2, "int"),))


async def run_until_stored(site: SiteFile) -> int:
    """Run the parts until the store has caught up; return how many readings of the meter it holds."""
    parts = build(site, with_api=False)
    try:
        running = asyncio.create_task(parts.run())
        while parts.projection.status().lag:  # noqa: ASYNC110 - it moves in its own thread
            await asyncio.sleep(0.01)
        parts.stop.set()
        await running
        return len(parts.store.readings(ReadingsQuery("m1", 0, 10)).readings)
    finally:
        parts.close()


async def test_a_store_that_was_deleted_is_filled_again_from_the_log(tmp_path: Path) -> None:
    site = SiteFile.model_validate({"gateway": {"id": "g", "data": str(tmp_path)}})
    parts = build(site, with_api=False)
    await parts.log.append(pack(Batch(1, [Block(LAYOUT, "m1", 5, 5, [100])])))
    parts.close()
    assert await run_until_stored(site) == 1
    for file in tmp_path.glob("readings.db*"):  # noqa: ASYNC240 - a test may touch files
        file.unlink()
    assert await run_until_stored(site) == 1


async def test_a_single_site_keeps_its_own_figures_of_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("headend.kpi.collection.TICK_S", 0.1)
    monkeypatch.setattr("headend.kpi.collection.SETTLE_S", 0.1)
    file = tmp_path / "site.toml"
    file.write_text(
        f'[gateway]\nid = "g"\ndata = "{tmp_path}"\n[[bus]]\nid = "b"\nkind = "tcp"\nhost = "127.0.0.1"\nport = 9\n'
        '[[meter]]\nid = "m1"\nbus = "b"\nunit = 1\nprofile = "eastron_sdm120"\npoint = "P"\nregion = "js"\n'
        'removed = "2026-01-01T00:00:00Z"\n'
    )
    start = (timing.now() // DAY - 2) * DAY
    slots = [start + number * 900 * SECOND for number in range(96) if number != 7]
    blocks = [Block(LAYOUT, "m1", slot, slot + SECOND, [number], slot) for number, slot in enumerate(slots)]
    promise = Expectation("m1", LAYOUT.kind, LAYOUT.source, 900, ("1-0:1.8.0*255",), start, start + DAY)
    parts = build(load_site(file), with_api=True)
    try:
        await parts.log.append(pack(Batch(1, blocks, expectations=[promise])))
        running = asyncio.create_task(parts.run())
        assert parts.collection is not None
        while not parts.collection.gaps.of("m1"):  # noqa: ASYNC110 - it is judged in its own thread
            await asyncio.sleep(0.05)
        parts.stop.set()
        await running
    finally:
        parts.close()
    run_kpi(file, "gateway", 3, each_day=True)
    row, gaps = capsys.readouterr().out.splitlines()[2:]
    assert row.split()[2:4] + row.split()[4:6] == ["1", "96", "98.95", "%"]
    assert gaps == "gaps: 1 lost"


SWITCHED = """
[[bus]]
id = "b"
kind = "tcp"
host = "127.0.0.1"
port = 9
[[meter]]
id = "m1"
bus = "b"
unit = 1
profile = "example_switched"
point = "P"
region = "js"
serial = "7"
"""
CLERK = Grant("aaaaaaaa", "clerk", frozenset({"commands:request"}), ("js",))


async def test_a_single_site_withholds_nothing_without_a_trust_document_and_keeps_its_audit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = SigningKey.generate()
    key.save(tmp_path / "audit.pem")
    file = tmp_path / "site.toml"
    said = f'[audit]\nkey = "file:{tmp_path / "audit.pem"}"\n'
    file.write_text(f'[gateway]\nid = "g"\ndata = "{tmp_path / "data"}"\n{said}{SWITCHED}')
    parts = build(load_site(file), with_api=True)
    try:
        assert parts.office is not None
        assert parts.office.supply is not None
        assert parts.state is not None
        with pytest.raises(BadRequestError, match="no trust document of g is known here"):
            parts.office.supply.request(CLERK, "k", b"", Request(Action.DISCONNECT, "debt", [Order("P", "case-7")]))
        Trail(parts.state).write(Entry(1, "token:ab", "command-requested", "c1", "js", {}))
        running = asyncio.create_task(parts.run())
        heads = tmp_path / "data" / HEADS_FILE
        while not heads.exists():  # noqa: ASYNC110 - the keeper writes it at its start
            await asyncio.sleep(0.01)
        parts.stop.set()
        await running
    finally:
        parts.close()
    assert run_verify(file, None, [], from_log=True) == 0
    assert "1 entries" in capsys.readouterr().out

"""HDLC on a serial line at its true speed: begun directly, and by mode E at 300 baud."""

from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from collector.bus import Bus, Lane
from collector.dlms_profile import load_dlms_profile
from collector.drivers.dlms import DlmsDriver
from collector.drivers.dlms_access import access_of
from collector.drivers.dlms_carrier import DlmsLine
from collector.exchange import Transact
from collector.keys import MeterKeys
from collector.links.stream import SerialStreamLink
from collector.protocols.dlms.mode_e import identify_request
from simulators.dlms_meter import DlmsMeter, DlmsSettings
from simulators.dlms_security import PUBLIC
from simulators.dlms_serial import DlmsLine as SimulatedLine
from simulators.meter import Meter, MeterSettings


@pytest.fixture(params=[False, True], ids=["direct", "mode E"])
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SimulatedLine]:
    meters = {
        (1, 16 + i): DlmsMeter(Meter(MeterSettings(serial=f"7000010{i}")), DlmsSettings(history=False)) for i in (0, 1)
    }
    simulated = SimulatedLine(meters, path=tmp_path / "tty", baud=19200, mode_e=request.param)
    simulated.start()
    yield simulated
    simulated.close()


def driver_of(device: str, physical: int, *, mode_e: bool) -> DlmsDriver:
    profile = load_dlms_profile("dlms_generic")
    access = access_of(profile, client=PUBLIC, physical=physical, address_bytes=4)
    line = DlmsLine("hdlc", "mode-e" if mode_e else "direct")
    return DlmsDriver(device, profile, line, access, MeterKeys(), zone=ZoneInfo("UTC"))


async def test_two_meters_of_a_line_tell_their_serial_numbers_again_and_again(line: SimulatedLine):
    bus = Bus(SerialStreamLink(str(line.path), 19200, "8N1"))
    drivers = [driver_of(f"m{i}", 16 + i, mode_e=line.mode_e) for i in (0, 1)]
    try:
        for driver, serial in zip([drivers[0], drivers[1], drivers[0]], ("0", "1", "0"), strict=True):

            async def work(transact: Transact, driver: DlmsDriver = driver) -> str | None:
                async with driver.talk(transact) as talk:
                    return await driver.identify(talk)

            assert await bus.submit(Lane.COMMAND, driver.device, work, whole=True) == f"7000010{serial}"
    finally:
        await bus.close()
    # The two that begin anew are heard at the speed of before: by that the meter knows a new beginning.
    assert line.misheard == (2 * len(identify_request()) if line.mode_e else 0)


async def test_a_meter_that_stays_in_hdlc_is_spoken_to_as_it_was_the_last_time(tmp_path: Path):
    meters = {(1, 16): DlmsMeter(Meter(MeterSettings(serial="70000100")), DlmsSettings(history=False))}
    first = SimulatedLine(meters, path=tmp_path / "tty", baud=9600, mode_e=True)
    first.start()
    driver = driver_of("m0", 16, mode_e=True)

    async def work(transact: Transact) -> str | None:
        async with driver.talk(transact) as talk:
            return await driver.identify(talk)

    for stays in (False, True):
        if stays:
            first.close()
            second = SimulatedLine(meters, path=tmp_path / "tty", baud=9600)  # has not left HDLC
            second.start()
        bus = Bus(SerialStreamLink(str(tmp_path / "tty"), 9600, "8N1"))
        try:
            assert await bus.submit(Lane.COMMAND, "m0", work, whole=True) == "70000100"
        finally:
            await bus.close()
    second.close()

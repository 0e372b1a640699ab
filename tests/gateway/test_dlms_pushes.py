"""What a DLMS meter pushes reaches the log's door, and what is nobody's the quarantine."""

import asyncio
from pathlib import Path
from typing import Any

from collector.drivers.dlms_shape import ScalerUnit
from collector.protocols.dlms import axdr
from collector.protocols.dlms.clock import from_utc
from collector.protocols.dlms.notification import DataNotification
from collector.protocols.dlms.references import Attribute, logical_name
from collector.protocols.dlms.wrapper import wrap
from gateway.app import Gateway
from gateway.settings import GatewayFile
from metering import timing
from storage.log import Log, LogLimits
from storage.quarantine import Quarantine


def gateway_of(folder: Path, **more: Any) -> Gateway:  # noqa: ANN401 - tables of the file
    meter = {"id": "m", "point": "p", "region": "r", "bus": "b", "profile": "dlms_idis", "serial": "70000123"}
    said = {"authentication": "none", "security": "none"}
    file = GatewayFile.model_validate(
        {
            "gateway": {"id": "g", "data": str(folder)},
            "bus": [{"id": "b", "kind": "wrapper", "host": "127.0.0.1", "port": 9}],
            "meter": [{**meter, "dlms": said}],
            **more,
        }
    )
    return Gateway(file, Log.open(folder / "log", LogLimits(min_free_bytes=0)), Quarantine(folder / "q"))


def push(name: bytes) -> bytes:
    energies = [axdr.u32(123456), axdr.u32(0)]
    obis = axdr.octets(logical_name("0-1:25.9.0*255"))
    body = axdr.structure(obis, axdr.octets(name), axdr.octets(from_utc(timing.now()).to_bytes()), *energies)
    return wrap(1, 16, DataNotification(1, b"", body).to_bytes())


async def test_a_push_is_taken_and_a_strangers_is_quarantined(tmp_path: Path):
    gateway = gateway_of(tmp_path, push={"listen": "127.0.0.1:0"})
    driver: Any = gateway._field.meters["m"].driver
    for obis in ("1-0:1.8.0*255", "1-0:2.8.0*255"):
        driver.scalers[Attribute(3, obis, 3)] = ScalerUnit(0, 30)
    pushes = gateway._field.pushes
    assert pushes is not None
    host, port = await pushes.start()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(push(b"MGT70000123") + push(b"STRANGER"))
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await pushes.close()
    assert pushes.status.taken == 1
    assert len(gateway._lasting.quarantine) == 1
    assert "123456" in str(gateway._recorder._blocks)
    gateway._log.close()


def test_without_the_setting_nobody_listens(tmp_path: Path):
    gateway = gateway_of(tmp_path)
    assert gateway._field.pushes is None
    gateway._log.close()

"""What meters push arrives as blocks and events; what is nobody's, replayed or broken is handed over and told why."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector import dlms_push
from collector.dlms_profile import DlmsProfile, read_dlms_profile
from collector.dlms_push import DlmsPushListener
from collector.drivers.dlms import DlmsDriver
from collector.drivers.dlms_access import access_of
from collector.drivers.dlms_carrier import DlmsLine
from collector.drivers.dlms_push import Pushed, PushMapper, PushMeter
from collector.drivers.dlms_reader import DlmsReader
from collector.drivers.dlms_shape import ScalerUnit
from collector.drivers.dlms_talk import DlmsTalk
from collector.protocols.dlms import axdr
from collector.protocols.dlms.axdr import Data
from collector.protocols.dlms.ciphering import GENERAL_GLO, Ciphered, build_ciphered, protect
from collector.protocols.dlms.clock import from_utc
from collector.protocols.dlms.hdlc import Frame, Kind, build_frame
from collector.protocols.dlms.notification import DataNotification, EventNotification
from collector.protocols.dlms.references import Attribute, CaptureObject, logical_name
from collector.protocols.dlms.wrapper import wrap
from metering.errors import AuthError, FrameError
from metering.model import SECOND, Source
from simulators.dlms_push import PushSettings, PushSetup
from simulators.dlms_security import READER
from simulators.dlms_security import test_keys as keys_of_tests

AT = 1_795_000_000 * SECOND
TITLE = b"MGT\0\0\0\0\7"
PUSH = "0-1:25.9.0*255"
ENERGY = "1-0:1.8.0*255"
PLAIN = {"client": READER, "authentication": "low", "security": "none"}

PROFILE = """
maker = "A"
model = "B"
phases = 1
sources = ["s"]
points = [{name = "e", obis = "1-0:1.8.0*255", unit = "kWh"}]

[[push]]
obis = "0-1:25.9.0*255"
objects = [
    {class = 40, obis = "0-1:25.9.0*255", attribute = 1},
    {class = 1, obis = "0-0:42.0.0*255", attribute = 2},
    {class = 8, obis = "0-0:1.0.0*255", attribute = 2},
    {obis = "1-0:1.8.0*255"},
]

[[push]]
obis = "0-4:25.9.0*255"
objects = [{class = 1, obis = "0-0:42.0.0*255", attribute = 2}, {class = 1, obis = "0-0:97.98.0*255", attribute = 2}]

[[status]]
name = "alarms"
obis = "0-0:97.98.0*255"
bits = {3 = "cover-opened"}
"""


@pytest.fixture
def profile(tmp_path: Path) -> DlmsProfile:
    path = tmp_path / "dlms_mine.toml"
    path.write_text(PROFILE)
    return read_dlms_profile(path)


def meter_of(profile: DlmsProfile, **said: object) -> PushMeter:
    access = access_of(profile, system_title=TITLE, client_title=b"MGC00001", **said)
    driver = DlmsDriver("m1", profile, DlmsLine("wrapper"), access, keys_of_tests(), zone=ZoneInfo("UTC"))
    driver.scalers[Attribute(3, ENERGY, 3)] = ScalerUnit(0, 30)
    return PushMeter(driver, ["MGT70000123"])


def clock(at: int = AT) -> Data:
    return axdr.octets(from_utc(at).to_bytes())


def items(energy: Data | None = None) -> Data:
    return axdr.structure(
        axdr.octets(logical_name(PUSH)), axdr.octets(b"MGT70000123"), clock(), energy or axdr.u32(123456)
    )


def plain(body: Data | None = None, time: bytes = b"") -> bytes:
    return DataNotification(1, time, body or items()).to_bytes()


def ciphered(counter: int, apdu: bytes | None = None, *, control: int = 0x30, key: bytes = b"") -> bytes:
    keys = keys_of_tests()
    content = protect(control, key or keys.encryption, keys.authentication, TITLE, counter, apdu or plain())
    return build_ciphered(Ciphered(GENERAL_GLO, TITLE, control, counter, content))


Listen = Callable[..., AbstractAsyncContextManager[Any]]


class Post:
    """A listener on loopback, and what it handed over."""

    def __init__(self) -> None:
        self.pushed: list[Pushed] = []
        self.bad: list[tuple[str, bytes, str]] = []
        self.changed = asyncio.Event()
        self.port = 0

    def on_push(self, pushed: Pushed) -> None:
        self.pushed.append(pushed)
        self.changed.set()

    def on_bad(self, source: str, payload: bytes, reason: str) -> None:
        self.bad.append((source, payload, reason))
        self.changed.set()

    async def send(self, data: bytes, *, count: int = 1) -> None:
        """Send on a connection of its own, and wait until so much more was handed over."""
        wanted = len(self.pushed) + len(self.bad) + count
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        while len(self.pushed) + len(self.bad) < wanted:
            self.changed.clear()
            await self.changed.wait()
        writer.close()
        del reader


@pytest.fixture
def listen(profile: DlmsProfile) -> Listen:
    @asynccontextmanager
    async def opened(**said: object) -> AsyncIterator[Post]:
        post = Post()
        mapper = PushMapper([meter_of(profile, **said)])
        listener = DlmsPushListener(mapper, post.on_push, post.on_bad, port=0, clock=lambda: AT + SECOND, idle_s=5)
        _, post.port = await listener.start()
        post.listener = listener  # type: ignore[attr-defined] # for the test that looks at it
        try:
            yield post
        finally:
            await listener.close()

    return opened


def ui_frame(apdu: bytes) -> bytes:
    return build_frame(Frame(b"\x21", b"\x02\x23", Kind.UI.value | 0x10, b"\xe6\xe7\x00" + apdu))


@pytest.mark.parametrize("framed", [lambda apdu: wrap(1, 16, apdu), ui_frame], ids=["wrapper", "hdlc"])
async def test_a_plain_push_is_known_by_the_name_in_it(listen: Listen, framed: Callable[[bytes], bytes]):
    async with listen() as post:
        await post.send(framed(plain()) * 2, count=2)
    block = post.pushed[0].blocks[0]
    assert (block.device, block.measured_at, block.received_at) == ("m1", AT, AT + SECOND)
    assert (block.values, block.slot, block.layout.source) == ((123456,), None, Source.PUSH)
    assert [(column.obis, column.unit, column.scale) for column in block.layout.columns] == [(ENERGY, "kWh", -3)]
    assert post.pushed[1].blocks[0].layout is block.layout


async def test_a_ciphered_push_is_known_by_its_system_title_and_taken_once(listen: Listen):
    async with listen(security="authenticated-encrypted") as post:
        for counter in (5, 6, 6, 4, 7):
            await post.send(wrap(1, 16, ciphered(counter)))
        assert len(post.pushed) == 3
        assert ["came before" in reason for _, _, reason in post.bad] == [True, True]
        await post.send(wrap(1, 16, plain()))
        await post.send(wrap(1, 16, ciphered(8, control=0x10)))
        await post.send(wrap(1, 16, ciphered(9, key=bytes(16))))
        assert len(post.pushed) == 3
        assert "in the name of a meter that ciphers" in post.bad[2][2]
        assert "less protection" in post.bad[3][2]
        assert len(post.bad) == 5


async def test_an_alarm_register_that_is_pushed_is_an_event(listen: Listen):
    async with listen() as post:
        body = axdr.structure(axdr.octets(b"MGT70000123"), axdr.u32(0b1001))
        await post.send(wrap(1, 16, plain(body, time=from_utc(AT).to_bytes())))
    (event,) = post.pushed[0].events
    assert (event.name, event.time, event.detail["bit"]) == ("cover-opened", AT, "3")


async def test_a_push_that_says_what_is_in_it_needs_no_list(listen: Listen):
    described = [CaptureObject(40, PUSH, 2), CaptureObject(1, "0-0:96.1.0*255", 2), CaptureObject(3, ENERGY, 2)]
    body = axdr.structure(
        axdr.array(*(item.to_data() for item in described)), axdr.octets(b"MGT70000123"), axdr.u32(77)
    )
    async with listen() as post:
        await post.send(wrap(1, 16, plain(body)))
    assert post.pushed[0].blocks[0].values == (77,)
    assert post.pushed[0].blocks[0].measured_at == AT + SECOND


async def test_one_attribute_that_is_told_by_an_event_notification_is_a_value(listen: Listen):
    async with listen(security="authenticated-encrypted") as post:
        apdu = EventNotification(from_utc(AT).to_bytes(), Attribute(3, ENERGY, 2), axdr.u32(9)).to_bytes()
        await post.send(wrap(1, 16, ciphered(1, apdu)))
    assert post.pushed[0].blocks[0].values == (9,)
    assert post.pushed[0].blocks[0].measured_at == AT


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (wrap(1, 16, plain(axdr.structure(axdr.octets(b"STRANGER"), axdr.u8(1)))), "names no meter"),
        (wrap(1, 16, plain(axdr.structure(axdr.octets(b"MGT70000123")))), "1 items fits 0 of the object lists"),
        (wrap(1, 16, plain(items(axdr.text("12")))), "e: a value of type visible-string is no number"),
        (wrap(1, 16, b"\x0f\0\0"), "ends early"),
        (wrap(1, 16, b"\xc4\x01\xc1\0\x06\0\0\0\1"), "is no notification"),
        (b"GET / HTTP/1.1\r\n\r\n", "wrapper version"),
        (b"\0\1\0\1\0\x10\xff\xff", "allowed are"),
    ],
)
async def test_what_cannot_be_read_is_handed_over_with_its_reason(listen: Listen, data: bytes, reason: str):
    async with listen() as post:
        await post.send(data)
        assert not post.pushed
        source, payload, said = post.bad[0]
        assert source.split()[0] == "127.0.0.1"
        assert payload
        assert reason in said


async def test_more_connections_than_there_is_room_for_are_turned_away(listen: Listen, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dlms_push, "MAX_CONNECTIONS", 2)
    async with listen() as post:
        kept = [await asyncio.open_connection("127.0.0.1", post.port) for _ in range(2)]
        for _, writer in kept:
            writer.write(wrap(1, 16, plain()))
        while len(post.pushed) < 2:
            post.changed.clear()
            await post.changed.wait()
        reader, writer = await asyncio.open_connection("127.0.0.1", post.port)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert post.listener.status.turned_away == 1
        for _, used in (*kept, (reader, writer)):
            used.close()


async def test_a_connection_that_brings_too_much_or_only_nonsense_is_closed(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(dlms_push, "CONNECTION_BYTES", 600)
    async with listen() as post:
        reader, writer = await asyncio.open_connection("127.0.0.1", post.port)
        writer.write(wrap(1, 16, b"\x0f") * 40)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert len(post.bad) <= 600 // 9
        writer.close()


BODIES = st.recursive(
    st.one_of(
        st.builds(axdr.u32, st.integers(0, 2**32 - 1)),
        st.builds(axdr.octets, st.one_of(st.binary(max_size=14), st.just(b"MGT70000123"), st.just(logical_name(PUSH)))),
        st.builds(axdr.f64, st.floats()),
        st.just(axdr.null()),
        st.just(clock()),
        st.just(CaptureObject(3, ENERGY, 2).to_data()),
        st.just(CaptureObject(1, "0-0:97.98.0*255", 2).to_data()),
        st.just(axdr.structure(axdr.i8(0), axdr.enum_(30))),
    ),
    lambda inner: st.lists(inner, max_size=5).flatmap(
        lambda items: st.sampled_from([axdr.array(*items), axdr.structure(*items)])
    ),
    max_leaves=12,
)


@given(body=BODIES, time=st.binary(max_size=13), secret=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_body_is_taken_or_refused_in_words(profile: DlmsProfile, body: Data, time: bytes, secret: bool):  # noqa: FBT001 - drawn
    mapper = PushMapper([meter_of(profile)])
    apdu = ciphered(1, plain(body, time)) if secret else plain(body, time)
    try:
        pushed = mapper.take(apdu, AT)
    except (FrameError, AuthError):
        return
    assert pushed.device == "m1"


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_message_is_taken_or_refused_in_words(profile: DlmsProfile, data: st.DataObject):
    apdu = bytearray(data.draw(st.sampled_from([plain(), ciphered(1)])))
    for _ in range(data.draw(st.integers(1, 4))):
        apdu[data.draw(st.integers(0, len(apdu) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(apdu)))
    try:
        pushed = PushMapper([meter_of(profile)]).take(bytes(apdu[:cut]), AT)
    except (FrameError, AuthError):
        return
    assert pushed.device == "m1"


@pytest.mark.parametrize("ciphers", [True, False])
async def test_a_simulated_meter_that_was_read_once_is_understood(open_site: Callable[..., Any], ciphers: bool):  # noqa: FBT001 - a parameter
    """Its system title, its scalers and what it pushes are its own word."""
    async with open_site() as site:
        driver = site.driver("dlms_generic") if ciphers else site.driver("dlms_generic", **PLAIN)
        blocks: list[Any] = []
        reader = DlmsReader(driver, ["active_energy_import", "active_energy_export"])

        async def work(talk: DlmsTalk) -> None:
            await driver.identify(talk)
            await reader.read(talk, slot=None, source=Source.POLL, into=blocks)

        await site.work(driver, work)
        apdu = PushSetup(site.meter, PushSettings(ciphered=ciphers)).apdu(site.meter.now())
        pushed = PushMapper([PushMeter(driver, ["70000123"])]).take(apdu, AT)
        assert pushed.blocks[0].values == blocks[0].values
        assert pushed.blocks[0].layout.columns == blocks[0].layout.columns

"""Associations with a simulated meter on a real connection: all kinds, both framings, and what goes wrong."""

from collections.abc import Callable
from typing import Any

import pytest

from collector.drivers.dlms_talk import DlmsTalk
from collector.keys import MeterKeys
from collector.protocols.dlms.errors import CounterTooLowError, WrongKeyError
from collector.protocols.dlms.references import Attribute
from metering.errors import AuthError, MeterError
from simulators.dlms_faults import DlmsFault, DlmsFaults, DlmsKind
from simulators.dlms_security import (
    GMAC_CLIENT,
    MANAGEMENT,
    MD5_CLIENT,
    PUBLIC,
    READER,
    SHA1_CLIENT,
    SHA256_CLIENT,
    TEST_SECRET,
)
from simulators.dlms_security import test_keys as keys_of_tests

Open = Callable[..., Any]
Make = Callable[..., Any]

KINDS: list[dict[str, Any]] = [
    {"client": PUBLIC, "authentication": "none", "security": "none"},
    {"client": READER, "authentication": "low", "security": "none"},
    {"client": MD5_CLIENT, "authentication": "high-md5", "security": "none"},
    {"client": SHA1_CLIENT, "authentication": "high-sha1", "security": "none"},
    {"client": SHA256_CLIENT, "authentication": "high-sha256", "security": "authenticated"},
    {"client": GMAC_CLIENT, "authentication": "high-gmac", "security": "none"},
    {"client": GMAC_CLIENT, "authentication": "high-gmac", "security": "authenticated-encrypted"},
    {"client": MANAGEMENT, "authentication": "high-gmac", "security": "authenticated-encrypted", "ciphering": "ded"},
    {"client": MANAGEMENT, "security": "authenticated-encrypted", "ciphering": "general-glo"},
]


def keys_for(authentication: str) -> MeterKeys:
    keys = keys_of_tests()
    if authentication in {"high-md5", "high-sha1", "high-sha256"}:
        keys.password = TEST_SECRET
    return keys


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind['client']} {kind['security']}")
async def test_the_meter_tells_its_serial_number_in_every_kind_of_association(
    open_site: Open, framing: str, kind: dict[str, Any]
):
    async with open_site(framing=framing) as site:
        driver = site.driver(keys=keys_for(str(kind.get("authentication"))), **kind)
        for _ in range(2):
            assert await site.work(driver, driver.identify) == "70000123"


async def test_a_wrong_key_is_told_as_such_and_the_next_conversation_works(open_site: Open):
    async with open_site() as site:
        wrong = keys_of_tests()
        wrong.encryption = bytes(16)
        driver = site.driver(keys=wrong)
        with pytest.raises(WrongKeyError) as caught:
            await site.work(driver, driver.identify)
        assert caught.value.meter == "m1"
        driver = site.driver()
        assert await site.work(driver, driver.identify) == "70000123"


async def test_a_counter_that_is_too_low_is_raised_to_the_meters_word_once(open_site: Open, make_counter: Make):
    async with open_site() as site:
        driver = site.driver(counter=make_counter(500))
        await site.work(driver, driver.identify)
        counter = make_counter(1)
        driver = site.driver(counter=counter)
        assert await site.work(driver, driver.identify) == "70000123"
        assert counter.value > 500


async def test_a_counter_that_is_too_far_ahead_is_not_believed(open_site: Open, make_counter: Make):
    async with open_site() as site:
        driver = site.driver(counter=make_counter(50_000))
        await site.work(driver, driver.identify)
        driver = site.driver(counter=make_counter(1))
        with pytest.raises(AuthError, match="too far ahead"):
            await site.work(driver, driver.identify)


async def test_an_unknown_counter_is_read_by_the_public_client_first(open_site: Open, make_counter: Make):
    for framing in ("wrapper", "hdlc"):
        async with open_site(framing=framing) as site:
            driver = site.driver(counter=make_counter(90_000))
            await site.work(driver, driver.identify)
            counter = make_counter(0, known=False)
            driver = site.driver(counter=counter, counter_obis=f"0-0:43.1.{GMAC_CLIENT}*255")
            assert await site.work(driver, driver.identify) == "70000123"
            assert counter.value > 90_000


async def test_another_meters_system_title_is_not_talked_to(open_site: Open):
    async with open_site() as site:
        driver = site.driver(system_title=b"XXX12345")
        with pytest.raises(MeterError, match="title"):
            await site.work(driver, driver.identify)


@pytest.mark.parametrize(
    ("framing", "kind"),
    [
        ("wrapper", "lost"),
        ("hdlc", "lost"),
        ("wrapper", "truncated"),
        ("hdlc", "damaged"),
        ("wrapper", "wrong_counter"),
        ("hdlc", "wrong_counter"),
        ("wrapper", "exception"),
        ("wrapper", "reset"),
        ("hdlc", "reset"),
    ],
)
async def test_after_a_conversation_that_broke_the_next_one_is_good(open_site: Open, framing: str, kind: DlmsKind):
    faults = DlmsFaults((DlmsFault(kind, every=4, times=1),))
    async with open_site(framing=framing, faults=faults) as site:
        driver = site.driver()
        failed = []
        for _ in range(4):
            try:
                await site.work(driver, driver.identify)
            except MeterError as error:
                failed.append(error)
        assert [error.meter for error in failed] in ([], ["m1"])
        assert await site.work(driver, driver.identify) == "70000123"


async def test_repeated_low_counters_are_an_error_not_a_loop(open_site: Open, make_counter: Make):
    class Stuck:
        known = True

        def next(self) -> int:
            return 1

        def raise_to(self, expected: int) -> None:
            del expected

    async with open_site() as site:
        driver = site.driver(counter=make_counter(500))
        await site.work(driver, driver.identify)
        driver = site.driver(counter=Stuck())
        with pytest.raises(CounterTooLowError):
            await site.work(driver, driver.identify)


@pytest.mark.parametrize("name", ["encryption", "authentication"])
async def test_a_key_changed_in_the_meter_while_it_is_read_costs_one_attempt(open_site: Open, name: str):
    """It is told as a refused key at the latest by the association behind the one that it breaks."""
    place = Attribute(1, "0-0:96.1.0*255", 2)
    async with open_site() as site:
        driver = site.driver()

        async def change(talk: DlmsTalk) -> None:
            await talk.get(place)
            setattr(site.meter.security.keys, name, bytes(range(1, 17)))
            await talk.get(place)

        with pytest.raises(MeterError) as caught:
            await site.work(driver, change)
        if not isinstance(caught.value, AuthError):
            with pytest.raises(AuthError):
                await site.work(driver, driver.identify)
        assert sum(site.meter.security.attempts.values()) == 1

"""A simulated meter's switch, limiter, calendar, scripts, security and the list of what it has, as values."""

from collections.abc import Callable
from typing import Any

import pytest

from collector.drivers.dlms_objects import read_object, read_object_list
from collector.protocols.dlms.calendar import ActivityCalendar, ScriptTable
from collector.protocols.dlms.object_parts import ScriptRef
from collector.protocols.dlms.objects import ControlState, DisconnectControl, Limiter, SecuritySetup
from collector.protocols.dlms.references import Attribute, Method
from metering.errors import RefusedError
from simulators.dlms_meter import DlmsSettings

Open = Callable[..., Any]


async def test_the_switch_tells_its_contact_its_state_and_its_mode(open_site: Open):
    async with open_site(DlmsSettings(control_mode=3)) as site:
        driver = site.driver()
        switch = await site.work(driver, lambda talk: read_object(talk, DisconnectControl, "0-0:96.3.10*255"))
        assert switch == DisconnectControl(output=True, state=ControlState.CONNECTED, mode=3)


async def test_the_limiter_tells_what_it_watches_and_what_it_does(open_site: Open):
    async with open_site() as site:
        driver = site.driver()
        limiter = await site.work(driver, lambda talk: read_object(talk, Limiter, "0-0:17.0.0*255"))
        assert limiter.watched.class_id in (3, 5)
        assert limiter.threshold == limiter.normal
        assert not limiter.in_emergency
        assert limiter.over.obis == "0-0:10.0.106*255"


async def test_the_calendar_tells_its_seasons_weeks_and_days(open_site: Open):
    async with open_site() as site:
        driver = site.driver()
        calendar = await site.work(driver, lambda talk: read_object(talk, ActivityCalendar, "0-0:13.0.0*255"))
        assert calendar.name == b"two rates"
        assert calendar.weeks == {b"week": (1,) * 7}
        assert [item.script for item in calendar.days[1]] == [ScriptRef("0-0:10.0.100*255", n) for n in (2, 1, 2)]
        assert [season.name for season in calendar.seasons] == [b"all"]
        assert calendar.passive is not None
        assert calendar.passive.seasons == ()


async def test_scripts_and_security_are_told(open_site: Open):
    async with open_site() as site:
        driver = site.driver()
        scripts = await site.work(driver, lambda talk: read_object(talk, ScriptTable, "0-0:10.0.106*255"))
        targets = [action.target for actions in scripts.scripts.values() for action in actions]
        assert targets
        assert all(isinstance(target, Method | Attribute) and target.class_id == 70 for target in targets)
        security = await site.work(driver, lambda talk: read_object(talk, SecuritySetup, "0-0:43.0.0*255"))
        assert security.suite == 0
        assert security.server_title == site.meter.title


async def test_the_object_list_names_what_the_association_may_read(open_site: Open):
    async with open_site(framing="hdlc") as site:
        driver = site.driver()
        listed = {item.obis: item for item in await site.work(driver, read_object_list)}
        assert set(listed) == set(site.meter.objects)
        assert listed["1-0:1.8.0*255"].class_id == 3
        assert listed["1-0:1.8.0*255"].allows(2)


async def test_an_object_that_is_not_there_is_refused(open_site: Open):
    async with open_site() as site:
        driver = site.driver()
        with pytest.raises(RefusedError):
            await site.work(driver, lambda talk: read_object(talk, Limiter, "0-0:17.0.9*255"))

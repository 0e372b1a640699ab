from gateway.push import PushSlots
from metering.model import SECOND, Block, Column, Kind, Layout, Source

HOUR = 1_800_000_000 * SECOND
TOTAL = Layout(Kind.REGISTER, Source.PUSH, 0, (Column("1-0:1.8.0*255", "kWh", -3, "int"),))
POWER = Layout(Kind.INSTANTANEOUS, Source.PUSH, 0, (Column("1-0:16.7.0*255", "W", 0, "int"),))


def push(at_s: float, layout: Layout = TOTAL) -> Block:
    at = HOUR + round(at_s * SECOND)
    return Block(layout, "m1", at, at, [1])


def test_the_first_total_after_each_boundary_takes_it_as_its_slot() -> None:
    slots = PushSlots({"m1": 900})
    placed = [slots.place(push(at)) for at in (10, 20, 899, 905, 1200, 2700)]
    assert [b.slot for b in placed] == [HOUR, None, None, HOUR + 900 * SECOND, None, HOUR + 2700 * SECOND]
    assert [b.measured_at for b in placed] == [HOUR + at * SECOND for at in (10, 20, 899, 905, 1200, 2700)]


def test_all_totals_are_in_the_promised_channel() -> None:
    slots = PushSlots({"m1": 900})
    assert {slots.place(push(at)).layout.interval for at in (10, 20)} == {900}


def test_momentary_values_and_unknown_devices_pass_as_they_are() -> None:
    slots = PushSlots({"m1": 900})
    assert slots.place(push(10, POWER)) == push(10, POWER)
    assert PushSlots({}).place(push(10)) == push(10)

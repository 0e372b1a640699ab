from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from collector.lanes import LONGEST_WAIT, PATIENCE, Lane, Lanes

DEPTHS = dict.fromkeys(Lane, 5)


def test_the_most_urgent_goes_first_and_equals_in_their_order():
    lanes: Lanes[str] = Lanes(DEPTHS)
    for lane, item in [(Lane.BACKFILL, "d"), (Lane.SCHEDULE, "b"), (Lane.SCHEDULE, "c"), (Lane.COMMAND, "a")]:
        assert lanes.push(lane, item)
    assert [lanes.pop() for _ in range(5)] == ["a", "b", "c", "d", None]


def test_a_full_lane_takes_nothing_more():
    lanes: Lanes[int] = Lanes(DEPTHS)
    assert [lanes.push(Lane.SCHEDULE, index) for index in range(6)] == [True] * 5 + [False]
    assert lanes.push(Lane.COMMAND, 7)


def test_a_stream_of_commands_lets_every_lane_through_within_its_bound():
    lanes: Lanes[Lane] = Lanes(DEPTHS)
    turns = []
    for _ in range(200):
        for lane in Lane:
            lanes.push(lane, lane)
        turns.append(lanes.pop())
    for lane in Lane:
        served = [turn for turn, who in enumerate(turns) if who is lane]
        assert max(b - a for a, b in zip([-1, *served], served, strict=False)) <= LONGEST_WAIT[lane] + 1, lane


class LanesMachine(RuleBasedStateMachine):
    """Jobs come, go and give up in any order: none is lost, none is doubled, none waits past its lane's bound."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes: Lanes[int] = Lanes(DEPTHS)
        self.model: dict[Lane, list[int]] = {lane: [] for lane in Lane}
        self.passed = dict.fromkeys(Lane, 0)
        self.next = 0

    @rule(lane=st.sampled_from(Lane), front=st.booleans())
    def push(self, lane: Lane, *, front: bool) -> None:
        self.next += 1
        if front:
            self.lanes.push_front(lane, self.next)
            self.model[lane].insert(0, self.next)
        elif self.lanes.push(lane, self.next):
            self.model[lane].append(self.next)
        else:
            assert len(self.model[lane]) >= DEPTHS[lane]

    @precondition(lambda self: any(self.model.values()))
    @rule()
    def pop(self) -> None:
        item = self.lanes.pop()
        lane = next(lane for lane in Lane if item in self.model[lane])
        assert self.model[lane].pop(0) == item
        for other in Lane:
            self.passed[other] = self.passed[other] + 1 if self.model[other] and other is not lane else 0
            assert self.passed[other] <= LONGEST_WAIT[other]
        more_urgent = [other for other in Lane if other < lane and self.model[other]]
        assert not more_urgent or PATIENCE[lane] > 0

    @precondition(lambda self: any(self.model.values()))
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from([lane for lane in Lane if self.model[lane]]))
        item = data.draw(st.sampled_from(self.model[lane]))
        self.lanes.remove(lane, item)
        self.model[lane].remove(item)

    @invariant()
    def the_depths_are_told(self) -> None:
        assert all(self.lanes.depth(lane) == len(self.model[lane]) for lane in Lane)
        assert bool(self.lanes) == any(self.model.values())


LanesMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestLanes = LanesMachine.TestCase

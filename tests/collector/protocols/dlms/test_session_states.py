"""The session's states by chance: services, refusals, lost and broken answers in any order, against a small meter."""

from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from collector.protocols.conversation import Conversation
from collector.protocols.dlms import axdr
from collector.protocols.dlms.acse import Mechanism
from collector.protocols.dlms.association import Association, Security
from collector.protocols.dlms.failures import ExceptionResponse
from collector.protocols.dlms.references import Attribute, DataAccessResult, Method
from collector.protocols.dlms.session import Session, State
from collector.protocols.dlms.session_table import ANSWERS, TRANSITIONS, Event
from metering.errors import AuthError, FrameError, MeterError, NoAnswerError, RefusedError, TransportError
from tests.collector.protocols.dlms.scripted_meter import CLIENT_TITLE, KEYS, Counter, Meter, run

ATTRIBUTES = [Attribute(1, f"0-0:96.1.{n}*255", 2) for n in range(4)]
ABSENT = Attribute(1, "0-0:96.1.9*255", 2)
CONNECT = Method(70, "0-0:96.3.10*255", 2)
ASSOCIATIONS = [
    Association(mechanism=mechanism, security=security, ciphering=kind, client_title=CLIENT_TITLE)
    for mechanism, security, kind in (
        (Mechanism.NONE, Security.NONE, "glo"),
        (Mechanism.LOW, Security.AUTHENTICATED, "general-glo"),
        (Mechanism.HIGH_SHA256, Security.ENCRYPTED, "ded"),
        (Mechanism.HIGH_GMAC, Security.AUTHENTICATED_ENCRYPTED, "general-ded"),
    )
]
VALUES = st.one_of(
    st.integers(0, 2**32 - 1).map(axdr.u32),
    st.binary(max_size=400).map(axdr.octets),
    st.lists(st.integers(0, 255).map(axdr.u8), max_size=100).map(lambda items: axdr.array(*items)),
)


class SessionMachine(RuleBasedStateMachine):
    """The meter holds what was written; the session reads it, whatever went wrong before."""

    @initialize(wanted=st.sampled_from(ASSOCIATIONS), block=st.sampled_from([0, 30, 100]))
    def begin(self, wanted: Association, block: int) -> None:
        self.counter = Counter()
        self.session = Session(wanted, KEYS, self.counter)
        values = {attribute: axdr.u32(number) for number, attribute in enumerate(ATTRIBUTES)}
        self.meter = Meter(wanted, values=values, block=block, max_pdu=128)
        self.late: list[bytes] = []

    def _associated(self) -> bool:
        return self.session.state is State.ASSOCIATED

    @precondition(lambda self: self.session.state is State.IDLE)
    @rule()
    def associate(self) -> None:
        run(self.session.associate(), self.meter)
        assert self._associated()

    @precondition(_associated)
    @rule(attribute=st.sampled_from(ATTRIBUTES))
    def get(self, attribute: Attribute) -> None:
        assert run(self.session.get(attribute), self.meter) == self.meter.values[attribute]

    @precondition(_associated)
    @rule(attributes=st.lists(st.sampled_from([*ATTRIBUTES, ABSENT]), min_size=1, max_size=30))
    def get_list(self, attributes: list[Attribute]) -> None:
        expected = [self.meter.values.get(attribute, DataAccessResult.OBJECT_UNDEFINED) for attribute in attributes]
        assert run(self.session.get_list(attributes), self.meter) == expected

    @precondition(_associated)
    @rule(attribute=st.sampled_from(ATTRIBUTES), value=VALUES)
    def set(self, attribute: Attribute, value: axdr.Data) -> None:
        run(self.session.set(attribute, value), self.meter)
        assert self.meter.values[attribute] == value

    @precondition(_associated)
    @rule(value=VALUES)
    def action(self, value: axdr.Data) -> None:
        assert run(self.session.action(CONNECT, value), self.meter) == value

    @precondition(_associated)
    @rule()
    def refused(self) -> None:
        self._raises(self.session.get(ABSENT), RefusedError)
        assert self._associated()

    @precondition(_associated)
    @rule(attribute=st.sampled_from(ATTRIBUTES), after=st.integers(0, 3))
    def answer_is_lost(self, attribute: Attribute, after: int) -> None:
        """Break off after some blocks; the answer that was not taken comes late."""
        conversation = self.session.get(attribute)
        try:
            request = next(conversation)
            for _ in range(after):
                request = conversation.send(self.meter.answer(request))
        except StopIteration:
            return
        late = self.meter.answer(request)
        with suppress(NoAnswerError):
            conversation.throw(NoAnswerError("silence"))
        assert self._associated()
        # The late answer comes before the next one and is not taken for it.
        other = ATTRIBUTES[(ATTRIBUTES.index(attribute) + 1) % len(ATTRIBUTES)]
        assert run(self.session.get(other), self.meter, late=[late]) == self.meter.values[other]

    @precondition(_associated)
    @rule(octets=st.binary(max_size=40), attribute=st.sampled_from(ATTRIBUTES))
    def answer_is_noise(self, octets: bytes, attribute: Attribute) -> None:
        conversation = self.session.get(attribute)
        next(conversation)
        with suppress(StopIteration, MeterError):
            conversation.send(octets)
        conversation.close()
        assert self.session.state in {State.ASSOCIATED, State.IDLE}

    @precondition(_associated)
    @rule(service=st.sampled_from([5, 6]))
    def meter_cannot_decipher(self, service: int) -> None:
        failure = ExceptionResponse(1, service).to_bytes()
        self.meter.spoil = lambda _request, _answer: failure
        self._raises(self.session.get(ATTRIBUTES[0]), AuthError)
        self.meter.spoil = lambda _request, answer: answer
        assert self.session.state is State.IDLE

    @rule()
    def nothing_is_sent_without_an_association(self) -> None:
        if not self._associated():
            self._raises(self.session.get(ATTRIBUTES[0]), TransportError)

    @rule()
    def release(self) -> None:
        run(self.session.release(), self.meter)
        assert self.session.state is State.IDLE

    def _raises(self, conversation: Conversation[object], error: type[MeterError]) -> None:
        try:
            run(conversation, self.meter)
        except error:
            return
        raise AssertionError(f"no {error.__name__}")

    @invariant()
    def no_counter_is_used_twice(self) -> None:
        if hasattr(self, "counter"):
            assert len(set(self.counter.given)) == len(self.counter.given)
            assert self.session.state in {State.IDLE, State.ASSOCIATED}


SessionMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestSession = SessionMachine.TestCase


def test_every_state_can_be_left_and_reached():
    assert set(TRANSITIONS) == set(State)
    reached = {state for events in TRANSITIONS.values() for state in events.values()}
    assert reached == set(State)
    used = {event for events in TRANSITIONS.values() for event in events}
    assert used == set(Event)


def test_every_state_that_waits_for_the_meter_knows_its_answers_and_how_it_breaks():
    for state, events in TRANSITIONS.items():
        waits = state not in {State.IDLE, State.ASSOCIATED}
        assert (state in ANSWERS) is waits
        assert (Event.LOST in events) is waits


def test_a_frame_error_is_no_reason_to_give_up_the_association():
    wanted = ASSOCIATIONS[0]
    session = Session(wanted, KEYS, None)
    meter = Meter(wanted, values={ATTRIBUTES[0]: axdr.u8(1)})
    run(session.associate(), meter)
    conversation = session.get(ATTRIBUTES[0])
    next(conversation)
    try:
        conversation.send(b"\xc4\x01")
    except FrameError:
        assert session.state is State.ASSOCIATED
    assert run(session.get(ATTRIBUTES[0]), meter) == axdr.u8(1)

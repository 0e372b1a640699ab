"""The session's states, what may happen in each and what follows: data only, read by `session`."""

from enum import Enum

from collector.protocols.dlms.acse import Aare, Rlre
from collector.protocols.dlms.action import ActionBlockResponse, ActionNextBlockResponse, ActionResponse
from collector.protocols.dlms.get import GetBlockResponse, GetListResponse, GetResponse
from collector.protocols.dlms.invoke import Apdu
from collector.protocols.dlms.set import SetBlockResponse, SetLastBlockResponse, SetResponse


class State(Enum):
    """Where a session stands."""

    IDLE = "idle"  # no association
    OPENING = "opening"  # AARQ sent
    PROVING = "proving"  # accepted; each end has yet to answer the other's challenge
    ASSOCIATED = "associated"
    GETTING = "getting"
    SETTING = "setting"
    ACTING = "acting"
    RELEASING = "releasing"


class Event(Enum):
    """What happens to a session."""

    ASSOCIATE = "associate"
    ACCEPTED = "accepted"
    CHALLENGED = "challenged"
    PROVED = "proved"
    GET = "get"
    SET = "set"
    ACTION = "action"
    DONE = "done"  # the service was answered, be it with a refusal
    BROKEN = "broken"  # no answer, or not one to what was asked; a later one is told by its invoke-id
    LOST = "lost"  # keys or counters do not fit, or the connection is gone: the association is over
    RELEASE = "release"


_SERVICE = {Event.DONE: State.ASSOCIATED, Event.BROKEN: State.ASSOCIATED, Event.LOST: State.IDLE}

# What is not listed must not happen.
TRANSITIONS: dict[State, dict[Event, State]] = {
    State.IDLE: {Event.ASSOCIATE: State.OPENING},
    State.OPENING: {Event.ACCEPTED: State.ASSOCIATED, Event.CHALLENGED: State.PROVING, Event.LOST: State.IDLE},
    State.PROVING: {Event.PROVED: State.ASSOCIATED, Event.LOST: State.IDLE},
    State.ASSOCIATED: {
        Event.GET: State.GETTING,
        Event.SET: State.SETTING,
        Event.ACTION: State.ACTING,
        Event.RELEASE: State.RELEASING,
    },
    State.GETTING: _SERVICE,
    State.SETTING: _SERVICE,
    State.ACTING: _SERVICE,
    State.RELEASING: {Event.LOST: State.IDLE},
}

# The answers that each state awaits; refusals of all kinds and notifications may come in any of them.
ANSWERS: dict[State, tuple[type[Apdu], ...]] = {
    State.OPENING: (Aare,),
    State.PROVING: (ActionResponse,),
    State.GETTING: (GetResponse, GetBlockResponse, GetListResponse),
    State.SETTING: (SetResponse, SetBlockResponse, SetLastBlockResponse),
    State.ACTING: (ActionResponse, ActionBlockResponse, ActionNextBlockResponse),
    State.RELEASING: (Rlre,),
}

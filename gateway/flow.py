"""What becomes of readings between meters and the recorder: placed, checked, marked, remembered. It drops nothing."""

from collections.abc import Callable, Mapping, Sequence

from gateway.checks import RegisterWatch, suspect_clock
from gateway.clock import Clock
from gateway.fieldwork import Fieldwork
from gateway.last import LastValues
from gateway.past import remember
from gateway.push import PushSlots
from gateway.recorder import Recorder
from metering.model import Block
from storage.log import Log


class Flow:
    """Takes blocks. `field` gives the version of the configuration at work; `learned` is told of new totals."""

    def __init__(
        self, clock: Clock, recorder: Recorder, field: Callable[[], Fieldwork], learned: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._recorder = recorder
        self._field = field
        self._learned = learned
        self.last = LastValues()
        self._moduli: dict[str, Mapping[str, int]] = {}
        self._periods: dict[str, int] = {}
        self._watch = RegisterWatch(self._moduli)
        self._push = PushSlots(self._periods)

    def go_by(self, field: Fieldwork) -> None:
        """Learn of a version that goes to work what its meters' registers turn over at, and what is promised."""
        self._moduli.clear()
        self._moduli.update({meter.id: meter.profile.moduli() for meter in field.meters.values()})
        self._periods.clear()
        self._periods.update(field.periods)

    def remember(self, log: Log) -> None:
        """Take up the last running totals of the log, so that a fall over a restart is seen. Blocking."""
        remember(log, self._watch)

    def take(self, blocks: Sequence[Block]) -> None:
        """Flag what is to be flagged and hand blocks to the recorder."""
        if not blocks:
            return
        checked = [self._watch.check(block) for block in blocks]
        if self._clock.suspect:
            checked = [suspect_clock(block) for block in checked]
        for block in checked:
            self.last.take(block)
            self._field().memories.polled(block)
        self._recorder.add(checked)

    def published(self, block: Block) -> None:
        """Take what a meter sent by itself, at the boundary that it belongs to."""
        placed = self._push.place(block)
        if self._field().promised.is_new(placed):
            self._learned()
        self.take([placed])

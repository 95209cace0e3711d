"""The one loop around the engine that backtest, replay, paper and live share.

Feed, guard, engine and broker are handed in. Driving it is three lines, with the guard in memory or behind
NATS: `report = loop.advance(input)`, ask the guard, `loop.conclude(answer)`. No I/O here; what must be stored
before anything leaves is the driver's business (PROTOCOL 2).
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import TypeAdapter

from services.shared.events import Body, OrderIntended, Reason
from services.shared.market import Bar, Quote
from services.shared.verdicts import NOD, Answer, RiskGuard, StepReport
from services.trader.brokers.base import Broker, Update
from services.trader.brokers.paper import PaperBroker
from services.trader.brokers.paper_account import PaperState
from services.trader.deployment import EngineState
from services.trader.engine import Engine
from services.trader.feeds.base import MarketStep
from services.trader.inputs import Broken, CommandInput, EndOfData, GuardSilent, Input, Notice, SignalInput
from services.trader.working import Action, Amend, Cancel, Submit

_BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class LoopState:
    """Engine and paper account as they go into a snapshot."""

    engine: EngineState
    paper: PaperState | None


STATE: TypeAdapter[LoopState] = TypeAdapter(LoopState)


class TradingLoop:
    """Engine and broker in step; the guard is asked by the driver between `advance` and `conclude`."""

    def __init__(self, run_id: str, engine: Engine, broker: Broker) -> None:
        self.run_id = run_id
        self.engine = engine
        self.broker = broker
        self._mode = engine.terms.mode
        self._carried: list[Body] = []

    @property
    def finished(self) -> bool:
        """The deployment has ended, with nothing left open."""
        return self.engine.finished

    def start(self, reason: str, command_id: str | None) -> None:
        """Begin the run; its first facts go into the first report."""
        self.engine.start(reason, command_id)
        self._carried = self._take_facts()

    def advance(self, given: Input | None) -> StepReport:
        """One step up to the question to the guard. None only reports what is left to report."""
        engine = self.engine
        state = engine.state
        state.step += 1
        fresh: Sequence[Bar | Quote] = ()
        opens: Sequence[Bar] = ()
        if type(given) is MarketStep:
            fresh = given.quotes or given.bars
            if state.book.positions and not given.quotes:
                opens = given.bars
            updates = self.broker.on_market(given)
            if updates:
                self._hear(updates, given.time)
            engine.on_market(given)
            if engine.out.actions or state.ending is not None:
                self._work()
            engine.mark()
        elif given is not None:
            self._put(given)
            self._work()
            if engine.unmarked_fill:
                engine.mark()
        out = engine.out
        facts, out.facts = out.facts, []
        if self._carried:
            facts = [*self._carried, *facts]
            self._carried = []
        judge: Sequence[OrderIntended] = ()
        if out.judge:
            judge = [intent for intent in out.judge if intent.order in state.orders.working]
            out.judge = []
        time = state.time or _BEFORE_ALL
        # By position: by name costs half as much again, and this is made at every bar.
        return StepReport(
            self.run_id,
            state.step,
            time,
            self._mode,
            facts,
            judge,
            state.quotes,
            fresh,
            opens,
            engine.rates.known,
        )

    def conclude(self, answer: Answer) -> Sequence[Body]:
        """Act on the guard's answer; returns the facts this brings, which the next report carries too."""
        if answer.trivial:
            return ()
        self.engine.on_answer(answer)
        self._work()
        if self.engine.unmarked_fill:
            self.engine.mark()
        self._carried = self._take_facts()
        return self._carried

    def give_up(self, orders: Sequence[int], reason: Reason) -> Sequence[Body]:
        """Nobody judged these orders in time (live only): they are denied."""
        self.engine.on_silence(orders, reason)
        self._work()
        facts = self._take_facts()
        self._carried = [*self._carried, *facts]
        return facts

    def snapshot(self) -> LoopState:
        """The state as it is; serialise it at once."""
        paper = self.broker.state if isinstance(self.broker, PaperBroker) else None
        return LoopState(engine=self.engine.state, paper=paper)

    @property
    def carried(self) -> Sequence[Body]:
        """Facts that have been stated but not yet been part of a report."""
        return self._carried

    def carry(self, facts: Sequence[Body]) -> None:
        """After a restore: what the next report has to begin with."""
        self._carried = list(facts)

    @property
    def _now(self) -> datetime:
        now = self.engine.state.time
        return _BEFORE_ALL if now is None else now

    def _put(self, given: Input) -> None:
        engine = self.engine
        if isinstance(given, CommandInput):
            engine.on_command(given)
        elif isinstance(given, SignalInput):
            engine.on_signal(given)
        elif isinstance(given, EndOfData):
            engine.on_end_of_data()
        elif isinstance(given, GuardSilent):
            engine.on_guard_silent()
        elif isinstance(given, Notice):
            engine.alert(given.severity, given.code, given.text, given.action)
        elif isinstance(given, Broken):
            engine.on_broken(given.reason)

    def _hear(self, updates: Iterable[Update], now: datetime) -> None:
        self.engine.state.time = now
        for update in updates:
            self.engine.on_update(update)

    def _work(self) -> None:
        """Hand actions to the broker until neither has anything left to say."""
        engine = self.engine
        while True:
            actions, engine.out.actions = engine.out.actions, []
            for action in actions:
                for update in self._act(action):
                    engine.on_update(update)
            engine.tell_fills()
            if not engine.out.actions and engine.state.ending is not None:
                engine.settle()
            if not engine.out.actions:
                return

    def _act(self, action: Action) -> Sequence[Update]:
        now = self._now
        if isinstance(action, Submit):
            return self.broker.submit(action.ticket, now)
        if isinstance(action, Cancel):
            return self.broker.cancel(action.order, now)
        if isinstance(action, Amend):
            return self.broker.amend(action.order, now, price=action.price)
        return self.broker.lookup(action.order, now)

    def _take_facts(self) -> list[Body]:
        facts, self.engine.out.facts = self.engine.out.facts, []
        return facts


@contextlib.contextmanager
def _calm_collector() -> Iterator[None]:
    """A run makes many objects and no cycles to speak of: have cycles looked for a hundred times less often,
    and not among all that was there before. It costs a fifth of a backtest otherwise."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100 * before[0], *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def run_to_end(
    loop: TradingLoop,
    steps: Iterable[MarketStep],
    guard: RiskGuard,
    hear: Callable[[StepReport, Answer], None] | None = None,
) -> None:
    """Drive the loop with the guard in memory until the data or the deployment ends: the backtest."""
    with _calm_collector():
        _run_to_end(loop, steps, guard, hear)


def _run_to_end(
    loop: TradingLoop,
    steps: Iterable[MarketStep],
    guard: RiskGuard,
    hear: Callable[[StepReport, Answer], None] | None,
) -> None:
    advance, ask, conclude = loop.advance, guard.answer, loop.conclude
    state = loop.engine.state
    for step in steps:
        report = advance(step)
        answer = ask(report)
        if answer is not NOD:
            conclude(answer)
        if hear is not None:
            hear(report, answer)
        if state.ending is not None and loop.finished:
            break
    while not loop.finished:
        report = advance(EndOfData())
        answer = ask(report)
        conclude(answer)
        if hear is not None:
            hear(report, answer)
    report = advance(None)
    answer = ask(report)
    if hear is not None:
        hear(report, answer)

"""One deployment as the trader drives it: loop, journal and cursor, and its place in the snapshot.

Knows what a step brings and which question it puts to the guard; sending and storing are `service`'s.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.shared.commands import Deploy
from services.shared.events import Body, Reason
from services.shared.verdicts import Answer, StepReport
from services.shared.wire import decode
from services.trader.feeds.base import MarketStep
from services.trader.guard_link import GuardLink
from services.trader.inputs import Input
from services.trader.journal import Journal, Message
from services.trader.loop import STATE, TradingLoop
from services.trader.plan import Plan
from services.trader.snapshot import RunSnapshot


@dataclass(slots=True)
class Question:
    """What the guard is asked about a step: the request's bytes and the orders that want a verdict."""

    step: int
    data: bytes
    judge: list[int]


@dataclass(slots=True)
class Run:
    """A deployment under way."""

    run_id: str
    command_id: str
    plan: Plan
    loop: TradingLoop
    journal: Journal
    feed: str
    speed: float
    deployment_time: datetime
    cursor: int = 0
    carried: list[Message] = field(default_factory=list)
    question: Question | None = None
    unguarded: bool = False
    bar_seconds: int | None = None
    redoing: bool = False
    """Taken up in lockstep and not at its next snapshot yet. Before the restart it came no further than there, so
    until then it says again what may have left, and does nothing that is not in its file."""

    @property
    def lockstep(self) -> bool:
        """Whether the data is its clock."""
        return self.plan.terms.mode == "lockstep"

    def start(self, now: datetime) -> list[Message]:
        """Begin; returns what that says."""
        self.loop.start(f"deployed by command {self.command_id}", self.command_id)
        self.carried = self.journal.write(self.loop.carried, self.plan.feed.first, now)
        return self.carried

    def advance(self, given: Input | None, link: GuardLink, now: datetime) -> list[Message]:
        """One step up to the question, which is then in `question`; returns the new messages."""
        report = self.loop.advance(given)
        fresh = report.facts[len(self.carried) :]
        messages = self.journal.write(fresh, report.time, now)
        self.question = self._question(report, [*self.carried, *messages], link)
        self.carried = []
        if isinstance(given, MarketStep):
            self.cursor += 1
            traded = self.plan.terms.instruments
            bars = [bar for bar in given.bars if bar.instrument in traded]
            messages += self.journal.write_bars(bars, now)
        return messages

    def _question(self, report: StepReport, messages: Sequence[Message], link: GuardLink) -> Question | None:
        if not (self.lockstep or report.judge):
            return None
        judge = [intent.order for intent in report.judge]
        return Question(report.step, link.request(report, messages), judge)

    def conclude(self, answer: Answer, now: datetime) -> list[Message]:
        """Act on the guard's answer; returns what that says."""
        return self._carry(self.loop.conclude(answer), now)

    def give_up(self, orders: Sequence[int], reason: Reason, now: datetime) -> list[Message]:
        """Nobody judged these orders: they do not go."""
        return self._carry(self.loop.give_up(orders, reason), now)

    def _carry(self, facts: Sequence[Body], now: datetime) -> list[Message]:
        self.question = None
        messages = self.journal.write(facts, self.time, now)
        self.carried = [*self.carried, *messages]
        return messages

    @property
    def time(self) -> datetime:
        """The run's clock."""
        return self.loop.engine.state.time or self.plan.feed.first

    @property
    def unsent(self) -> list[int]:
        """The orders that the guard was asked about and that did not leave."""
        working = self.loop.engine.state.orders.working
        return [number for number, order in working.items() if order.status == "asked"]

    def expected_completion(self, now: datetime) -> datetime | None:
        """When the run will be over at its speed, by what is left of its data or hours; None before a
        lockstep run has shown how fast it goes."""
        feed, state = self.plan.feed, self.loop.engine.state
        left = len(feed) - self.cursor
        seconds = float(left * feed.bar_seconds)
        if state.deadline is not None:
            seconds = max(0.0, min(seconds, (state.deadline - self.time).total_seconds()))
        elif self.plan.command.hours is not None:
            seconds = min(seconds, float(self.plan.command.hours) * 3600)
        if self.speed:
            return now + timedelta(seconds=seconds / self.speed)
        if not self.cursor:
            return None
        return now + (now - self.deployment_time) * left / self.cursor

    def snapshot(self) -> RunSnapshot:
        """The run as it is now."""
        question = self.question
        return RunSnapshot(
            run_id=self.run_id,
            command_id=self.command_id,
            command=self.plan.command.model_dump(mode="json"),
            feed=self.feed,
            speed=self.speed,
            cursor=self.cursor,
            loop=json.loads(STATE.dump_json(self.loop.snapshot())),
            seqs=dict(self.journal.seqs),
            carried=[message.data.decode() for message in self.carried],
            deployment_time=self.deployment_time.isoformat(),
            question=None if question is None else question.data.decode(),
            judge=[] if question is None else question.judge,
            unguarded=self.unguarded,
            steps=len(self.plan.feed),
            bar_seconds=self.bar_seconds,
        )


def resume(kept: RunSnapshot, plan: Plan, trader: str) -> Run:
    """The run a snapshot was taken of, with the prices it has seen shown to it again."""
    loop = plan.loop(kept.run_id, STATE.validate_python(kept.loop), kept.cursor)
    events = [decode(text.encode()) for text in kept.carried]
    loop.carry([event.body for event in events])
    question = None
    if kept.question is not None:
        question = Question(loop.engine.state.step, kept.question.encode(), kept.judge)
    return Run(
        run_id=kept.run_id,
        command_id=kept.command_id,
        plan=plan,
        loop=loop,
        journal=Journal(trader, kept.run_id, dict(kept.seqs)),
        feed=kept.feed,
        speed=kept.speed,
        deployment_time=datetime.fromisoformat(kept.deployment_time),
        cursor=kept.cursor,
        carried=[Message("", "", text.encode()) for text in kept.carried],
        question=question,
        unguarded=kept.unguarded,
        bar_seconds=kept.bar_seconds,
        redoing=plan.terms.mode == "lockstep",
    )


def asked(kept: RunSnapshot) -> Deploy:
    """The command a kept run was deployed with."""
    return Deploy.model_validate(kept.command)

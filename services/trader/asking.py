"""A step's question to the guard, and what its answer makes of the step.

In lockstep the run stands still until the answer is there, or a person has ended the wait; live it goes on, and
an answer that does not come in time is a no (PROTOCOL 3). How the guard is reached is `guard_link`'s, what a step
asks and what an answer means, the run's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from services.shared.events import Reason
from services.shared.verdicts import Answer
from services.trader.guard_link import GuardLink
from services.trader.inbox import Inbox
from services.trader.journal import Message
from services.trader.keeper import Keeper
from services.trader.run import Question, Run

_SNAPSHOT_EVERY = 250
_UNGUARDED_WAIT = 0.5
_REDO_PATIENCE = 10.0


class Save(Protocol):
    """Writes the trader's snapshot with the messages that are about to leave; see `Keeper.save`."""

    async def __call__(self, messages: Sequence[Message], *, wait: bool = False) -> None: ...


class Asking:
    """Asks for one trader. `turn` is held by whoever changes the run: a live answer comes at any moment.

    `timeout` is how many seconds a live answer may take.
    """

    def __init__(self, link: GuardLink, keeper: Keeper, inbox: Inbox, save: Save, *, timeout: float) -> None:
        self._link = link
        self._keeper = keeper
        self._inbox = inbox
        self._save = save
        self._timeout = timeout
        self._under_way: set[asyncio.Task[None]] = set()
        self.turn = asyncio.Lock()

    async def in_lockstep(self, run: Run, *, keep: bool) -> None:
        """The guard's word on this step, however long it takes; a person's stop ends the wait."""
        question = run.question
        assert question is not None
        if run.unguarded:
            answer = await self._link.ask_once(question.data, question.step, _UNGUARDED_WAIT)
        else:
            answer = await self._link.ask_until_answered(
                question.data,
                question.step,
                lambda: self._wait_is_over(run),
            )
        if answer is None:
            run.unguarded = True
            reason = Reason(code="guard_silent", text="a person ended the wait for the guard")
            messages = run.give_up(question.judge, reason, _now())
            keep = True
        else:
            messages = run.conclude(answer, _now())
            keep = keep or not answer.trivial
        if keep or run.cursor % _SNAPSHOT_EVERY == 0:
            await self._save(messages, wait=True)
            run.redoing = False
        self._keeper.send(messages)

    def live(self, run: Run, question: Question) -> None:
        """Ask while the run goes on."""
        task = asyncio.create_task(self._ask_live(run, question))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def settled(self) -> None:
        """Wait until every live question has had its end."""
        await asyncio.gather(*self._under_way)

    async def take_up(self, run: Run) -> None:
        """After a restart: in lockstep no time has passed, so ask again; live, what was not sent is not."""
        if run.question is not None and run.lockstep:
            await self.in_lockstep(run, keep=True)
        elif not run.lockstep:
            unsent = run.unsent
            if unsent:
                reason = Reason(code="abandoned", text="the trader restarted; an entry is not sent late")
                messages = run.give_up(unsent, reason, _now())
                await self._save(messages)
                self._keeper.send(messages)

    def _wait_is_over(self, run: Run) -> bool:
        """Whether a person has ended the wait for the guard. What is said again after a restart waits all the
        same, unless the guard stays silent: it has answered it before."""
        stopped = self._inbox.stops_waiting > 0 or self._keeper.stop_deferred
        return stopped and not (run.redoing and self._link.silent_for < _REDO_PATIENCE)

    async def _ask_live(self, run: Run, question: Question) -> None:
        """Ask once; no answer in time is a no, and so are a stop heard meanwhile and an intent not stored."""
        answer = await self._link.ask_once(question.data, question.step, self._timeout)
        stored = await self._keeper.drained_within(self._timeout)
        async with self.turn:
            why = None
            if answer is None:
                why = Reason(code="guard_silent", text=f"the guard did not answer in {self._timeout:g} s")
            elif self._inbox.blocked is not None:
                why = Reason(code="blocked", text=f"a {self._inbox.blocked} has been heard")
            elif not stored:
                why = Reason(
                    code="not_stored", text="the intent could not be stored, so the order does not leave"
                )
            messages: list[Message] = []
            if answer is not None:
                messages = run.conclude(answer if why is None else Answer(halt=answer.halt), _now())
            if why is not None:
                messages += run.give_up(question.judge, why, _now())
            await self._save(messages)
            self._keeper.send(messages)


def _now() -> datetime:
    return datetime.now(UTC)


__all__ = ["Asking"]

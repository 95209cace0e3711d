"""One trader at work: wires feed, engine, guard and broker, and writes before anything leaves (PROTOCOL 2).

Commands come before prices. A lockstep replay stands still where the guard has not answered; paced it plays live:
the clock is the wall's. Decisions are the engine's, the questions to the guard `asking`'s, what a command means
between runs is `between_runs`'.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog
from nats.aio.msg import Msg

from services.shared import subjects
from services.shared.bus import Bus, told_to_leave
from services.shared.commands import CommandReply
from services.shared.events import AlertRaised
from services.shared.service import Health, beat
from services.trader.asking import Asking
from services.trader.between_runs import OF_A_RUN, BetweenRuns, Situation
from services.trader.display import Display
from services.trader.feeds.base import MarketStep
from services.trader.guard_link import GuardLink
from services.trader.inbox import Inbox, StoredCommand, StoredSignal
from services.trader.inputs import CommandInput, EndOfData, Input, SignalInput
from services.trader.journal import Message, outside_run
from services.trader.keeper import RETRY_AFTER, Keeper, patiently
from services.trader.lease import Lease, Owner
from services.trader.live_watch import LiveWatch
from services.trader.pacing import Pace
from services.trader.run import Run
from services.trader.settings import TraderSettings
from services.trader.snapshot import Latch, RunSnapshot
from services.trader.waiting import BACK, LOOK_EVERY, FilesGone, Waiting, take_up

log = structlog.get_logger(__name__)


class Trader:
    """One trader id. `run` is its life, as long as the id is this process's."""

    def __init__(
        self, settings: TraderSettings, bus: Bus, health: Health, lease: Lease, *, before: Owner | None = None
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._health = health
        self._lease = lease
        self._before = before
        self._keeper = Keeper(bus, settings, lease)
        self._link = GuardLink(bus, settings.trader)
        self._between = BetweenRuns(settings)
        self._run: Run | None = None
        self._waiting: Waiting | None = None
        self._display = Display(bus, settings.trader, self._between)
        self._watch = LiveWatch()
        self._inbox: Inbox
        self._asking: Asking

    async def run(self) -> None:
        """Restore, work through what was asked, then trade until cancelled."""
        await self._restore()
        await patiently(self._display.restore)
        keeper = self._keeper
        self._inbox = Inbox(
            self._bus,
            self._settings.trader,
            keeper.repeats,
            commands_seq=keeper.commands_seq,
            signals_seq=keeper.signals_seq,
        )
        self._asking = Asking(
            self._link, keeper, self._inbox, self._save, timeout=self._settings.approval_timeout
        )
        self._watch.heard_guard(asyncio.get_running_loop().time())
        own_guard = subjects.heartbeat("risk", self._settings.trader)
        await self._bus.subscribe(own_guard, self._on_guard_heartbeat)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(keeper.outbox.run())
                tasks.create_task(self._lease.keep())
                tasks.create_task(beat(self._bus, self._health, "trader", self._settings.trader))
                await patiently(self._inbox.catch_up)
                await self._inbox.open()
                tasks.create_task(self._inbox.run())
                await self._show()
                self._health.ready("ready" if self._waiting is None else "waiting for a file")
                log.info(
                    "ready", trader=self._settings.trader, resumed=self._run.run_id if self._run else None
                )
                await self._trade()
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _trade(self) -> None:
        """Commands first, then the run they made; for ever."""
        if self._before is not None:
            await self._tell("lease", _taken_over(self._before, self._lease.owner))
        if self._waiting is None and self._keeper.told:
            await self._tell_of_files(BACK, "")
        while not told_to_leave():
            await self._take_commands()
            if self._waiting is not None:
                await self._wait_for_files(self._waiting)
            elif self._run is None:
                await self._wait_for_commands()
            else:
                await self._drive(self._run)

    async def _restore(self) -> None:
        kept = await self._keeper.restore()
        if kept is None:
            return
        try:
            self._run = take_up(kept, self._settings)
        except FilesGone as error:
            log.error("run_waits", run_id=kept.run_id, detail=str(error))
            self._waiting = Waiting(kept, self._settings, str(error))

    async def _wait_for_commands(self) -> None:
        """Until there is one, or a moment later: what could not be shown is shown then."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY):
                await self._inbox.wait()
        await self._show()

    async def _wait_for_files(self, waiting: Waiting) -> None:
        """Say once what is missing; go on with the run when it is back, or see to a command before that."""
        if self._keeper.told != waiting.why:
            await self._tell_of_files(waiting.alert(), waiting.why)
            await self._show()
        run = await waiting.look()
        if run is None:
            await self._wait_for_commands()
            return
        self._run, self._waiting = run, None
        await self._tell_of_files(BACK, "")
        self._health.ready()
        await self._drive(run)

    async def _tell_of_files(self, alert: AlertRaised, told: str) -> None:
        self._keeper.told = told
        await self._tell("files", alert)

    async def _tell(self, kind: str, alert: AlertRaised) -> None:
        """An alert beside the run, which is to be the same as one that nothing happened to."""
        messages = outside_run(self._settings.trader, kind, self._keeper.next_number, [alert], _now())
        await self._save(messages, wait=True)
        self._send(messages)

    # a run

    async def _drive(self, run: Run) -> None:
        """Take the run to its end, or until there is nothing of it left to do."""
        await self._asking.take_up(run)
        await self._take_commands()
        pace = Pace(run.speed, run.plan.feed.bar_seconds)
        for step in run.plan.feed.steps(run.cursor):
            if run.loop.finished:
                break
            await self._until_due(run, pace, step)
            if run.loop.finished:
                break
            await self._apply(run, step)
            await self._show()
        while not run.loop.finished:
            await self._apply(run, EndOfData())
        await self._asking.settled()
        await self._apply(run, None)
        await self._finish(run)

    async def _until_due(self, run: Run, pace: Pace, step: MarketStep) -> None:
        """Wait for the step's moment, carrying out commands as they come."""
        if told_to_leave():
            raise asyncio.CancelledError
        if run.lockstep:
            await self._take_commands()
            return
        loop = asyncio.get_running_loop()
        due = pace.due(step.time, loop.time())
        while not run.loop.finished:
            await self._take_commands()
            await self._look_around(run)
            left = due - loop.time()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, 1.0)):
                    await self._inbox.wait()
            await self._show()

    async def _apply(self, run: Run, given: Input | None) -> None:
        """One step: state first, then what it says, then the guard."""
        async with self._asking.turn:
            messages = run.advance(given, self._link, _now())
            from_file = given is None or isinstance(given, MarketStep | EndOfData)
            if not (run.lockstep and from_file):
                await self._save(messages, wait=run.lockstep)
            self._send(messages)
            question = run.question
            if question is None:
                return
            if run.lockstep:
                await self._asking.in_lockstep(run, keep=not from_file)
                return
        self._asking.live(run, question)

    async def _finish(self, run: Run) -> None:
        """The run is over: latch a halt, state the end, and forget the run."""
        phase = run.loop.engine.state.phase
        if phase == "HALTED" and self._keeper.latch is None:
            ending = run.loop.engine.state.ending
            reason = ending.reason if ending is not None else "halted"
            self._keeper.latch = Latch(
                reason=reason, run_id=run.run_id, command_seq=self._keeper.commands_seq
            )
        # Once the run is forgotten nobody could show how it ended.
        while not await self._show(finished=True):
            if told_to_leave():
                raise asyncio.CancelledError
            await asyncio.sleep(RETRY_AFTER)
        self._run = None
        await self._save([], wait=True)
        log.info("run_finished", run_id=run.run_id, phase=phase, trades=run.loop.engine.book.trades)

    # storing and sending

    async def _save(self, messages: Sequence[Message], *, wait: bool = False) -> None:
        await self._keeper.save(self._run_snapshot, messages, wait=wait)

    def _run_snapshot(self) -> RunSnapshot | None:
        if self._waiting is not None:
            return self._waiting.kept
        return None if self._run is None else self._run.snapshot()

    def _send(self, messages: Sequence[Message]) -> None:
        self._keeper.send(messages)

    async def _show(self, *, finished: bool = False) -> bool:
        if self._lease.lost:  # what another owner shows is not ours to write over
            return True
        return await self._display.show(self._situation(), finished=finished)

    def _situation(self) -> Situation:
        keeper = self._keeper
        return Situation(self._run, keeper.latch, self._display.shown, self._waiting, keeper.deferred)

    # commands

    async def _take_commands(self) -> None:
        """Carry out what is stored, in its order; first what waited with the run."""
        while self._takes_commands and (taken := self._next_command()) is not None:
            if isinstance(taken, StoredSignal):
                await self._take_signal(taken)
            else:
                await self._take_command(taken)
            if self._inbox.pending.empty():
                self._inbox.blocked = None

    @property
    def _takes_commands(self) -> bool:
        """Not while the run says again what it may have said before a restart: no seq is used for two things. Nor
        once it is over and not yet put away: a halt is latched before anything that was asked after it."""
        run = self._run
        return run is None or not (run.redoing or run.loop.finished)

    def _next_command(self) -> StoredCommand | StoredSignal | None:
        waited = self._keeper.take_deferred() if self._waiting is None else None
        return self._inbox.take() if waited is None else waited

    async def _take_signal(self, taken: StoredSignal) -> None:
        self._keeper.signals_seq = taken.seq
        if taken.signal is None:
            return
        if self._run is not None and not self._run.loop.finished:
            await self._apply(self._run, SignalInput(taken.signal, _now()))
            return
        messages = self._between.refuse_signal(taken, self._situation(), _now())
        await self._save(messages, wait=True)
        self._send(messages)

    async def _take_command(self, taken: StoredCommand) -> None:
        self._keeper.commands_seq = max(self._keeper.commands_seq, taken.seq)
        run = self._run
        active = run is not None and not run.loop.finished
        repeat = self._keeper.repeat(taken)
        if repeat is not None:
            reply = repeat
        elif active and run is not None and taken.verb in OF_A_RUN and taken.command:
            reply = await self._command_run(run, taken)
        else:
            reply = await self._command_desk(taken)
        self._inbox.carried_out(taken, reply)
        await self._show()

    async def _command_run(self, run: Run, taken: StoredCommand) -> CommandReply:
        command = taken.command
        assert command is not None
        ending = run.loop.engine.state.ending
        carried_out = ending is not None and taken.command_id in ending.command_ids
        if taken.guard_run == run.run_id and (run.lockstep or carried_out):
            self._keeper.repeats.note(taken.identity, taken.seq)
            return CommandReply(status="accepted", command_id=taken.command_id)
        why_not = run.loop.engine.refuses(command.verb)
        if why_not is None:
            self._keeper.repeats.note(taken.identity, taken.seq)
        given = CommandInput(
            verb=command.verb,  # type: ignore[arg-type]
            command_id=taken.command_id,
            by=command.by,
            reason=command.reason,
            mode=getattr(command, "mode", "flatten"),
        )
        await self._apply(run, given)
        if why_not is not None:
            return CommandReply(status="rejected", command_id=taken.command_id, reason=why_not)
        return CommandReply(status="accepted", command_id=taken.command_id)

    async def _command_desk(self, taken: StoredCommand) -> CommandReply:
        decision = await self._between.decide(taken, self._situation(), _now())
        if decision.run is not None:
            self._run = decision.run
            self._keeper.repeats.run_began()
        if decision.latch is not None:
            self._keeper.latch = decision.latch
        if decision.clears_latch:
            self._keeper.latch = None
        if decision.deferred is not None:
            self._keeper.deferred.append(decision.deferred)
        if decision.reply.status == "accepted":
            self._keeper.repeats.note(taken.identity, taken.seq)
        await self._save(decision.messages, wait=True)
        self._send(decision.messages)
        return decision.reply

    # by the wall's clock

    async def _on_guard_heartbeat(self, message: Msg) -> None:  # noqa: ARG002 - that it came is the news
        self._watch.heard_guard(asyncio.get_running_loop().time())

    async def _look_around(self, run: Run) -> None:
        """Live: give the engine what has been noticed."""
        inbox, now = self._inbox, asyncio.get_running_loop().time()
        unstored = inbox.blocked if inbox.pending.empty() else None
        for given in self._watch.look(now, heard=unstored, since=inbox.blocked_since):
            await self._apply(run, given)


def _now() -> datetime:
    return datetime.now(UTC)


def _taken_over(before: Owner, owner: Owner) -> AlertRaised:
    return AlertRaised(
        severity="WARNING",
        code="trader_taken_over",
        text=f"Trader instance {before.instance} did not renew its lease: {owner.instance} has taken over.",
        action="See what became of it: until it is back nobody stands by.",
    )

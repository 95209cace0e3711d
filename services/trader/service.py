"""The trader's process: wires feed, engine, guard and broker, and writes before anything leaves (PROTOCOL 2).

Commands come before prices. A lockstep replay asks the guard at every step and waits; paced it plays live:
the clock is the wall's, and a guard that is silent for the approval timeout has said no. Decisions are the
engine's, what a command means between runs is `desk_commands`'.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from nats.aio.msg import Msg

from services.shared.bus import Bus, told_to_leave
from services.shared.commands import CommandReply
from services.shared.errors import BusError, Conflict
from services.shared.events import Reason
from services.shared.outbox import Outbox
from services.shared.repeats import REPEAT, CarriedOut
from services.shared.service import Health, beat, read_secret
from services.shared.verdicts import Answer
from services.trader.between_runs import BetweenRuns, Situation
from services.trader.display import Display
from services.trader.feeds.base import MarketStep
from services.trader.guard_link import GuardLink
from services.trader.inbox import Inbox, StoredCommand, StoredSignal
from services.trader.inputs import CommandInput, EndOfData, GuardSilent, Input, Notice, SignalInput
from services.trader.journal import Message
from services.trader.pacing import Pace
from services.trader.plan import make_plan
from services.trader.run import Question, Run, asked, resume
from services.trader.settings import TraderSettings
from services.trader.snapshot import Latch, RunSnapshot, Snapshot, SnapshotStore

log = structlog.get_logger(__name__)

_SNAPSHOT_EVERY = 250
_GUARD_SILENT_AFTER = 5.0
_UNGUARDED_WAIT = 0.5
_STORED_WITHIN = 5.0


class Trader:
    """One trader id. `run` is the process's life."""

    def __init__(self, settings: TraderSettings, bus: Bus, health: Health) -> None:
        self._settings = settings
        self._bus = bus
        self._health = health
        self._store = SnapshotStore(bus, settings.trader, settings.data_dir)
        self._outbox = Outbox(bus)
        self._link = GuardLink(bus, settings.trader)
        self._between = BetweenRuns(settings)
        self._run: Run | None = None
        self._number = 0
        self._commands_seq = 0
        self._signals_seq = 0
        self._latch: Latch | None = None
        self._repeats = CarriedOut()
        self._display = Display(bus, settings.trader, self._between)
        self._turn = asyncio.Lock()
        self._asking: set[asyncio.Task[None]] = set()
        self._guard_heard = 0.0
        self._guard_lost = False
        self._block_told = False
        self._inbox: Inbox

    async def run(self) -> None:
        """Restore, work through what was asked, then trade until cancelled."""
        self._restore(await self._patiently(self._store.restore))
        await self._patiently(self._display.restore)
        self._inbox = Inbox(
            self._bus,
            self._settings.trader,
            self._repeats,
            commands_seq=self._commands_seq,
            signals_seq=self._signals_seq,
        )
        self._guard_heard = asyncio.get_running_loop().time()
        await self._bus.subscribe("heartbeat.risk.*", self._on_guard_heartbeat)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._outbox.run())
                tasks.create_task(beat(self._bus, self._health, "trader", self._settings.trader))
                await self._patiently(self._inbox.catch_up)
                await self._inbox.open()
                tasks.create_task(self._inbox.run())
                await self._show()
                self._health.ready()
                log.info(
                    "ready", trader=self._settings.trader, resumed=self._run.run_id if self._run else None
                )
                await self._trade()
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _trade(self) -> None:
        """Commands first, then the run they made; for ever."""
        while not told_to_leave():
            await self._take_commands()
            if self._run is None:
                await self._inbox.wait()
            else:
                await self._drive(self._run)

    def _restore(self, kept: Snapshot | None) -> None:
        if kept is None:
            return
        self._number = kept.number
        self._commands_seq, self._signals_seq = kept.commands_seq, kept.signals_seq
        self._latch = kept.latch
        self._repeats = CarriedOut(kept.carried_out)
        for message in kept.messages:
            self._outbox.add(message.subject, message.data, message.msg_id)
        if kept.run is not None:
            self._run = self._resume(kept.run)

    def _resume(self, kept: RunSnapshot) -> Run:
        plan = make_plan(
            asked(kept),
            feed=kept.feed,
            mode="live" if kept.speed else "lockstep",
            strategies=self._settings.data_dir / "strategies",
            rates=self._settings.data_dir / "rates",
        )
        log.info("resumed", run_id=kept.run_id, cursor=kept.cursor)
        return resume(kept, plan, self._settings.trader)

    async def _patiently(self, attempt: Any) -> Any:
        """Try until NATS answers: a trader without it has nothing to do."""
        while True:
            try:
                return await attempt()
            except BusError as error:
                if isinstance(error, Conflict):
                    raise
                log.warning("nats_unavailable", detail=str(error))
                if told_to_leave():
                    raise asyncio.CancelledError from None
                await asyncio.sleep(0.5)

    # a run

    async def _drive(self, run: Run) -> None:
        """Take the run to its end, or until there is nothing of it left to do."""
        await self._answer_open_question(run)
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
        await asyncio.gather(*self._asking)
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
            await self._watch_guard(run)
            await self._watch_block(run)
            left = due - loop.time()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._inbox.wait(), min(left, 1.0))
            await self._show()

    async def _apply(self, run: Run, given: Input | None) -> None:
        """One step: state first, then what it says, then the guard."""
        async with self._turn:
            messages = run.advance(given, self._link, _now())
            from_file = given is None or isinstance(given, MarketStep | EndOfData)
            if not (run.lockstep and from_file):
                await self._save(messages, wait=run.lockstep)
            self._send(messages)
            question = run.question
            if question is None:
                return
            if run.lockstep:
                await self._answer_in_lockstep(run, keep=not from_file)
                return
        task = asyncio.create_task(self._ask_live(run, question))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _answer_in_lockstep(self, run: Run, *, keep: bool) -> None:
        """The guard's word on this step, however long it takes; a person's stop ends the wait."""
        question = run.question
        assert question is not None
        if run.unguarded:
            answer = await self._link.ask_once(question.data, question.step, _UNGUARDED_WAIT)
        else:
            answer = await self._link.ask_until_answered(
                question.data, question.step, lambda: self._inbox.stops_waiting > 0
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
        self._send(messages)

    async def _ask_live(self, run: Run, question: Question) -> None:
        """Ask once; no answer in time is a no, and so are a stop heard meanwhile and an intent not stored."""
        timeout = self._settings.approval_timeout
        answer = await self._link.ask_once(question.data, question.step, timeout)
        stored = await self._drained_within(timeout)
        async with self._turn:
            why = None
            if answer is None:
                why = Reason(code="guard_silent", text=f"the guard did not answer in {timeout:g} s")
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
            self._send(messages)

    async def _drained_within(self, timeout: float) -> bool:
        try:
            await asyncio.wait_for(self._outbox.drained(), timeout)
        except TimeoutError:
            return False
        return True

    async def _answer_open_question(self, run: Run) -> None:
        """After a restart: in lockstep no time has passed, so ask again; live, what was not sent is not."""
        question = run.question
        if question is not None and run.lockstep:
            await self._answer_in_lockstep(run, keep=True)
        elif not run.lockstep:
            unsent = [
                number
                for number, order in run.loop.engine.state.orders.working.items()
                if order.status == "asked"
            ]
            if unsent:
                reason = Reason(code="abandoned", text="the trader restarted; an entry is not sent late")
                messages = run.give_up(unsent, reason, _now())
                await self._save(messages)
                self._send(messages)

    async def _finish(self, run: Run) -> None:
        """The run is over: latch a halt, state the end, and forget the run."""
        phase = run.loop.engine.state.phase
        if phase == "HALTED" and self._latch is None:
            ending = run.loop.engine.state.ending
            reason = ending.reason if ending is not None else "halted"
            self._latch = Latch(reason=reason, run_id=run.run_id, command_seq=self._commands_seq)
        await self._show(finished=True)
        self._run = None
        await self._save([], wait=True)
        log.info("run_finished", run_id=run.run_id, phase=phase, trades=run.loop.engine.book.trades)

    # storing and sending

    async def _save(self, messages: Sequence[Message], *, wait: bool = False) -> bool:
        """Write the snapshot, with what may not be stored yet as bytes. `wait`: nothing is under way then."""
        if wait:
            await self._outbox.drained()
        self._number += 1
        outputs = [*self._outbox.waiting(), *((m.subject, m.data, m.msg_id) for m in messages)]
        snapshot = Snapshot(
            number=self._number,
            commands_seq=self._commands_seq,
            signals_seq=self._signals_seq,
            carried_out=self._repeats.kept(),
            latch=self._latch,
            run=None if self._run is None else self._run.snapshot(),
            outputs=[(subject, msg_id, data.decode()) for subject, data, msg_id in outputs],
        )
        if wait:
            await self._patiently(lambda: self._store.save(snapshot))
            return True
        return await self._store.save(snapshot, or_disk=True)

    def _send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._outbox.add(message.subject, message.data, message.msg_id)

    async def _show(self, *, finished: bool = False) -> None:
        await self._display.show(self._situation(), finished=finished)

    def _situation(self) -> Situation:
        return Situation(self._run, self._latch, self._display.shown)

    # commands

    async def _take_commands(self) -> None:
        """Carry out what is stored, in its order."""
        while (taken := self._inbox.take()) is not None:
            if isinstance(taken, StoredSignal):
                await self._take_signal(taken)
            else:
                await self._take_command(taken)
            if self._inbox.pending.empty():
                self._inbox.blocked = None

    async def _take_signal(self, taken: StoredSignal) -> None:
        self._signals_seq = taken.seq
        if taken.signal is None:
            return
        if self._run is not None and not self._run.loop.finished:
            await self._apply(self._run, SignalInput(taken.signal, _now()))
            return
        messages = self._between.refuse_signal(taken, _now())
        await self._save(messages, wait=True)
        self._send(messages)

    async def _take_command(self, taken: StoredCommand) -> None:
        self._commands_seq = taken.seq
        run = self._run
        active = run is not None and not run.loop.finished
        if taken.identity in self._repeats:
            reply = self._repeated(taken)
        elif (
            active and run is not None and taken.verb in ("pause", "resume", "stop", "halt") and taken.command
        ):
            reply = await self._command_run(run, taken)
        else:
            reply = await self._command_desk(taken)
        self._inbox.carried_out(taken, reply)
        await self._show()

    def _repeated(self, taken: StoredCommand) -> CommandReply:
        """Nothing is done for a repeat, and nothing said but to whoever asked."""
        place = self._repeats.place(taken.identity)
        reason = f"{REPEAT}COMMANDS:{place}: nothing was done again"
        return CommandReply(status="accepted", command_id=taken.command_id, reason=reason)

    async def _command_run(self, run: Run, taken: StoredCommand) -> CommandReply:
        command = taken.command
        assert command is not None
        ending = run.loop.engine.state.ending
        carried_out = ending is not None and taken.command_id in ending.command_ids
        if taken.guard_run == run.run_id and (run.lockstep or carried_out):
            self._repeats.note(taken.identity, taken.seq)
            return CommandReply(status="accepted", command_id=taken.command_id)
        why_not = run.loop.engine.refuses(command.verb)
        if why_not is None:
            self._repeats.note(taken.identity, taken.seq)
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
            self._repeats.run_began()
        if decision.latch is not None:
            self._latch = decision.latch
        if decision.clears_latch:
            self._latch = None
        if decision.reply.status == "accepted":
            self._repeats.note(taken.identity, taken.seq)
        await self._save(decision.messages, wait=True)
        self._send(decision.messages)
        return decision.reply

    # watching the guard

    async def _on_guard_heartbeat(self, message: Msg) -> None:  # noqa: ARG002 - that it came is the news
        self._guard_heard = asyncio.get_running_loop().time()

    async def _watch_guard(self, run: Run) -> None:
        """Live: resting entries go when the guard has fallen silent; say so once, and when it is back."""
        silent = asyncio.get_running_loop().time() - self._guard_heard > _GUARD_SILENT_AFTER
        if silent is self._guard_lost:
            return
        self._guard_lost = silent
        if silent:
            await self._apply(run, GuardSilent())
        else:
            notice = Notice(
                "INFO", "guard_back", "The guard answers again: entries may leave.", "Nothing to do."
            )
            await self._apply(run, notice)

    async def _watch_block(self, run: Run) -> None:
        """A stop was heard and has not been stored: nothing enters meanwhile, and a person must know."""
        waiting = self._inbox.blocked is not None and self._inbox.pending.empty()
        late = waiting and asyncio.get_running_loop().time() - self._inbox.blocked_since > _STORED_WITHIN
        if late and not self._block_told:
            text = f"A {self._inbox.blocked} was heard and has not been stored: entries are blocked, nothing is closed."
            action = (
                "Say it again with `desk stop` or `desk halt`; if that is refused, `desk doctor` says why."
            )
            await self._apply(run, Notice("CRITICAL", "stop_not_stored", text, action))
        self._block_told = late


def _now() -> datetime:
    return datetime.now(UTC)


async def serve(settings: TraderSettings, health: Health) -> None:
    """Connect and trade until cancelled."""
    bus = await Bus.connect(
        settings.nats_url, user="trader", password=read_secret(settings.nats_password_file), patience=60
    )
    try:
        await Trader(settings, bus, health).run()
    finally:
        await bus.close()

"""What a command means while nothing runs: deploy a run, latch or clear a halt, or say why not.

It decides and builds; storing and sending what it says is `service`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import uuid4

from services.shared.commands import CommandReply, Deploy, Deployment
from services.shared.errors import InvalidInput
from services.shared.events import AlertRaised, CommandOutcome, Phase, StatusChanged
from services.trader.inbox import StoredCommand, StoredSignal
from services.trader.journal import Journal, Message, outside_run
from services.trader.outlook import size_outlook
from services.trader.plan import make_plan
from services.trader.run import Run
from services.trader.settings import TraderSettings
from services.trader.snapshot import Deferred, Latch
from services.trader.waiting import Waiting

OF_A_RUN = ("pause", "resume", "stop", "halt")
_DEFERRED_AT_MOST = 4


@dataclass(slots=True, frozen=True)
class Situation:
    """What the desk has now: a run or one that waits for its files, with the commands that wait with it; a
    latched halt, and the state it last showed."""

    run: Run | None
    latch: Latch | None
    shown: Deployment | None
    waiting: Waiting | None = None
    deferred: Sequence[Deferred] = ()

    @property
    def active(self) -> bool:
        """Whether a deployment is under way."""
        return self.waiting is not None or (self.run is not None and not self.run.loop.finished)


@dataclass(slots=True)
class Decision:
    """What becomes of a command: an answer, messages, and perhaps a run, a latch or none any more, or that it
    waits with its run."""

    reply: CommandReply
    messages: Sequence[Message] = ()
    run: Run | None = None
    latch: Latch | None = None
    clears_latch: bool = False
    deferred: Deferred | None = None


class BetweenRuns:
    """Decides commands that concern no running deployment."""

    def __init__(self, settings: TraderSettings) -> None:
        self._settings = settings

    async def decide(self, taken: StoredCommand, now_is: Situation, now: datetime) -> Decision:
        """The decision on a stored command."""
        command = taken.command
        if command is None:
            return self._refuse(taken, taken.error, now)
        if now_is.waiting is not None and taken.verb in OF_A_RUN:
            return self._defer(taken, now_is.waiting, now_is.deferred, now)
        if isinstance(command, Deploy):
            return await self._deploy(taken, command, now_is, now)
        if taken.verb == "halt":
            return self._halt(taken, command.reason, now_is, now)
        if taken.verb == "reset":
            return self._reset(taken, command.reason, now_is, now)
        return self._refuse(taken, "nothing is deployed", now)

    async def _deploy(
        self, taken: StoredCommand, command: Deploy, now_is: Situation, now: datetime
    ) -> Decision:
        why_not = None
        if now_is.active:
            why_not = self._why_active(now_is)
        elif now_is.latch is not None:
            why_not = f"halted: {now_is.latch.reason}; reset first (`desk reset --reason ...`)"
        elif command.expires is not None and command.expires <= now:
            why_not = f"the command expired at {command.expires.isoformat()}"
        if why_not is not None:
            return self._refuse(taken, why_not, now)
        settings = self._settings
        try:
            plan = await asyncio.to_thread(
                make_plan,
                command,
                feed=settings.feed,
                mode="live" if settings.speed else "lockstep",
                strategies=settings.data_dir / "strategies",
                rates=settings.data_dir / "rates",
                bar_seconds=settings.bar_seconds,
            )
            outlook = await asyncio.to_thread(size_outlook, plan)
        except InvalidInput as error:
            return self._refuse(taken, str(error), now)
        run_id = f"{now:%Y%m%d-%H%M%S}-{uuid4().hex[:8]}"
        run = Run(
            run_id=run_id,
            command_id=taken.command_id,
            plan=plan,
            loop=plan.loop(run_id),
            journal=Journal(settings.trader, run_id),
            feed=settings.feed,
            speed=settings.speed,
            bar_seconds=settings.bar_seconds,
            deployment_time=now,
        )
        messages = run.start(now)
        if outlook.warning is not None:
            run.loop.engine.alert(
                "WARNING",
                "undersized_expected",
                outlook.warning,
                "Deploy with a larger --risk-per-trade, or with --min-amount; or leave it: they are refused.",
            )
        return Decision(self._accepted(taken), messages, run=run)

    def _defer(
        self, taken: StoredCommand, waiting: Waiting, deferred: Sequence[Deferred], now: datetime
    ) -> Decision:
        """A command to a run that waits for its files: nothing enters meanwhile, and nothing can be closed, since
        nothing has a price. It is taken on, and done when the run goes on."""
        alike = sum((each.verb in ("stop", "halt")) == (taken.verb in ("stop", "halt")) for each in deferred)
        if alike >= _DEFERRED_AT_MOST:
            return self._refuse(taken, f"{alike} commands like it wait already: {waiting.why}", now)
        why = f"waits until a file is back, and is carried out then; nothing enters meanwhile: {waiting.why}"[
            :500
        ]
        reply = CommandReply(status="accepted", command_id=taken.command_id, reason=why)
        told: tuple[Literal["accepted", "blocked"], ...] = ("accepted", "blocked")
        messages = self._say(
            taken, now, told if taken.verb != "resume" else told[:1], why=why, kind="waiting"
        )
        return Decision(reply, messages, deferred=Deferred.of(taken))

    def _why_active(self, now_is: Situation) -> str:
        if now_is.waiting is not None:
            return f"Already deployed: the run waits for a file: {now_is.waiting.why}"
        if now_is.run is not None and now_is.run.loop.engine.state.phase == "STOPPED":
            return "Already deployed: the stopped run still holds a position behind its stop (`desk stop` closes it)"
        return "Already deployed"

    def _halt(self, taken: StoredCommand, reason: str, now_is: Situation, now: datetime) -> Decision:
        if now_is.latch is not None:
            told = bool(taken.guard_run) and taken.guard_run == now_is.latch.run_id
            messages = () if told else self._say(taken, now, ("accepted", "done"))
            return Decision(self._accepted(taken), messages)
        latch = Latch(reason=reason or "halted by command", run_id="", command_seq=taken.seq)
        alert = AlertRaised(
            severity="CRITICAL",
            code="halted",
            text=f"Trading is halted: {latch.reason}"[:1000],
            action="Nothing was deployed, and nothing can be until `desk reset --reason ...`.",
        )
        changed = _changed(taken, now_is, "HALTED", latch.reason)
        messages = self._say(taken, now, ("accepted", "blocked", "flat", "done"), changed, alert)
        return Decision(self._accepted(taken), messages, latch=latch)

    def _reset(self, taken: StoredCommand, reason: str, now_is: Situation, now: datetime) -> Decision:
        if now_is.active:
            return self._refuse(taken, "a reset needs a flat account: the deployment has not ended yet", now)
        if now_is.latch is None:
            return self._refuse(taken, "nothing is halted", now)
        changed = _changed(taken, now_is, "STOPPED", f"reset: {reason}")
        messages = self._say(taken, now, ("accepted", "done"), changed)
        return Decision(self._accepted(taken), messages, clears_latch=True)

    def _accepted(self, taken: StoredCommand) -> CommandReply:
        return CommandReply(status="accepted", command_id=taken.command_id)

    def _refuse(self, taken: StoredCommand, why: str, now: datetime) -> Decision:
        reply = CommandReply(status="rejected", command_id=taken.command_id, reason=why[:500])
        return Decision(reply, self._say(taken, now, ("rejected",), why=why))

    def _say(
        self,
        taken: StoredCommand,
        now: datetime,
        states: Sequence[Literal["accepted", "rejected", "blocked", "flat", "done"]],
        *others: StatusChanged | AlertRaised,
        why: str = "",
        kind: str = "command",
    ) -> list[Message]:
        """The command's outcomes; what else happened comes before the last of them. `kind` keeps apart what is
        said of one command at two times."""
        verb = taken.verb if taken.verb.isascii() and taken.verb.isalnum() else "unknown"
        outcomes = [
            CommandOutcome(command_id=taken.command_id, verb=verb[:64], state=state, reason=why[:500])
            for state in states
        ]
        facts = [*outcomes[:-1], *others, outcomes[-1]]
        return outside_run(self._settings.trader, kind, taken.seq, facts, now)

    def refuse_signal(self, taken: StoredSignal, now_is: Situation, now: datetime) -> list[Message]:
        """A signal while nothing is deployed, or while the run waits: its price would be an old one."""
        assert taken.signal is not None
        waiting = now_is.waiting
        why = "nothing is deployed" if waiting is None else f"the run waits for a file: {waiting.why}"
        outcome = CommandOutcome(
            command_id=taken.signal.id, verb="signal", state="rejected", reason=why[:500]
        )
        return outside_run(self._settings.trader, "signal", taken.seq, [outcome], now)

    def deployment(self, now_is: Situation, *, finished: bool, now: datetime) -> Deployment:
        """What the API shows of the desk: the run, or what is left of the last one."""
        run, before = now_is.run, now_is.shown
        if now_is.waiting is not None:
            return now_is.waiting.deployment(before, now_is.deferred, now)
        if run is None:
            return self._without_run(now_is, now)
        state = run.loop.engine.state
        terms = run.plan.terms
        expected = (
            before.expected_completion if before and before.run_id == run.run_id and run.speed else None
        )
        return Deployment(
            trader=self._settings.trader,
            run_id=run.run_id,
            phase=state.phase,
            reason=state.ending.reason if state.ending is not None else "",
            paused=state.paused and state.ending is None,
            holding="flat" if run.loop.engine.settled else "open",
            command_id=run.command_id,
            settings={
                "strategy": terms.strategy,
                "parameters": terms.parameters,
                "instruments": list(terms.instruments),
                "risk_per_trade": str(terms.risk_per_trade),
                "balance": str(terms.balance),
                "currency": terms.currency,
                "mode": terms.mode,
                "broker": terms.broker,
                "feed": terms.feed,
                "speed": run.speed,
                "weekend": terms.weekend,
                "costs": terms.costs,
            },
            deployment_time=run.deployment_time,
            expected_completion=None if finished else expected or run.expected_completion(now),
            finished=now if finished else None,
            tasks_completed=state.book.trades,
            progress=round(run.cursor / len(run.plan.feed), 4),
            last_seq=run.journal.seqs.get("trader", 0),
            updated=now,
        )

    def _without_run(self, now_is: Situation, now: datetime) -> Deployment:
        before = now_is.shown
        if before is None:
            before = Deployment(trader=self._settings.trader, run_id="", phase="NOT_DEPLOYED", updated=now)
        if now_is.latch is not None:
            changes = {"phase": "HALTED", "reason": now_is.latch.reason}
        elif before.phase == "HALTED":
            changes = {"phase": "STOPPED", "reason": "reset"}
        else:
            return before
        return before.model_copy(update={**changes, "updated": now})


def _changed(taken: StoredCommand, now_is: Situation, phase: Phase, reason: str) -> StatusChanged:
    before: Phase = now_is.shown.phase if now_is.shown is not None else "NOT_DEPLOYED"
    return StatusChanged(
        phase=phase, previous=before, reason=reason[:500], holding="flat", command_id=taken.command_id
    )

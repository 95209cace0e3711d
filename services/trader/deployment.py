"""A deployment's life: its phases, how it comes to its end, and what is said about it. Pure.

TRADING 1 and DESIGN 4: new risk is blocked first, then positions are left, and it is over when the broker has
confirmed. What happens at each input is in `engine`, what becomes of orders in `orders`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from services.shared.calendar import in_session, next_session, week_close
from services.shared.commands import StopMode
from services.shared.events import AlertRaised, CommandOutcome, DeploymentTerms, Phase, Reason, StatusChanged
from services.shared.market import Quote
from services.trader.book import Book
from services.trader.inputs import CommandInput
from services.trader.orders import Orders
from services.trader.working import OrderState, Outputs

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)

Finish: TypeAlias = Literal["STOPPED", "HALTED", "COMPLETED", "FAILED"]


@dataclass(slots=True, kw_only=True)
class Ending:
    """How the run is coming to its end, and on whose command. `verbs` has what each of the commands
    asked: a halt may overtake a stop, whose outcomes stay a stop's."""

    finish: Finish
    verb: str
    mode: StopMode
    code: str
    reason: str
    command_ids: list[str] = field(default_factory=list)
    verbs: list[str] = field(default_factory=list)
    blocked: bool = False
    frozen: bool = False
    done: bool = False

    def __post_init__(self) -> None:
        """A snapshot from before `verbs` was kept has none."""
        self.verbs = self.verbs or [self.verb] * len(self.command_ids)


@dataclass(slots=True, kw_only=True)
class EngineState:
    """All of a run that has to survive a restart, but for what the feed can tell again."""

    book: Book
    orders: OrderState = field(default_factory=OrderState)
    phase: Phase = "NOT_DEPLOYED"
    step: int = 0
    time: datetime | None = None
    paused: bool = False
    deadline: datetime | None = None
    ending: Ending | None = None
    waiting_alerted: bool = False
    alerted: list[str] = field(default_factory=list)
    signals: list[str] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    memory: dict[str, dict[str, Any]] = field(default_factory=dict)
    quotes: dict[str, Quote] = field(default_factory=dict)


class Deployment:
    """State, orders and outputs of one deployment. `engine.Engine` builds on it."""

    def __init__(self, state: EngineState, orders: Orders, out: Outputs) -> None:
        self.state = state
        self.orders = orders
        self.out = out

    @property
    def book(self) -> Book:
        """The run's accounts."""
        return self.state.book

    @property
    def finished(self) -> bool:
        """Ended, with nothing left open or worked."""
        return self.state.phase in ("STOPPED", "HALTED", "COMPLETED", "FAILED") and self.settled

    @property
    def settled(self) -> bool:
        """No position and no working order."""
        return self.book.flat and not self.state.orders.working

    @property
    def accepts_entries(self) -> bool:
        """Whether the deployment's phase lets a strategy open anything."""
        state = self.state
        return state.phase == "MONITORING" and not state.paused and state.ending is None

    def refuses(self, verb: str) -> str | None:
        """Why a command cannot be carried out now, or None."""
        state = self.state
        if state.ending is not None and state.ending.frozen and verb in ("stop", "halt"):
            return None
        if verb == "halt":
            return "already halted" if state.ending and state.ending.finish == "HALTED" else None
        if state.ending is not None and not (verb == "stop" and state.ending.mode == "graceful"):
            return f"the deployment is ending already: {state.ending.reason}"
        if verb == "pause" and state.paused:
            return "already paused"
        if verb == "resume" and not state.paused:
            return "not paused"
        return None

    def settle(self) -> None:
        """After the news of a step: move an ending along; what was opened meanwhile is left again."""
        ending = self.state.ending
        if ending is None:
            return
        if ending.mode == "flatten" and not self.book.positions.keys() <= self.state.orders.leaving.keys():
            self.orders.flatten(ending.code, urgent=self.state.orders.urgent)
        self._advance_ending(ending)

    def _end(
        self, finish: Finish, verb: str, mode: StopMode, code: str, reason: str, command: CommandInput | None
    ) -> None:
        state = self.state
        before = state.ending
        commands = before.command_ids if before is not None else []
        verbs = before.verbs if before is not None else []
        if command is not None:
            commands = [*commands, command.command_id]
            verbs = [*verbs, verb]
        if before is not None and before.finish == "HALTED":
            finish = "HALTED"
        ending = Ending(
            finish=finish, verb=verb, mode=mode, code=code, reason=reason, command_ids=commands, verbs=verbs
        )
        state.ending = ending
        command_id = command.command_id if command is not None else None
        self._enter_phase("HALTED" if finish == "HALTED" else "STOPPING", reason, command_id)
        if finish == "HALTED":
            self.alert(
                "CRITICAL",
                "halted",
                f"Trading is halted: {reason}",
                "Positions are being closed. Find the cause, then `desk reset --reason ...` and deploy again.",
            )
        if mode == "flatten":
            urgent = (command.urgent if command is not None else True) and self._last_price_can_be_had
            self.orders.flatten(code, urgent=urgent)
        else:
            self.orders.cancel_entries(Reason(code=code, text=reason))
            ending.frozen = mode == "freeze"

    def _end_by_itself(self, code: str, reason: str, *, urgent: bool) -> None:
        """Data or hours are over: an ending under way becomes a flatten, and stays whose it was."""
        ending = self.state.ending
        if ending is None:
            self._end("COMPLETED", "end", "flatten", code, reason, None)
        else:
            ending.mode, ending.code = "flatten", code
        self.orders.flatten(code, urgent=urgent)

    @property
    def _market_open(self) -> bool:
        return self.state.time is None or in_session(self.state.time)

    @property
    def _last_price_can_be_had(self) -> bool:
        """In session, and at the very close: a bar that ends there has a price of the session."""
        return self._market_open or self.state.time == week_close(self.state.time or _NEVER)

    def _advance_ending(self, ending: Ending) -> None:
        state = self.state
        if not ending.blocked and self.orders.none_adds_risk:
            ending.blocked = True
            self._outcomes(ending, "blocked")
        if self.settled:
            if not ending.done:
                ending.done = True
                self._outcomes(ending, "flat")
                self._enter_phase(ending.finish, ending.reason, None)
                self._outcomes(ending, "done")
        elif ending.frozen and state.phase != "STOPPED":
            self._enter_phase("STOPPED", f"{ending.reason}; the position is left to its stop", None)
            self._outcomes(ending, "done", "the position is left to its stop at the broker")
            ending.command_ids, ending.verbs = [], []
        elif ending.mode == "flatten" and not self._market_open and not state.waiting_alerted:
            state.waiting_alerted = True
            assert state.time is not None
            until = next_session(state.time)
            self.alert(
                "CRITICAL",
                "waiting_for_market",
                f"The market is closed: {len(self.book.positions)} position(s) stay open behind their stops "
                f"until it opens at {until.isoformat()}",
                "Nothing can be closed before. Check the stops at your broker if you are worried.",
            )

    def _outcomes(self, ending: Ending, state: Literal["blocked", "flat", "done"], reason: str = "") -> None:
        for command_id, verb in zip(ending.command_ids, ending.verbs, strict=True):
            self._outcome(command_id, verb, state, reason)

    def _outcome(
        self,
        command_id: str,
        verb: str,
        state: Literal["accepted", "rejected", "blocked", "flat", "done"],
        why: str,
    ) -> None:
        self.out.facts.append(CommandOutcome(command_id=command_id, verb=verb, state=state, reason=why[:500]))

    def _enter_phase(
        self, phase: Phase, reason: str, command_id: str | None, terms: DeploymentTerms | None = None
    ) -> None:
        before, self.state.phase = self.state.phase, phase
        self.out.facts.append(
            StatusChanged(
                phase=phase,
                previous=before,
                reason=reason[:500],
                holding="flat" if self.settled else "open",
                command_id=command_id,
                terms=terms,
            )
        )

    def alert(
        self, severity: Literal["INFO", "WARNING", "CRITICAL"], code: str, text: str, action: str
    ) -> None:
        """Raise an alert."""
        self.out.facts.append(AlertRaised(severity=severity, code=code, text=text[:1000], action=action))

    def _alert_once(self, severity: Literal["WARNING"], code: str, text: str, action: str) -> None:
        if code not in self.state.alerted:
            self.state.alerted.append(code)
            self.alert(severity, code, text, action)

    def alert_denial(self, reasons: Sequence[Reason]) -> None:
        """Tell a person, once per cause, of an entry that the guard or the desk itself refused."""
        for reason in reasons:
            self._alert_once(
                "WARNING",
                f"denied_{reason.code}"[:64],
                f"An order was denied: {reason.text}",
                "Nothing to do if that is what the limit is for; `desk limits` shows them all.",
            )

"""The guard's decisions: which order may go, when entries pause, when everything halts. Pure.

No I/O, clock or randomness: a backtest hands in this very class and calls `answer` at every bar, the desk
runs it in a process of its own (`service`). It keeps its own account of fills and believes no total of the
trader's. Rules for a single order are in `judge`, what is remembered in `state`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from services.risk import state as memory
from services.risk.account import Violation, book_fill, cancel, follow_stop, unrealised_at, withdraw
from services.risk.asked import Asked
from services.risk.judge import judge, note_judged, remember, worst_price
from services.risk.state import LONG_AGO, Latch, Spreads, Told, window_of
from services.shared.commands import Verdict
from services.shared.events import (
    Adjusted,
    Body,
    EquityMarked,
    OrderAccepted,
    OrderApproved,
    OrderCancelled,
    OrderDenied,
    OrderFilled,
    OrderIntended,
    OrderRejected,
    Reason,
    StatusChanged,
    TradeClosed,
)
from services.shared.market import Quote
from services.shared.verdicts import NOD, Answer, StepReport, digest

_PERCENT = Decimal(100)
_NEARLY = Decimal("0.9")


class Guard(Asked):
    """Answers for a trader, step by step, and remembers what it must.

    `answer` is for a step's report, `hear` for a fact that came outside of one (live only). Both return an
    `Answer`, whose `events` the caller publishes in order as the guard's own; most answers are the same
    empty one, which nobody may change.
    """

    __slots__ = ()

    def snapshot(self) -> dict[str, Any]:
        """Everything remembered, as plain JSON."""
        return memory.snapshot(self.state)

    @classmethod
    def restore(cls, data: Mapping[str, Any]) -> Guard:
        """The guard a snapshot was taken of; raises InvalidInput for anything else."""
        return cls(state=memory.restore(data))

    # --- a step ---------------------------------------------------------------------------------

    def answer(self, report: StepReport) -> Answer:
        """The verdicts of this step, and a halt or a pause if one falls on it.

        A step asked again gets the answer it had, however far the guard has come since; a verdict that was
        not given then is a denial.
        """
        state = self.state
        if report.run_id != state.run_id or report.step <= state.step:
            known = self._known(report)
            if known is not None:
                return known
        state.step = report.step
        time = report.time
        self._quotes = report.quotes
        if time > state.day_until:
            self._new_day(time)
        state.time = time
        self._see_spreads(report.quotes)
        if state.breaches and report.fresh and state.bar_seconds:
            self._confirm_at_open(report)
        for fact in report.facts:
            if type(fact) is EquityMarked:
                self._mark(fact, time)
            else:
                self._apply(fact, time)
        if state.holdings:
            self._compare_equity(report)
        if state.breaches and not state.bar_seconds:
            self._breach(state.balance, state.equity, time)
        if report.judge:
            self._judge(report)
        return NOD if self._out is None and not state.cancel_next else self._tell(report.step)

    def _known(self, report: StepReport) -> Answer | None:
        """The answer to a step that is not the next of the run; None for the first of a new run."""
        if report.run_id == self.state.run_id:
            return self._again(report)
        if self._begin(report.run_id, report.facts):
            return None
        return self._refuse(report, "unknown_run", "the guard knows nothing of this run")

    def hear(self, run_id: str, fact: Body, time: datetime) -> Answer:
        """Take in a fact of the run that came by itself, in the order of its events."""
        state = self.state
        if run_id != state.run_id and not self._begin(run_id, (fact,)):
            return NOD
        if time > state.day_until:
            self._new_day(time)
        if time > state.time:
            state.time = time
        if type(fact) is EquityMarked:
            self._mark(fact, time)
        else:
            self._apply(fact, time)
        return self._taken()

    def hear_ahead(self, run_id: str, fact: Body, time: datetime) -> Answer:
        """Halt on a realised breach in a fact that came before its turn; it is not booked yet."""
        if run_id == self.state.run_id and not self.state.halts:
            if isinstance(fact, TradeClosed) and not set(self.state.holdings) - {fact.instrument}:
                self._breach(fact.equity, fact.equity, time, look=True)
            elif isinstance(fact, EquityMarked):
                self._breach(fact.balance, fact.equity, time, look=True)
        return self._taken()

    def catch_up(self, run_id: str, fact: Body, time: datetime) -> None:
        """Book a fact of a lockstep step that was answered before, with nothing left to say about it.

        There the trader never goes on without an answer, and one that said something is stored with the
        state: what is read again after a restart was nodded at. A breach that stands at the last mark still
        waits for its second price.
        """
        self._quiet = True
        try:
            self.hear(run_id, fact, time)
        finally:
            self._quiet = False
        state = self.state
        if isinstance(fact, EquityMarked):
            since = state.breaches if not state.bar_seconds else {}
            state.breaches = {
                limit: since.get(limit, time) for limit, floor in self._floors if fact.equity <= floor
            }
            state.step = max(state.step, fact.step)

    def see_spread(self, quote: Quote) -> None:
        """Take a quote into the median, once per quote time."""
        window = self.state.spreads.get(quote.instrument)
        if window is None:
            window = Spreads(LONG_AGO, deque(maxlen=window_of(self.state.instruments)))
            self.state.spreads[quote.instrument] = window
        if quote.time > window.last:
            window.take(quote)

    def _see_spreads(self, quotes: Mapping[str, Quote]) -> None:
        windows = self.state.spreads
        for name, quote in quotes.items():
            window = windows.get(name)
            if window is None:
                self.see_spread(quote)
            elif quote.time > window.last:
                window.take(quote)

    def see_price(self, quote: Quote) -> None:
        """Live: a price that came by itself. It is what a breach may be confirmed by, and one more spread."""
        if quote.instrument in self.state.instruments:
            self._quotes = {**self._quotes, quote.instrument: quote}
            self.see_spread(quote)

    def _begin(self, run_id: str, facts: Sequence[Body]) -> bool:
        for fact in facts:
            if isinstance(fact, StatusChanged) and fact.terms is not None:
                memory.begin(self.state, run_id, fact.terms)
                self._start_over()
                return True
        return False

    def _tell(self, step: int) -> Answer:
        """The answer of a step that has something to say, kept for when it is asked again."""
        state, answer = self.state, self._answer()
        if state.cancel_next:
            state.cancel_next, answer.cancel_entries = False, True
        self._out = None
        # Kept without its events: those are said once, the answer as often as it is asked for.
        state.told = Told(step, Answer(answer.verdicts, answer.halt, answer.cancel_entries))
        return answer

    def _again(self, report: StepReport) -> Answer:
        told = self.state.told
        if told is None or told.step != report.step:
            return self._refuse(report, "step_passed", "this step was answered without such an order")
        given = {verdict.order: verdict.digest for verdict in told.answer.verdicts}
        if all(given.get(order.order) == digest(order) for order in report.judge):
            return told.answer
        return self._refuse(report, "order_changed", "this step was answered for another order")

    @staticmethod
    def _refuse(report: StepReport, code: str, text: str) -> Answer:
        if not report.judge:
            return NOD
        why = (Reason(code=code, text=text),)
        return Answer(
            [
                Verdict(order=order.order, approved=False, digest=digest(order), reasons=why)
                for order in report.judge
            ]
        )

    def _judge(self, report: StepReport) -> None:
        state, answer = self.state, self._answer()
        verdicts = []
        for order in report.judge:
            mark = digest(order)
            reasons = tuple(judge(state, order, mark, report))
            verdicts.append(Verdict(order=order.order, approved=not reasons, digest=mark, reasons=reasons))
            note_judged(state, order.order, mark)
            answer.events.append(self._verdict_event(order, report, mark, reasons))
        answer.verdicts = verdicts

    def _verdict_event(
        self, order: OrderIntended, report: StepReport, mark: str, reasons: tuple[Reason, ...]
    ) -> Body:
        if reasons:
            return OrderDenied(order=order.order, step=report.step, digest=mark, reasons=reasons)
        remember(self.state, order, mark, worst_price(order, report.quotes[order.instrument]))
        return OrderApproved(order=order.order, step=report.step, digest=mark)

    # --- the account ------------------------------------------------------------------------------

    def _apply(self, fact: Body, time: datetime) -> None:
        """Book any fact but an equity mark."""
        state = self.state
        violation: Violation | None = None
        # The commonest first. An intent is judged on its own, and an opened trade is told by its fill.
        if isinstance(fact, OrderAccepted):
            if fact.purpose == "stop":
                violation = follow_stop(state, fact)
        elif isinstance(fact, OrderFilled):
            violation = book_fill(state, fact)
        elif isinstance(fact, OrderCancelled):
            self._unprotected |= cancel(state, fact.order)
        elif isinstance(fact, TradeClosed):
            self._trade_closed(fact, time)
        elif isinstance(fact, (OrderRejected, OrderDenied)):
            withdraw(state, fact.order)
        elif isinstance(fact, Adjusted):
            state.balance += fact.amount
        elif isinstance(fact, StatusChanged):
            self._phase_changed(fact)
        if violation is not None:
            self._halt(violation.code, violation.text)

    def _phase_changed(self, status: StatusChanged) -> None:
        state = self.state
        state.phase, state.holding = status.phase, status.holding
        if status.phase == "HALTED" and not state.halts and not self._quiet:
            # Somebody's command, carried out by the trader: it latches here as well.
            command_id = status.command_id or f"halted-{state.run_id}"[:64]
            self._latch(Latch(command_id, "commanded", status.reason, state.commands_seen), by="trader")

    def _trade_closed(self, trade: TradeClosed, time: datetime) -> None:
        state = self.state
        if trade.outcome == "win":
            state.losses = 0
        elif trade.outcome == "loss":
            state.losses += 1
            limit = state.limits.losing_streak
            if limit is not None and state.losses >= limit:
                self._pause("losing_streak", f"{state.losses} losing trades in a row")
        if trade.equity != state.balance:
            self._differs(trade.equity)
        if not state.holdings and trade.equity <= self._alarm:
            self._breach(trade.equity, trade.equity, time)

    def _mark(self, mark: EquityMarked, time: datetime) -> None:
        """Take in equity at a step's end. The hot path: one comparison each while nothing is wrong."""
        state = self.state
        state.mark_step = mark.step
        state.unrealised = mark.unrealised
        equity = state.equity = mark.equity
        if mark.balance != state.balance:
            self._differs(mark.balance)
        if equity > state.peak:
            state.peak = equity
            self._set_alarm()
        if equity <= self._alarm:
            self._breach(mark.balance, equity, time)
        elif state.breaches:
            state.breaches.clear()
        if self._unprotected:
            self._check_stops()

    def _check_stops(self) -> None:
        self._unprotected = False
        for holding in self.state.holdings.values():
            if holding.unprotected:
                self._unprotected = True
                text = f"the stop of {holding.instrument} was taken away while the position is open"
                self._halt("stop_taken_away", text)

    def _compare_equity(self, report: StepReport) -> None:
        """The trader's unrealised against the guard's own, while something is held."""
        state = self.state
        if state.mark_step != report.step:
            return
        own = unrealised_at(state, report.quotes, report.rates)
        if own is None:
            return
        if state.equity < self._near_from:
            self._near_from = state.equity * _NEARLY
            self._half_near = self._near_from * state.limits.equity_difference / _PERCENT / 2
            self._half = float(self._half_near)
        half = self._half_near
        # Both within half of what they may differ by: to make a float of the decimal costs more than all else.
        if (-self._half <= own <= self._half and -half <= state.unrealised <= half) or (
            abs(own - float(state.unrealised)) <= self._allowed_difference()
        ):
            state.differs_since = None
        elif state.differs_since is None:
            state.differs_since = report.time
        elif (report.time - state.differs_since).total_seconds() >= state.limits.equity_difference_seconds:
            text = f"the trader says {state.unrealised:f} unrealised, the guard's own sum is {own:.2f}"
            self._halt("equity_differs", text)

    def _allowed_difference(self) -> float:
        return float(abs(self.state.equity) * self.state.limits.equity_difference / _PERCENT)

    def _differs(self, stated: Decimal) -> None:
        state = self.state
        text = f"the trader's balance is {stated:f}, the sum of its fills {state.balance:f}"
        self._halt("balance_differs", text)

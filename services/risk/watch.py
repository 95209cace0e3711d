"""The limits that pause and halt, as equity moves: floors, breaches and their second price, the latch.

Pure. `guard.Guard` builds on it: it books what happened, then asks here whether a limit is reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import NAMESPACE_OID, uuid5

from services.risk.account import equity_at
from services.risk.judge import spread_limit
from services.risk.state import LONG_AGO, Latch, State
from services.shared.calendar import trading_day_end
from services.shared.commands import HaltOrder
from services.shared.events import AlertRaised, LimitsChanged, Reason, Severity
from services.shared.limits import DEFAULTS, Limits, text_of
from services.shared.market import Quote, opening
from services.shared.money import ZERO
from services.shared.verdicts import NOD, Answer, StepReport

GUARD = "guard"
_NEVER = Decimal("-Infinity")
_INFINITE = Decimal("Infinity")
_TRADABLE_AFTER = timedelta(seconds=2)
_ANY_AFTER = timedelta(seconds=30)
_PERCENT = Decimal(100)


class Watch:
    """State, the answer being made, and the equity at which something must be looked at."""

    __slots__ = (
        "_alarm",
        "_floors",
        "_half",
        "_half_near",
        "_near_from",
        "_out",
        "_quiet",
        "_quotes",
        "_unprotected",
        "state",
    )

    def __init__(
        self, limits: Limits = DEFAULTS, *, trader: str = "main", state: State | None = None
    ) -> None:
        self.state = state or State(trader, limits)
        self._out: Answer | None = None
        self._quiet = False
        self._quotes: Mapping[str, Quote] = {}
        # Half of what may differ at a little less than the present equity, as a float and exactly: spares the
        # exact sum at most bars.
        self._near_from = _INFINITE
        self._half, self._half_near = 0.0, ZERO
        self._unprotected = False
        self._alarm = _NEVER
        self._floors: tuple[tuple[str, Decimal], ...] = ()
        self._start_over()

    def _answer(self) -> Answer:
        if self._out is None:
            self._out = Answer()
        return self._out

    def _taken(self) -> Answer:
        out, self._out = self._out, None
        return NOD if out is None else out

    def _start_over(self) -> None:
        """Work out anew what is derived from limits and state."""
        self._near_from = _INFINITE
        self._unprotected = any(holding.unprotected for holding in self.state.holdings.values())
        self._set_alarm()

    def _set_alarm(self) -> None:
        """Work out the equity below which something must be looked at."""
        state, limits = self.state, self.state.limits
        floors: list[tuple[str, Decimal]] = []
        if state.run_id and not state.halts:
            floors.append(("drawdown", state.peak - limits.drawdown))
            if limits.drawdown_percent is not None:
                floors.append(
                    ("drawdown_percent", state.peak - state.peak * limits.drawdown_percent / _PERCENT)
                )
            if limits.daily_loss is not None and state.paused_until is None:
                loss = limits.daily_loss.amount(state.risk_per_trade)
                floors.append(("daily_loss", state.day_open - loss))
        self._floors = tuple(floors)
        self._alarm = max([floor for _, floor in floors], default=_NEVER)

    def _new_day(self, time: datetime) -> None:
        state = self.state
        if state.day_until != LONG_AGO:
            state.day_open = state.equity
        state.day_until = trading_day_end(time)
        if state.paused_until is not None and time > state.paused_until:
            state.paused_until = None
        state.breaches.pop("daily_loss", None)
        self._set_alarm()

    def _breach(self, balance: Decimal, equity: Decimal, time: datetime, *, look: bool = False) -> None:
        """Act on every limit that is reached and confirmed; note those that wait for a second price.

        A breach is realised when the balance alone is below, too. With `look`, only realised ones count and
        nothing is noted.
        """
        breaches = self.state.breaches
        for limit, floor in self._floors:
            if equity > floor:
                if not look:
                    breaches.pop(limit, None)
            elif balance <= floor or (not look and self._confirmed(limit, time)):
                breaches.pop(limit, None)
                self._act(limit, floor, equity)
            elif not look:
                breaches.setdefault(limit, time)

    def _confirmed(self, limit: str, time: datetime) -> bool:
        """Whether a breach by unrealised loss, still standing at `time`, has its second price."""
        state = self.state
        since = state.breaches.get(limit)
        if since is None or time <= since:
            return False
        if state.bar_seconds or time - since >= _ANY_AFTER:
            return True
        if time - since < _TRADABLE_AFTER:
            return False
        return all(self._tradable(name, since + _TRADABLE_AFTER) for name in state.holdings)

    def _tradable(self, name: str, after: datetime) -> bool:
        """Whether there is a quote since `after` that one could trade at, with a normal spread."""
        quote = self._quotes.get(name)
        if quote is None or quote.time < after or not 0 < quote.bid <= quote.ask:
            return False
        widest = spread_limit(self.state.spreads.get(name), self.state.limits.spread)
        return widest is None or quote.ask - quote.bid <= widest

    def _confirm_at_open(self, report: StepReport) -> None:
        """On bars a breach is confirmed, or not, by the next open, at what was held then; without one the
        step's own mark decides."""
        state = self.state
        opens = {price.instrument: opening(price) for price in report.opens}
        equity = equity_at(state, opens, report.rates)
        if equity is None:
            return
        for limit, floor in self._floors:
            if state.breaches.pop(limit, None) is not None and equity <= floor:
                self._act(limit, floor, equity)

    def _act(self, limit: str, floor: Decimal, equity: Decimal) -> None:
        state = self.state
        if limit == "daily_loss":
            text = f"equity {equity:.2f} is {state.day_open - equity:.2f} below the day's opening"
            self._pause(limit, text)
            return
        below = state.peak - equity
        share = below / state.peak * _PERCENT if state.peak else ZERO
        text = f"equity {equity:.2f} is {below:.2f} ({share:.2f} %) below its peak {state.peak:.2f}"
        self._halt(limit, f"{text}: the limit is at {floor:.2f}")

    def _pause(self, limit: str, text: str) -> None:
        state = self.state
        if state.paused_until is not None or state.halts or self._quiet:
            return
        until = state.paused_until = state.day_until
        self._set_alarm()
        answer = self._answer()
        answer.cancel_entries = True
        answer.events.append(
            LimitsChanged(
                action="pause",
                by=GUARD,
                reason=text,
                old={limit: None},
                new={limit: text_of(getattr(state.limits, limit)), "paused_until": until.isoformat()},
            )
        )
        self._alert("WARNING", limit, text, f"No entries until {until:%Y-%m-%d %H:%M} UTC; exits go on.")

    def _halt(self, code: str, text: str) -> None:
        """Latch, once: what comes after the first halt adds nothing."""
        state = self.state
        if state.halts or self._quiet:
            return
        step = max(state.step, state.mark_step)
        command_id = str(uuid5(NAMESPACE_OID, f"{state.run_id}/guard-halt/{step}"))
        answer = self._answer()
        answer.halt = HaltOrder(command_id=command_id, reason=Reason(code=code, text=text))
        self._latch(Latch(command_id, code, text, None), by=GUARD)

    def _latch(self, latch: Latch, *, by: str) -> None:
        state = self.state
        state.halts.append(latch)
        state.breaches.clear()
        self._set_alarm()
        answer = self._answer()
        answer.cancel_entries = True
        answer.events.append(
            LimitsChanged(
                action="halt",
                by=by,
                reason=latch.text,
                old={"halted": None},
                new={"halted": latch.code},
                command_id=latch.command_id,
            )
        )
        action = "Look at what happened; when flat, clear it with: desk reset --reason '…'"
        self._alert("CRITICAL", latch.code, f"Halted: {latch.text}", action)

    def _alert(self, severity: Severity, code: str, text: str, action: str) -> None:
        alert = AlertRaised(severity=severity, code=code, text=text, action=action)
        self._answer().events.append(alert)

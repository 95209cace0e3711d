"""The run's accounts: positions, round trips, balance, equity, peak and drawdown. Exact, and pure.

A trade is from flat to flat. Money is rounded once, where a fill is booked, so that the sum of trades' PnL
and adjustments is the change in balance to the cent whenever flat. Orders are elsewhere (`orders`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from services.shared import instruments
from services.shared.events import Direction, EquityMarked, Outcome, TradeClosed
from services.shared.money import ZERO, round_money

_R = Decimal("0.000001")


@dataclass(slots=True, kw_only=True)
class Position:
    """An open round trip. `amount` is what is held now, `opened` all that was bought (or sold) to open it.

    `entry_cost` and `exit_cost` are sums of amount times price in the quote currency, `held_cost` the part
    of the first that is still held, at the average of what was held when some was left; `realised` is booked
    PnL before commission, `commission` and `slippage` costs so far, in account currency. `average` is the
    entry price as strategies see it.
    """

    trade: int
    instrument: str
    side: Direction
    strategy: str
    entry_time: datetime
    reference: Decimal
    reference_rate: Decimal
    first_stop: Decimal | None
    stop: float | None
    target: float | None
    amount: Decimal = ZERO
    opened: Decimal = ZERO
    entry_cost: Decimal = ZERO
    held_cost: Decimal = ZERO
    exited: Decimal = ZERO
    exit_cost: Decimal = ZERO
    realised: Decimal = ZERO
    commission: Decimal = ZERO
    slippage: Decimal = ZERO
    average: float = 0.0

    @property
    def sign(self) -> int:
        """1 for a long, -1 for a short."""
        return 1 if self.side == "long" else -1

    @property
    def entry_price(self) -> Decimal:
        """The average price of what opened it, unrounded."""
        return self.entry_cost / self.opened

    @property
    def initial_risk(self) -> Decimal:
        """Filled amount times distance from the price at decision to the first stop, at the rate of then."""
        if self.first_stop is None:
            return ZERO
        return self.opened * abs(self.reference - self.first_stop) * self.reference_rate


@dataclass(slots=True, kw_only=True)
class Book:
    """Balance and positions of one run, in `currency`."""

    currency: str
    balance: Decimal
    peak: Decimal
    max_drawdown: Decimal = ZERO
    streak: int = 0
    trades: int = 0
    positions: dict[str, Position] = field(default_factory=dict)

    @property
    def flat(self) -> bool:
        """No position in anything."""
        return not self.positions

    def open(self, position: Position) -> None:
        """Take on a position of which the first entry fill is about to be booked."""
        self.positions[position.instrument] = position

    def book_entry(
        self, position: Position, amount: Decimal, price: Decimal, commission: Decimal, slippage: Decimal
    ) -> None:
        """Book an entry fill; commission leaves the balance at once."""
        position.amount += amount
        position.opened += amount
        cost = amount * price
        position.entry_cost += cost
        position.held_cost += cost
        position.average = float(position.entry_cost / position.opened)
        self._book_costs(position, commission, slippage)

    def book_exit(
        self,
        position: Position,
        amount: Decimal,
        price: Decimal,
        rate: Decimal,
        commission: Decimal,
        slippage: Decimal,
    ) -> None:
        """Book a fill that reduces; PnL converts at `rate` and is rounded half-even to the minor unit."""
        share = position.held_cost * amount / position.amount
        gain = position.sign * (price * amount - share) * rate
        booked = round_money(gain, self.currency)
        position.amount -= amount
        position.held_cost -= share
        position.exited += amount
        position.exit_cost += amount * price
        position.realised += booked
        self.balance += booked
        self._book_costs(position, commission, slippage)

    def _book_costs(self, position: Position, commission: Decimal, slippage: Decimal) -> None:
        position.commission += commission
        position.slippage += slippage
        self.balance -= commission

    def close(self, position: Position, *, trade_time: datetime, exit_reason: str) -> TradeClosed:
        """The finished round trip of a position that has come to zero."""
        del self.positions[position.instrument]
        self.trades += 1
        instrument = instruments.find(position.instrument)
        pnl = position.realised - position.commission
        outcome: Outcome = "win" if pnl > 0 else "loss" if pnl < 0 else "breakeven"
        if outcome == "win":
            self.streak = max(self.streak, 0) + 1
        elif outcome == "loss":
            self.streak = min(self.streak, 0) - 1
        risk = position.initial_risk
        return TradeClosed(
            trade=position.trade,
            instrument=position.instrument,
            side=position.side,
            amount=position.opened,
            entry_time=position.entry_time,
            entry_price=instruments.price(position.entry_price, instrument),
            trade_time=trade_time,
            exit_price=instruments.price(position.exit_cost / position.exited, instrument),
            stop=position.first_stop,
            target=None if position.target is None else instruments.price(position.target, instrument),
            initial_risk=round_money(risk, self.currency),
            pnl=pnl,
            outcome=outcome,
            r_multiple=(pnl / risk).quantize(_R) if risk else None,
            equity=self.balance,
            commission=position.commission,
            slippage=position.slippage,
            exit_reason=exit_reason,
            strategy=position.strategy,
            streak=self.streak,
        )

    def adjust(self, amount: Decimal) -> None:
        """Book financing, a fee or a correction."""
        self.balance += amount

    def mark(self, step: int, unrealised: Decimal = ZERO, open_risk: Decimal = ZERO) -> EquityMarked:
        """Equity at the end of a step, given what is open (see `valuation`); keeps peak and largest drawdown."""
        balance = self.balance
        equity = balance + unrealised if unrealised else balance
        if equity > self.peak:
            self.peak = equity
        drawdown = self.peak - equity
        if drawdown > self.max_drawdown:
            self.max_drawdown = drawdown
        return EquityMarked(
            step, balance, unrealised, equity, self.peak, drawdown, self.max_drawdown, open_risk
        )

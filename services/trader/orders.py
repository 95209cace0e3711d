"""The life of the run's orders: judged, sent, worked, filled, and what that does to the book.

Pure. It turns verdicts and a broker's news into facts, tickets and bookings. What the desk itself wishes for is in
`wishes`; whether that is allowed now, and the deployment's phases, are the engine's.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

from services.shared import instruments
from services.shared.events import (
    Direction,
    OrderAccepted,
    OrderFilled,
    OrderIntended,
    OrderKind,
    OrderRejected,
    Purpose,
    Reason,
    TradeOpened,
)
from services.shared.money import ZERO, exact, round_money
from services.shared.verdicts import digest
from services.trader.book import Position
from services.trader.brokers.base import (
    Accepted,
    Cancelled,
    Filled,
    NotFound,
    Rejected,
    Unknown,
    Update,
)
from services.trader.wishes import Wishes, fill_side
from services.trader.working import Cancel, Submit, Working, ticket_of

_REMEMBERED_FILLS = 64


class Orders(Wishes):
    """All orders of a run."""

    # verdicts

    def approve(self, number: int, given: str, step: int) -> None:
        """The guard lets the order go: send it, unless the market has passed its stop or target meanwhile."""
        order = self.state.working.get(number)
        if order is None or order.status != "asked":
            return
        if given != digest(order.intent):
            text = "the verdict was given for another order under this number"
            self.deny(number, step, (Reason(code="digest", text=text),))
            return
        beyond = self._beyond(order.intent)
        if beyond is not None:
            self.deny(number, step, (beyond,))
            return
        order.status = "sent"
        self._out.actions.append(Submit(ticket_of(order)))

    def _beyond(self, intent: OrderIntended) -> Reason | None:
        quote = self._quotes[intent.instrument]
        price = exact(fill_side(quote, intent.side))
        sign = 1 if intent.side == "buy" else -1
        if (
            intent.price is not None
            and sign * (price - intent.price) * (1 if intent.kind == "limit" else -1) > 0
        ):
            price = intent.price  # it will rest, and fill there
        if intent.stop is not None and sign * (price - intent.stop) <= 0:
            return Reason(code="stop_beyond", text=f"the price {price} has passed the stop {intent.stop}")
        if intent.target is not None and sign * (intent.target - price) <= 0:
            return Reason(
                code="target_beyond", text=f"the price {price} has passed the target {intent.target}"
            )
        return None

    def deny(self, number: int, step: int, reasons: Sequence[Reason], *, told: bool = False) -> None:
        """The order does not go. `told`: the guard has said so on the bus itself."""
        order = self.state.working.get(number)
        if order is None or order.status != "asked":
            return
        del self.state.working[number]
        if not told:
            self._deny(order.intent, step, tuple(reasons))

    # news from the broker

    def on_update(self, update: Update) -> OrderFilled | None:
        """Book a broker's news; returns the stated fill when it was one that counted."""
        if isinstance(update, Filled):
            return self._on_fill(update)
        order = self.state.working.get(update.order)
        if order is None:
            self._keep_early(update)
            return None
        if isinstance(update, Accepted):
            self._on_accepted(order, update)
        elif isinstance(update, Rejected):
            del self.state.working[update.order]
            self._out.facts.append(OrderRejected(order=update.order, reason=update.reason))
        elif isinstance(update, Cancelled):
            self._drop(order, update.reason)
            self._protect(order, update.reason)
        elif isinstance(update, Unknown):
            order.status = "unknown"
            self.unknown = True
        elif isinstance(update, NotFound):
            reason = Reason(code="not_found", text="the broker never had this order; it is not sent late")
            self._drop(order, reason)
            self._protect(order, reason)
        return None

    def _keep_early(self, update: Update) -> None:
        """News of a stop or target may overtake its entry's fill: it waits for that."""
        if isinstance(update, Accepted | Filled | Cancelled) and any(
            update.order in (order.stop_order, order.target_order) for order in self.state.working.values()
        ):
            self.state.early.append(update)

    def _protect(self, order: Working, reason: Reason) -> None:
        """A position whose stop is gone at the broker is closed."""
        if order.intent.purpose == "stop" and reason.code != "position_closed":
            self.leave(order.intent.instrument, fraction=1.0, reason="unprotected", urgent=True)

    def _on_accepted(self, order: Working, update: Accepted) -> None:
        order.status = "working"
        order.price = update.price
        order.left = update.amount
        intent = order.intent
        pair = instruments.find(intent.instrument)
        price = None if update.price is None else instruments.price(update.price, pair)
        if intent.purpose == "stop":
            position = self._book.positions.get(intent.instrument)
            if position is not None:
                position.stop = update.price
        self._out.facts.append(
            OrderAccepted(
                order=update.order,
                instrument=intent.instrument,
                purpose=intent.purpose,
                side=intent.side,
                kind=intent.kind,
                amount=update.amount,
                price=price,
            )
        )

    def _on_fill(self, fill: Filled) -> OrderFilled | None:
        if fill.fill in self._booked:
            return None
        order = self.state.working.get(fill.order) or self.state.gone.get(fill.order)
        if order is None:
            self._keep_early(fill)
            return None
        fills = self.state.fills
        fills.append(fill.fill)
        self._booked.add(fill.fill)
        if len(fills) > _REMEMBERED_FILLS:
            self._booked.remove(fills.pop(0))
        order.filled += fill.amount
        order.left -= fill.amount
        intent = order.intent
        stated = OrderFilled(
            order=fill.order,
            fill=fill.fill,
            trade=intent.trade,
            instrument=intent.instrument,
            purpose=intent.purpose,
            side=intent.side,
            amount=fill.amount,
            price=fill.price,
            rate=fill.rate,
            commission=fill.commission,
            slippage=fill.slippage,
            filled_at=fill.time,
        )
        self._out.facts.append(stated)
        if intent.purpose == "entry":
            self._book_entry(order, fill)
        else:
            self._book_exit(order, fill)
        if order.left <= 0:
            self.state.working.pop(fill.order, None)
        elif intent.purpose in ("entry", "exit") and fill.order in self.state.working:
            self._out.actions.append(Cancel(fill.order))
        return stated

    def take_early(self) -> list[Update]:
        """News that has waited for the entry's fill which has come now."""
        working = self.state.working
        ready: list[Update] = [news for news in self.state.early if news.order in working]
        if ready:
            self.state.early = [news for news in self.state.early if news.order not in working]
        return ready

    def _book_entry(self, order: Working, fill: Filled) -> None:
        intent = order.intent
        position = self._book.positions.get(intent.instrument)
        first = position is None
        if first and order.filled > fill.amount:
            # Its first part was opened and closed already: the rest is a position nobody wanted.
            self._close_flip(order, fill, fill.amount, paid=False)
            return
        if position is None:
            position = self._open(intent, fill, order.reference_rate)
        self._book.book_entry(position, fill.amount, fill.price, fill.commission, fill.slippage)
        if first:
            self._relate(order, position)
            self._state_opened(order, position)

    def _open(self, intent: OrderIntended, fill: Filled, reference_rate: Decimal) -> Position:
        position = Position(
            trade=intent.trade,
            instrument=intent.instrument,
            side="long" if intent.side == "buy" else "short",
            strategy=intent.strategy,
            entry_time=fill.time,
            reference=intent.expected,
            reference_rate=reference_rate,
            first_stop=intent.stop,
            stop=None if intent.stop is None else float(intent.stop),
            target=None if intent.target is None else float(intent.target),
        )
        self._book.open(position)
        return position

    def _state_opened(self, order: Working, position: Position) -> None:
        pair = instruments.find(position.instrument)
        self._out.facts.append(
            TradeOpened(
                trade=position.trade,
                order=order.intent.order,
                instrument=position.instrument,
                side=position.side,
                amount=position.amount,
                entry_time=position.entry_time,
                entry_price=instruments.price(position.entry_price, pair),
                stop=order.intent.stop,
                target=order.intent.target,
                initial_risk=round_money(position.initial_risk, self._book.currency),
                strategy=position.strategy,
                reason=order.intent.reason,
            )
        )

    def _relate(self, order: Working, position: Position) -> None:
        """From the first fill on the broker works the stop and the target under the numbers kept for them."""
        legs: tuple[tuple[int, Purpose, OrderKind, float | None, Decimal | None], ...] = (
            (order.stop_order, "stop", "stop", position.stop, order.intent.stop),
            (order.target_order, "target", "limit", position.target, order.intent.target),
        )
        for number, purpose, kind, level, price in legs:
            if not number or price is None:
                continue
            intent = OrderIntended(
                order=number,
                trade=position.trade,
                instrument=position.instrument,
                purpose=purpose,
                side="sell" if position.side == "long" else "buy",
                kind=kind,
                amount=position.amount,
                price=price,
                expected=price,
                stop=None,
                target=None,
                risk=ZERO,
                strategy=position.strategy,
            )
            status: Literal["sent", "unknown"] = "unknown" if order.status == "unknown" else "sent"
            self.state.working[number] = Working(
                intent=intent, status=status, price=level, left=intent.amount
            )

    def _book_exit(self, order: Working, fill: Filled) -> None:
        intent = order.intent
        position = self._book.positions.get(intent.instrument)
        closing = ZERO if position is None else min(fill.amount, position.amount)
        if position is not None and closing:
            self._book.book_exit(position, closing, fill.price, fill.rate, fill.commission, fill.slippage)
            if not position.amount:
                reason = intent.purpose if intent.purpose != "exit" else intent.reason
                self._out.facts.append(self._book.close(position, trade_time=fill.time, exit_reason=reason))
                self.state.leaving.pop(intent.instrument, None)
                self.state.urgent = self.state.urgent and bool(self.state.leaving)
        if fill.amount > closing:
            self._close_flip(order, fill, fill.amount - closing, paid=bool(closing))

    def _close_flip(self, order: Working, fill: Filled, amount: Decimal, *, paid: bool) -> None:
        """Stop and close both filled: what that left is a position nobody wanted, closed at once."""
        intent = order.intent
        side: Direction = "long" if intent.side == "buy" else "short"
        position = Position(
            trade=self.state.next_trade,
            instrument=intent.instrument,
            side=side,
            strategy=intent.strategy,
            entry_time=fill.time,
            reference=fill.price,
            reference_rate=fill.rate,
            first_stop=None,
            stop=None,
            target=None,
        )
        self.state.next_trade += 1
        self._book.open(position)
        costs = (ZERO, ZERO) if paid else (fill.commission, fill.slippage)
        self._book.book_entry(position, amount, fill.price, *costs)
        self._state_opened(order, position)
        self.leave(intent.instrument, fraction=1.0, reason="flip", urgent=True)

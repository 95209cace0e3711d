"""The life of the run's orders: intended, judged, sent, worked, filled, and what that does to the book.

Pure. It turns wishes (enter, leave, move the stop) into intents and tickets, and a broker's news into facts
and bookings. Whether a wish is allowed now, and the deployment's phases, are the engine's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, TypeAlias

from services.shared import instruments
from services.shared.events import (
    Body,
    Direction,
    OrderAccepted,
    OrderCancelled,
    OrderDenied,
    OrderFilled,
    OrderIntended,
    OrderKind,
    OrderRejected,
    Purpose,
    Reason,
    Side,
    TradeOpened,
)
from services.shared.market import Quote
from services.shared.money import ZERO, exact, floor_to_step, round_money
from services.shared.verdicts import digest
from services.trader.book import Book, Position
from services.trader.brokers.base import (
    Accepted,
    Cancelled,
    Filled,
    NotFound,
    Rejected,
    Ticket,
    Unknown,
    Update,
)
from services.trader.rates import Rates
from services.trader.sizing import Sizing, size_entry

_REMEMBERED_FILLS = 64
_REMEMBERED_CANCELLED = 6


@dataclass(slots=True)
class Submit:
    """Hand a ticket to the broker."""

    ticket: Ticket


@dataclass(slots=True)
class Cancel:
    """Have the broker stop working an order."""

    order: int


@dataclass(slots=True)
class Amend:
    """Have the broker move a working order's price."""

    order: int
    price: float


@dataclass(slots=True)
class Lookup:
    """Ask the broker what became of an order."""

    order: int


Action: TypeAlias = Submit | Cancel | Amend | Lookup


@dataclass(slots=True)
class Outputs:
    """What a step brought: facts in order, orders that want a verdict, actions for the broker."""

    facts: list[Body] = field(default_factory=list)
    judge: list[OrderIntended] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Working:
    """An order that is not finished. `asked`: waits for a verdict; `sent`: no news yet.

    `left` is what may still fill, as the broker last said.
    """

    intent: OrderIntended
    status: Literal["asked", "sent", "working", "unknown"]
    price: float | None
    reference_rate: Decimal = ZERO
    stop_order: int = 0
    target_order: int = 0
    filled: Decimal = ZERO
    left: Decimal
    urgent: bool = False


@dataclass(slots=True, kw_only=True)
class OrderState:
    """What of the orders has to survive a restart. `early` is news of related orders that came before the
    fill of their entry, `gone` the orders cancelled last: a fill may have crossed with the cancellation."""

    next_order: int = 1
    next_trade: int = 1
    working: dict[int, Working] = field(default_factory=dict)
    leaving: dict[str, str] = field(default_factory=dict)
    urgent: bool = False
    fills: list[str] = field(default_factory=list)
    early: list[Accepted | Filled | Cancelled] = field(default_factory=list)
    gone: dict[int, Working] = field(default_factory=dict)


class Orders:
    """All orders of a run. `out` is where facts and actions go; the engine empties it."""

    def __init__(
        self,
        state: OrderState,
        book: Book,
        rates: Rates,
        quotes: Mapping[str, Quote],
        out: Outputs,
        *,
        risk_per_trade: Decimal,
        min_amount: bool,
        strategy: str,
        sizing: Sizing = size_entry,
    ) -> None:
        self.state = state
        self._book = book
        self._rates = rates
        self._quotes = quotes
        self._out = out
        self._risk_per_trade = risk_per_trade
        self._min_amount = min_amount
        self._size = sizing
        self.unknown = any(order.status == "unknown" for order in state.working.values())
        self._strategy = strategy
        self._booked = set(state.fills)

    # what is there

    def entry_of(self, instrument: str) -> Working | None:
        """The unfinished entry of an instrument, if any."""
        for order in self.state.working.values():
            if order.intent.purpose == "entry" and order.intent.instrument == instrument:
                return order
        return None

    @property
    def none_adds_risk(self) -> bool:
        """Whether no unfinished order could open a position."""
        return all(order.intent.purpose != "entry" for order in self.state.working.values())

    def _exit_of(self, instrument: str) -> Working | None:
        for order in self.state.working.values():
            if order.intent.purpose == "exit" and order.intent.instrument == instrument:
                return order
        return None

    def _take_numbers(self, count: int = 1) -> int:
        first = self.state.next_order
        self.state.next_order += count
        return first

    # wishes

    def enter(
        self,
        instrument: str,
        side: Side,
        stop: float,
        target: float | None,
        *,
        limit: float | None,
        breakout: float | None,
        step: int,
        reason: str,
    ) -> Reason | None:
        """Intend an entry: sized, stated, and put up for judgement; or stated and denied, with the reason."""
        pair = instruments.find(instrument)
        quote = self._quotes[instrument]
        price = limit if limit is not None else breakout
        kind: OrderKind = "limit" if limit is not None else "stop" if breakout is not None else "market"
        level = None if price is None else instruments.level(price, pair.tick)
        expected = exact(level if level is not None else _fill_side(quote, side))
        stop_at = instruments.price(stop, pair)
        target_at = None if target is None else instruments.price(target, pair)
        rate = self._rates.rate(instrument, expected)
        size = self._size(
            instrument=pair,
            side=side,
            expected=expected,
            spread=abs(exact(quote.ask) - exact(quote.bid)),
            stop=stop_at,
            target=target_at,
            risk=self._risk_per_trade,
            rate=rate,
            currency=self._book.currency,
            min_amount=self._min_amount,
        )
        intent = OrderIntended(
            order=self._take_numbers(3),
            trade=self.state.next_trade,
            instrument=instrument,
            purpose="entry",
            side=side,
            kind=kind,
            amount=size.amount,
            price=None if level is None else instruments.price(level, pair),
            expected=instruments.price(expected, pair),
            stop=stop_at,
            target=target_at,
            risk=round_money(size.risk, self._book.currency),
            strategy=self._strategy,
            reason=reason,
        )
        self._out.facts.append(intent)
        if size.refusal is not None:
            self._deny(intent, step, (size.refusal,))
            return size.refusal
        self.state.next_trade += 1
        self.state.working[intent.order] = Working(
            intent=intent,
            status="asked",
            price=level,
            reference_rate=rate,
            stop_order=intent.order + 1,
            target_order=intent.order + 2 if target_at is not None else 0,
            left=intent.amount,
        )
        self._out.judge.append(intent)
        return None

    def leave(self, instrument: str, *, fraction: float, reason: str, urgent: bool) -> None:
        """Intend an exit of a fraction of the position. A full one is repeated until it is flat."""
        position = self._book.positions.get(instrument)
        if position is None:
            return
        pair = instruments.find(instrument)
        amount = position.amount
        if fraction < 1:
            amount = floor_to_step(amount * Decimal(repr(fraction)), pair.amount_step)
            if not ZERO < amount < position.amount or self._exit_of(instrument) is not None:
                return
        else:
            self.state.leaving.setdefault(instrument, reason)
            self.state.urgent = self.state.urgent or urgent
            if not self._clear_the_way(instrument, urgent):
                return
        self._send_exit(position, amount, reason, urgent)

    def _clear_the_way(self, instrument: str, urgent: bool) -> bool:
        """Whether no exit is under way; one that is less urgent is cancelled and followed up."""
        under_way = self._exit_of(instrument)
        if under_way is None:
            return True
        if urgent and not under_way.urgent and under_way.status == "working":
            self._out.actions.append(Cancel(under_way.intent.order))
        return False

    def _send_exit(self, position: Position, amount: Decimal, reason: str, urgent: bool) -> None:
        pair = instruments.find(position.instrument)
        quote = self._quotes[position.instrument]
        side: Side = "sell" if position.side == "long" else "buy"
        intent = OrderIntended(
            order=self._take_numbers(),
            trade=position.trade,
            instrument=position.instrument,
            purpose="exit",
            side=side,
            kind="market",
            amount=amount,
            price=None,
            expected=instruments.price(_fill_side(quote, side), pair),
            stop=None,
            target=None,
            risk=ZERO,
            strategy=position.strategy,
            reason=reason,
        )
        self._out.facts.append(intent)
        order = Working(intent=intent, status="sent", price=None, left=amount, urgent=urgent)
        self.state.working[intent.order] = order
        self._out.actions.append(Submit(_ticket(order)))

    def follow_up(self) -> None:
        """Repeat every full exit that is neither filled nor under way, and look up what is unknown."""
        unknown = [number for number, order in self.state.working.items() if order.status == "unknown"]
        self.unknown = bool(unknown)
        self._out.actions.extend(Lookup(number) for number in unknown)
        for instrument, reason in self.state.leaving.items():
            position = self._book.positions.get(instrument)
            if position is not None and self._exit_of(instrument) is None:
                self._send_exit(position, position.amount, reason, self.state.urgent)

    def flatten(self, reason: str, *, urgent: bool) -> None:
        """Cancel every entry, then leave every position, the largest exposure first."""
        self.cancel_entries(Reason(code=reason, text="the desk is getting flat"))
        by_exposure = sorted(self._book.positions.values(), key=self._exposure, reverse=True)
        for position in by_exposure:
            self.leave(position.instrument, fraction=1.0, reason=reason, urgent=urgent)

    def _exposure(self, position: Position) -> Decimal:
        price = exact(self._quotes[position.instrument].bid)
        return position.amount * price * self._rates.rate(position.instrument, price)

    def cancel_entries(self, reason: Reason) -> None:
        """Take back every entry: one not sent yet is dropped, one at the broker cancelled there."""
        for order in [order for order in self.state.working.values() if order.intent.purpose == "entry"]:
            if order.status == "asked":
                self._drop(order, reason)
            else:
                self._out.actions.append(Cancel(order.intent.order))

    def _drop(self, order: Working, reason: Reason) -> None:
        gone = self.state.gone
        del self.state.working[order.intent.order]
        if order.status != "asked":
            gone[order.intent.order] = order
            if len(gone) > _REMEMBERED_CANCELLED:
                del gone[next(iter(gone))]
        self._out.facts.append(OrderCancelled(order=order.intent.order, unfilled=order.left, reason=reason))

    def move_stop(self, instrument: str, price: float) -> None:
        """Move the position's stop closer; a price further away, or beyond the market, is ignored."""
        position = self._book.positions.get(instrument)
        if position is None or position.stop is None:
            return
        level = instruments.level(price, instruments.find(instrument).tick)
        quote = self._quotes[instrument]
        if position.sign * (level - position.stop) <= 0:
            return
        if (level >= quote.bid) if position.side == "long" else (level <= quote.ask):
            return
        for order in self.state.working.values():
            if order.intent.purpose == "stop" and order.intent.instrument == instrument:
                self._out.actions.append(Amend(order.intent.order, level))
                return

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
        self._out.actions.append(Submit(_ticket(order)))

    def _beyond(self, intent: OrderIntended) -> Reason | None:
        quote = self._quotes[intent.instrument]
        price = exact(_fill_side(quote, intent.side))
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

    def _deny(self, intent: OrderIntended, step: int, reasons: tuple[Reason, ...]) -> None:
        denied = OrderDenied(order=intent.order, step=step, digest=digest(intent), reasons=reasons)
        self._out.facts.append(denied)

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


def _fill_side(quote: Quote, side: Side) -> float:
    """What one buys or sells at: on a crossed row the worse of the two."""
    return max(quote.bid, quote.ask) if side == "buy" else min(quote.bid, quote.ask)


def _ticket(order: Working) -> Ticket:
    intent = order.intent
    return Ticket(
        order=intent.order,
        trade=intent.trade,
        instrument=intent.instrument,
        purpose=intent.purpose,
        side=intent.side,
        kind=intent.kind,
        amount=intent.amount,
        price=order.price,
        stop=None if intent.stop is None else float(intent.stop),
        target=None if intent.target is None else float(intent.target),
        stop_order=order.stop_order,
        target_order=order.target_order,
        urgent=order.urgent,
    )

"""What strategy and engine wish for: enter, leave, flatten, move the stop. Each becomes intents and tickets.

Pure. Whether a wish is allowed now is the engine's to know; verdicts and the broker's news are in `orders`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from services.shared import instruments
from services.shared.events import OrderCancelled, OrderDenied, OrderIntended, OrderKind, Reason, Side
from services.shared.market import Quote
from services.shared.money import ZERO, exact, floor_to_step, round_money
from services.shared.verdicts import digest
from services.trader.book import Book, Position
from services.trader.rates import Rates
from services.trader.sizing import Sizing, size_entry
from services.trader.working import Amend, Cancel, Lookup, OrderState, Outputs, Submit, Working, ticket_of

_REMEMBERED_CANCELLED = 6


class Wishes:
    """The orders of a run, as far as they come from the desk's own side. `out` is where facts and actions go; the
    engine empties it."""

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
        expected = exact(level if level is not None else fill_side(quote, side))
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
            expected=instruments.price(fill_side(quote, side), pair),
            stop=None,
            target=None,
            risk=ZERO,
            strategy=position.strategy,
            reason=reason,
        )
        self._out.facts.append(intent)
        order = Working(intent=intent, status="sent", price=None, left=amount, urgent=urgent)
        self.state.working[intent.order] = order
        self._out.actions.append(Submit(ticket_of(order)))

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

    def _deny(self, intent: OrderIntended, step: int, reasons: tuple[Reason, ...]) -> None:
        denied = OrderDenied(order=intent.order, step=step, digest=digest(intent), reasons=reasons)
        self._out.facts.append(denied)


def fill_side(quote: Quote, side: Side) -> float:
    """What one buys or sells at: on a crossed row the worse of the two."""
    return max(quote.bid, quote.ask) if side == "buy" else min(quote.bid, quote.ask)

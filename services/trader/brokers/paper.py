"""The paper broker: fills tickets from bars or quotes by fixed, pessimistic rules. Pure.

TRADING 5. Its cash and positions are in `paper_account`. With bars a market order fills at the next open; with
quotes at the next quote; an urgent exit at the last price.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal

from services.shared import instruments
from services.shared.events import Purpose, Reason
from services.shared.market import Bar, Quote
from services.shared.money import ZERO, round_money
from services.trader.brokers.base import Accepted, Cancelled, Filled, NotFound, Rejected, Ticket, Update
from services.trader.brokers.paper_account import PaperAccount, PaperOrder, PaperRules, PaperState
from services.trader.feeds.base import MarketStep
from services.trader.rates import Rates

_MILLION = Decimal(1_000_000)
_FINISHED_KEPT = 12
_POSITION_CLOSED = Reason(code="position_closed", text="the position is closed")
_EXITS: dict[Purpose, int] = {"exit": 0, "stop": 1, "target": 2, "entry": 3}


class PaperBroker(PaperAccount):
    """A venue without a market: implements `brokers.base.Broker`."""

    def __init__(
        self,
        rules: PaperRules,
        currency: str,
        rates: Rates,
        quotes: Mapping[str, Quote],
        *,
        balance: Decimal,
        state: PaperState | None = None,
    ) -> None:
        """`quotes` are the last known prices, kept by whoever drives the broker."""
        super().__init__(rules, currency, rates, quotes, state or PaperState(cash=balance))
        self._nothing = round_money(ZERO, currency)
        self._news: list[Update] = []
        # What `_bounds` says, for as long as no order changes.
        self._near: dict[str, tuple[float, float]] = {}
        self._slips: dict[str, tuple[float, Decimal, float]] = {}

    # tickets

    def submit(self, ticket: Ticket, now: datetime) -> Sequence[Update]:
        """Take an order on. An exit is what takes from the net position, whatever it is called, and always
        taken; anything else needs a flat instrument, a stop, margin, and the least time since the last."""
        refusal = self._refusal(ticket, now)
        if refusal is not None:
            return [Rejected(ticket.order, refusal)]
        self.state.last_order = now
        order = PaperOrder(ticket=ticket, amount=ticket.amount, since=now)
        self._near.clear()
        self.state.orders[ticket.order] = order
        self._say(Accepted(ticket.order, ticket.price, ticket.amount))
        if ticket.urgent and ticket.instrument in self._quotes:
            quote = self._quotes[ticket.instrument]
            self._fill_market(order, _sides(quote.bid, quote.ask), quote.time)
        return self._take_news()

    def _refusal(self, ticket: Ticket, now: datetime) -> Reason | None:
        held = self.net_position(ticket.instrument)
        against = held > 0 if ticket.side == "sell" else held < 0
        if against and ticket.amount <= abs(held):
            return None
        if ticket.purpose != "entry":
            return Reason(code="not_an_exit", text=f"the net position is {held}: this order would add to it")
        if held:
            return Reason(
                code="not_flat", text=f"the net position is {held}: an entry needs {ticket.instrument} flat"
            )
        if ticket.stop is None or not ticket.stop_order:
            return Reason(code="no_stop", text="an entry needs a stop")
        interval = self.rules.order_interval
        if interval and self.state.last_order is not None and now - self.state.last_order < interval:
            return Reason(code="rate_limited", text=f"one order in {interval.total_seconds():g} s; try again")
        return self._margin_refusal(ticket)

    def cancel(self, order: int, now: datetime) -> Sequence[Update]:  # noqa: ARG002 - a real one needs it
        """Stop working an order."""
        if self.state.orders.pop(order, None) is None:
            return []
        self._finish(Cancelled(order, Reason(code="cancelled", text="cancelled on request")))
        return self._take_news()

    def amend(self, order: int, now: datetime, *, price: float) -> Sequence[Update]:  # noqa: ARG002
        """Move a working order's price."""
        found = self.state.orders.get(order)
        if found is None:
            return []
        found.ticket.price = price
        self._near.clear()
        return [Accepted(order, price, found.amount)]

    def lookup(self, order: int, now: datetime) -> Sequence[Update]:  # noqa: ARG002
        """Whether the order is worked, or how it ended if that was lately."""
        found = self.state.orders.get(order)
        if found is not None:
            return [Accepted(order, found.ticket.price, found.amount)]
        return [self.state.finished.get(order) or NotFound(order)]

    # prices

    def on_market(self, step: MarketStep) -> Sequence[Update]:
        """Fill what the new prices fill."""
        state = self.state
        for quote in step.quotes:
            if quote.instrument not in state.quoted:
                state.quoted.append(quote.instrument)
            if state.orders:
                self._on_quote(quote)
        if state.orders:
            for bar in step.bars:
                # Most bars come near no order, and cost no more than this.
                near = self._near.get(bar.instrument) or self._bounds(bar.instrument)
                low, high = near
                if (
                    bar.bid_low <= low or bar.bid_high >= high or bar.ask_low <= low or bar.ask_high >= high
                ) and bar.instrument not in state.quoted:
                    self._on_bar(bar)
        return self._take_news() if self._news else ()

    def _bounds(self, instrument: str) -> tuple[float, float]:
        """The highest price that an order waits for the low to reach, and the lowest for the high."""
        low, high = -math.inf, math.inf
        for order in self.state.orders.values():
            ticket = order.ticket
            if ticket.instrument != instrument:
                continue
            if ticket.price is None:
                low, high = math.inf, -math.inf
                break
            if _waits_for_low(ticket):
                low = max(low, ticket.price)
            else:
                high = min(high, ticket.price)
        self._near[instrument] = low, high
        return low, high

    def _worked(self, instrument: str, before: datetime) -> list[PaperOrder]:
        """The instrument's orders taken no later than `before`, exits first."""
        found = [
            order
            for order in self.state.orders.values()
            if order.ticket.instrument == instrument and order.since <= before
        ]
        if len(found) > 1:
            found.sort(key=_turn)
        return found

    def _on_quote(self, quote: Quote) -> None:
        sell, buy = _sides(quote.bid, quote.ask)
        for order in self._worked(quote.instrument, quote.time):
            if order.ticket.order not in self.state.orders:
                continue
            ticket = order.ticket
            if ticket.kind == "market":
                self._fill_market(order, (sell, buy), quote.time)
            elif self._passed(ticket, sell, buy):
                self._fill(
                    order, buy if ticket.side == "buy" else sell, quote.time, slips=ticket.kind == "stop"
                )

    def _passed(self, ticket: Ticket, sell: float, buy: float) -> bool:
        """Whether prices at which one can sell and buy now trigger a stop or pass a limit."""
        assert ticket.price is not None
        if ticket.kind == "stop":
            return buy >= ticket.price if ticket.side == "buy" else sell <= ticket.price
        through = self._slip(ticket.instrument)[2]
        if ticket.side == "buy":
            return buy <= round(ticket.price - through, 10)
        return sell >= round(ticket.price + through, 10)

    def _on_bar(self, bar: Bar) -> None:
        """At the open first, then within: exits before entries, the stop before the target."""
        opening = _sides(bar.bid_open, bar.ask_open)
        had_position = bool(self.net_position(bar.instrument))
        for order in self._worked(bar.instrument, bar.start):
            if order.ticket.order in self.state.orders and (
                had_position == (order.ticket.purpose != "entry")
            ):
                self._at_open(order, opening, bar)
        if self.net_position(bar.instrument):
            self._exit_within(bar)
        elif not had_position:
            self._enter_within(bar)

    def _at_open(self, order: PaperOrder, opening: tuple[float, float], bar: Bar) -> None:
        ticket = order.ticket
        if ticket.kind == "market":
            self._fill_market(order, opening, bar.start)
        elif self._passed(ticket, *opening):
            sell, buy = opening
            self._fill(order, buy if ticket.side == "buy" else sell, bar.start, slips=ticket.kind == "stop")

    def _exit_within(self, bar: Bar, *, entered_inside: bool = False) -> None:
        """The position's stop and target against the bar's range. What entered inside the bar may be stopped
        there but not reach its target, and the open was before it."""
        stop = target = None
        for order in self.state.orders.values():
            if order.ticket.instrument == bar.instrument:
                if order.ticket.purpose == "stop":
                    stop = order
                elif order.ticket.purpose == "target":
                    target = order
        stop_hit = stop is not None and self._passed(stop.ticket, *_reach(bar, stop.ticket))
        target_hit = (
            not entered_inside
            and target is not None
            and self._passed(target.ticket, *_reach(bar, target.ticket))
        )
        if stop_hit and target_hit:
            self.state.ambiguous += 1
        leg = (
            target if target_hit and (self.rules.target_first or not stop_hit) else stop if stop_hit else None
        )
        if leg is None:
            return
        assert leg.ticket.price is not None
        price, moment, opening = leg.ticket.price, bar.end, _sides(bar.bid_open, bar.ask_open)
        if not entered_inside and self._passed(leg.ticket, *opening):
            price, moment = opening[0] if leg.ticket.side == "sell" else opening[1], bar.start
        self._fill(leg, price, moment, slips=leg is stop)

    def _enter_within(self, bar: Bar) -> None:
        """A resting entry reached inside the bar."""
        for order in self._worked(bar.instrument, bar.start):
            ticket = order.ticket
            if ticket.purpose != "entry" or ticket.price is None:
                continue
            if self._passed(ticket, *_reach(bar, ticket)):
                self._fill(order, ticket.price, bar.end, slips=ticket.kind == "stop")
                self._exit_within(bar, entered_inside=True)
                return

    # fills

    def _slip(self, instrument: str) -> tuple[float, Decimal, float]:
        """Slippage as a float and exactly, and the distance a limit must be passed by."""
        known = self._slips.get(instrument)
        if known is None:
            pair = instruments.find(instrument)
            slip = self.rules.costs.slippage * pair.pip
            known = float(slip), slip, float(pair.tick * self.rules.limit_through)
            self._slips[instrument] = known
        return known

    def _fill_market(self, order: PaperOrder, sides: tuple[float, float], moment: datetime) -> None:
        self._fill(order, sides[1] if order.ticket.side == "buy" else sides[0], moment, slips=True)

    def _fill(self, order: PaperOrder, price: float, moment: datetime, *, slips: bool) -> None:
        """Fill an order whole at `price`, worsened by slippage, and see to its related orders."""
        ticket, amount, state = order.ticket, order.amount, self.state
        pair = instruments.find(ticket.instrument)
        sign = 1 if ticket.side == "buy" else -1
        untouched = booked = instruments.price(price, pair)
        slip = self._slip(ticket.instrument)[0] if slips else 0.0
        if slip:
            booked = instruments.price(price + sign * slip, pair)
        rate = self._rates.rate(ticket.instrument, booked)
        del state.orders[ticket.order]
        state.fills += 1
        commission = slippage = self._nothing
        if self.rules.costs.commission:
            commission = round_money(
                amount * booked * rate * self.rules.costs.commission / _MILLION, self._currency
            )
        if booked is not untouched:
            slippage = round_money(abs(booked - untouched) * amount * rate, self._currency)
        self._settle(pair, sign * amount, booked, rate, commission)
        self._finish(
            Filled(
                order=ticket.order,
                fill=f"{ticket.order}-{state.fills}",
                amount=amount,
                price=booked,
                time=moment,
                commission=commission,
                slippage=slippage,
                rate=rate,
                reason=ticket.purpose,
            )
        )
        if ticket.purpose == "entry":
            self._work_related(ticket, amount, moment)
        else:
            self._follow_position(ticket)

    def _work_related(self, entry: Ticket, amount: Decimal, moment: datetime) -> None:
        legs: tuple[tuple[int, Purpose, Literal["stop", "limit"], float | None], ...] = (
            (entry.stop_order, "stop", "stop", entry.stop),
            (entry.target_order, "target", "limit", entry.target),
        )
        for number, purpose, kind, price in legs:
            if not number or price is None:
                continue
            ticket = Ticket(
                order=number,
                trade=entry.trade,
                instrument=entry.instrument,
                purpose=purpose,
                side="sell" if entry.side == "buy" else "buy",
                kind=kind,
                amount=amount,
                price=price,
            )
            self.state.orders[number] = PaperOrder(ticket=ticket, amount=amount, since=moment)
            self._near.clear()
            self._say(Accepted(number, price, amount))

    def _follow_position(self, ticket: Ticket) -> None:
        """Stop and target follow what is left of the position; nothing left, they go."""
        left = abs(self.net_position(ticket.instrument))
        for number, order in list(self.state.orders.items()):
            if order.ticket.instrument != ticket.instrument or order.ticket.purpose == "entry":
                continue
            if not left:
                del self.state.orders[number]
                self._finish(Cancelled(number, _POSITION_CLOSED))
            elif order.amount > left:
                order.amount = left
                self._say(Accepted(number, order.ticket.price, left))

    def _finish(self, last: Filled | Cancelled) -> None:
        """Say the last news of an order and keep it for a while."""
        finished = self.state.finished
        self._near.clear()
        finished[last.order] = last
        if len(finished) > _FINISHED_KEPT:
            del finished[next(iter(finished))]
        self._say(last)

    def _say(self, update: Update) -> None:
        self._news.append(update)

    def _take_news(self) -> list[Update]:
        news, self._news = self._news, []
        return news


def _turn(order: PaperOrder) -> tuple[int, int]:
    """When an order's turn is among those of its instrument."""
    return _EXITS[order.ticket.purpose], order.ticket.order


def _sides(bid: float, ask: float) -> tuple[float, float]:
    """What one sells and buys at: on a crossed row the worse of the two each."""
    return (bid, ask) if bid <= ask else (ask, bid)


def _waits_for_low(ticket: Ticket) -> bool:
    """A limit to buy and a stop to sell wait for the low, the others for the high."""
    return (ticket.kind == "limit") == (ticket.side == "buy")


def _reach(bar: Bar, ticket: Ticket) -> tuple[float, float]:
    """The two sides at the end of the bar's range that this order waits for."""
    if _waits_for_low(ticket):
        return _sides(bar.bid_low, bar.ask_low)
    return _sides(bar.bid_high, bar.ask_high)

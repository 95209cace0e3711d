"""The guard's word on one order: every rule of TRADING 6 whose action is to deny it, and what it risks.

Pure and exact: amount times stop distance times rate, from the guard's own account and the quotes, never
from what the trader says an order risks. All reasons are given, not only the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

from services.risk.state import JUDGED_KEPT, Approved, Holding, Spreads, State
from services.shared import instruments
from services.shared.calendar import in_session
from services.shared.errors import InvalidInput
from services.shared.events import OrderIntended, Reason
from services.shared.market import Quote
from services.shared.money import ZERO, exact
from services.shared.verdicts import StepReport

SPREADS_NEEDED = 10
"""Spreads seen before one can be called unusual."""

_MINUTE = timedelta(seconds=60)
_PERCENT = Decimal(100)


def conversion(
    symbol: str, currency: str, quotes: Mapping[str, Quote], rates: Mapping[str, Decimal]
) -> Decimal | None:
    """What one unit of the quote currency of `symbol` is worth in `currency`; None where nobody knows."""
    try:
        pair = instruments.find(symbol)
    except InvalidInput:
        return None
    if pair.quote == currency:
        return Decimal(1)
    direct, inverse = quotes.get(f"{pair.quote}{currency}"), quotes.get(f"{currency}{pair.quote}")
    if inverse is not None and inverse.bid > 0:
        return 1 / exact(min(inverse.bid, inverse.ask))
    if direct is not None and direct.bid > 0:
        return exact(max(direct.bid, direct.ask))
    return rates.get(pair.quote)


def spread_limit(window: Spreads | None, times: Decimal) -> float | None:
    """The widest spread that is still normal, or None while too few were seen to say."""
    if window is None or len(window.values) < SPREADS_NEEDED:
        return None
    # Rounding the middle ones is rounding them all: it never changes their order.
    ordered = sorted(window.values)
    count = len(ordered)
    middle = (round(ordered[(count - 1) // 2], 10) + round(ordered[count // 2], 10)) / 2
    return middle * float(times) if middle > 0 else None


def risk_of(holding: Holding, rate: Decimal) -> Decimal | None:
    """What an open position loses from its entry to its stop; None when it has no stop."""
    if holding.stop is None:
        return None
    return max(ZERO, holding.sign * (holding.entry_price - holding.stop)) * holding.amount * rate


def judge(state: State, order: OrderIntended, digest: str, report: StepReport) -> list[Reason]:
    """Why `order` may not go; empty when it may. Changes nothing."""
    known = state.judged.get(order.order)
    if known is not None and known != digest:
        return [_reason("order_changed", f"order {order.order} was judged before with another content")]
    if known is None and len(state.judged) >= JUDGED_KEPT and order.order < next(iter(state.judged)):
        return [_reason("order_changed", f"order {order.order} is older than what is remembered")]
    if order.order in state.withdrawn:
        return [_reason("withdrawn", f"order {order.order} was given up before it was judged")]
    reasons = _standing(state, order, report)
    adds = _adds(state, order)
    price = _price(order, report.quotes.get(order.instrument), state, report, reasons)
    if price is None:
        return reasons
    rate = conversion(order.instrument, state.currency, report.quotes, report.rates)
    if rate is None:
        text = f"no rate from the quote currency of {order.instrument} to {state.currency}"
        return [*reasons, _reason("no_rate", text)]
    if adds:
        _count(state, order, report, reasons)
    _risk(state, order, price, rate, report, reasons, adds=adds)
    return reasons


def note_judged(state: State, number: int, digest: str) -> None:
    """Remember what an order was when it was judged: of the highest numbers, in their order."""
    judged = state.judged
    if number in judged:
        return
    late = bool(judged) and number < next(reversed(judged))
    judged[number] = digest
    if late:
        state.judged = judged = dict(sorted(judged.items()))
    if len(judged) > JUDGED_KEPT:
        del judged[next(iter(judged))]


def worst_price(order: OrderIntended, quote: Quote) -> Decimal:
    """Where the order would fill at worst: its own price, or for a market order the quote's fill side."""
    if order.kind != "market" and order.price is not None:
        return order.price
    fill = _fill_side(order, quote)
    return max(order.expected, fill) if order.side == "buy" else min(order.expected, fill)


def _reason(code: str, text: str) -> Reason:
    return Reason(code=code, text=text)


def _fill_side(order: OrderIntended, quote: Quote) -> Decimal:
    """On a crossed row one buys at the higher and sells at the lower."""
    if order.side == "buy":
        return exact(max(quote.bid, quote.ask))
    return exact(min(quote.bid, quote.ask))


def _adds(state: State, order: OrderIntended) -> bool:
    """Whether the order makes a position or makes it larger: by position and amount, not by its label."""
    holding = state.holdings.get(order.instrument)
    if holding is None:
        return True
    same_way = (order.side == "buy") == (holding.side == "long")
    return same_way or order.amount > holding.amount


def _standing(state: State, order: OrderIntended, report: StepReport) -> list[Reason]:
    """What speaks against any order that adds risk, whatever it is."""
    reasons = []
    if state.halts:
        halt = state.halts[0]
        reasons.append(_reason("halted", f"halted ({halt.code}): only a reset lets trade again"))
    if state.phase not in ("STARTING", "MONITORING"):
        reasons.append(_reason("not_deployed", f"the run is {state.phase}"))
    if state.paused_until is not None and report.time <= state.paused_until:
        reasons.append(_reason("paused", f"paused until {state.paused_until:%Y-%m-%d %H:%M} UTC"))
    for limit in state.breaches:
        reasons.append(_reason(limit, f"{limit} is reached and waits for a second price"))  # noqa: PERF401
    if order.instrument not in state.instruments:
        reasons.append(_reason("instrument", f"{order.instrument} is not of this deployment"))
    if not in_session(report.time):
        reasons.append(_reason("market_closed", "outside trading hours (Sunday to Friday 17:00 New York)"))
    return reasons


def _price(
    order: OrderIntended, quote: Quote | None, state: State, report: StepReport, reasons: list[Reason]
) -> Decimal | None:
    """The price to reckon with; adds what speaks against quote, collar and spread. None without a quote."""
    limits = state.limits
    if quote is None or min(quote.bid, quote.ask) <= 0:
        reasons.append(_reason("no_quote", f"no usable quote of {order.instrument}"))
        return None
    if report.mode == "live":
        allowed = limits.bar_age * state.bar_seconds if state.bar_seconds else limits.quote_age
        age = Decimal(str((report.time - quote.time).total_seconds()))
        if age > allowed:
            reasons.append(
                _reason("stale_price", f"the last price is {age:.0f} s old, at most {allowed:f} s")
            )
    spread = abs(quote.ask - quote.bid)
    widest = spread_limit(state.spreads.get(order.instrument), limits.spread) if spread else None
    if widest is not None and spread > widest:
        text = f"the spread is {spread:.6g}, over {limits.spread:f} times its median"
        reasons.append(_reason("spread", text))
    fill = _fill_side(order, quote)
    collar = fill * limits.price_collar / _PERCENT
    for price in (order.expected, order.price):
        if price is not None and abs(price - fill) > collar:
            text = f"{price:f} is more than {limits.price_collar:f} % from the last quote {fill:f}"
            reasons.append(_reason("price_collar", text))
            break
    return worst_price(order, quote)


def _count(state: State, order: OrderIntended, report: StepReport, reasons: list[Reason]) -> None:
    """Positions and entries, resting ones included; the order itself, asked again, does not count."""
    limits = state.limits
    here = int(order.instrument in state.holdings)
    everywhere = len(state.holdings)
    for other in state.approved.values():
        if other.adds and other.order != order.order:
            here += other.instrument == order.instrument
            everywhere += other.instrument not in state.holdings
    if here >= limits.positions_per_instrument:
        text = f"{here} open or resting in {order.instrument}, at most {limits.positions_per_instrument}"
        reasons.append(_reason("positions_per_instrument", text))
    if everywhere >= limits.positions:
        reasons.append(_reason("positions", f"{everywhere} open or resting, at most {limits.positions}"))
    since = report.time - _MINUTE
    lately = len([moment for moment in state.entries if moment > since])
    if lately >= limits.entries_per_minute:
        text = f"{lately} entries within a minute, at most {limits.entries_per_minute}"
        reasons.append(_reason("entries_per_minute", text))


def _risk(
    state: State,
    order: OrderIntended,
    price: Decimal,
    rate: Decimal,
    report: StepReport,
    reasons: list[Reason],
    *,
    adds: bool,
) -> None:
    """Risk of this trade and of all open, and what everything held would be worth."""
    stop = order.stop if adds else order.price
    if stop is None:
        reasons.append(_reason("no_stop", "an order that adds risk needs a stop"))
        return
    holding = None if adds else state.holdings[order.instrument]
    long = (order.side == "buy") if holding is None else holding.side == "long"
    start = price if holding is None else holding.entry_price
    distance = (start - stop) if long else (stop - start)
    if adds and distance <= 0:
        reasons.append(_reason("stop_beyond", f"the stop {stop:f} is not beyond the fill {price:f}"))
        return
    most = state.limits.trade_risk.amount(state.risk_per_trade)
    risk = order.amount * max(ZERO, distance) * rate
    if risk > most:
        text = f"risks {risk:.2f} {state.currency} at its stop, at most {most:f}"
        reasons.append(_reason("trade_risk", text))
    others = _others(state, order, report)
    if others is None:
        reasons.append(_reason("open_risk", "what is open has no stop or no rate, so its risk is unknown"))
        return
    most = state.limits.open_risk.amount(state.risk_per_trade)
    if risk + others[0] > most:
        text = f"with {others[0]:.2f} open already risks {risk + others[0]:.2f}, at most {most:f}"
        reasons.append(_reason("open_risk", text))
    worth = others[1] + order.amount * price * rate
    most = state.limits.notional.amount(state.equity)
    if adds and worth > most:
        text = f"all held would be worth {worth:.2f} {state.currency}, at most {most:.2f}"
        reasons.append(_reason("notional", text))


def _others(state: State, order: OrderIntended, report: StepReport) -> tuple[Decimal, Decimal] | None:
    """Risk and worth of everything open or resting but this order; None where it cannot be told."""
    risk = worth = ZERO
    for holding in state.holdings.values():
        rate = conversion(holding.instrument, state.currency, report.quotes, report.rates)
        if rate is None:
            return None
        worth += holding.amount * holding.entry_price * rate
        if holding.instrument == order.instrument and not _adds(state, order):
            continue
        at_stop = risk_of(holding, rate)
        if at_stop is None:
            return None
        risk += at_stop
    for other in state.approved.values():
        if other.order == order.order or not other.adds:
            continue
        rate = conversion(other.instrument, state.currency, report.quotes, report.rates)
        if rate is None or other.stop is None:
            return None
        risk += other.left * abs(other.price - other.stop) * rate
        worth += other.left * other.price * rate
    return risk, worth


def remember(state: State, order: OrderIntended, digest: str, price: Decimal) -> None:
    """Note an approval: what may fill from it, and that an entry was made now."""
    adds = _adds(state, order)
    asked_again = state.approved.get(order.order)
    state.approved[order.order] = Approved(
        order=order.order,
        instrument=order.instrument,
        side=order.side,
        left=order.amount,
        stop=order.stop if adds else order.price,
        price=price,
        digest=digest,
        adds=adds,
    )
    if adds and asked_again is None:
        state.entries = [moment for moment in state.entries if moment > state.time - _MINUTE]
        state.entries.append(state.time)

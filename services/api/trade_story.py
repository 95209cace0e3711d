"""A closed trade told from its orders: sizing, the guard's verdict, fills, and the result worked out once more.

`tell` is pure; `read_story` reads what it needs by index. What the orders do not say is left out, never made up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from services.api import queries
from services.api.answers.records import OrderRow, OrderStep, TradeRow
from services.api.answers.story import FillRow, GainRow, Sizing, TradeStory, VerdictGiven, Working
from services.api.problems import NothingThere
from services.api.results import Run
from services.api.trade_pages import trade_row
from services.shared.money import ZERO, round_money

if TYPE_CHECKING:
    from services.api.ledger import Proxy

_TRADE = f"select {', '.join(TradeRow.model_fields)} from trades where run_id = $1 and trade = $2"  # noqa: S608
_ORDERS = (
    "select distinct order_no from orders where run_id = $1 and state in ('intended', 'filled')"
    " and (detail->>'trade')::bigint = $2 order by order_no limit 200"
)
_RATE_DIGITS = Decimal("0.000001")
_NEARLY_ONE = Decimal("0.0005")


async def read_story(connection: Proxy, run: Run, number: int) -> TradeStory:
    """The story of trade `number` of `run`. Raises NothingThere when no such trade is closed and recorded."""
    found = await connection.fetchrow(_TRADE, run.run_id, number)
    if found is None:
        raise NothingThere(f"run {run.run_id} has no closed trade {number}")
    known = {row["order_no"] for row in await connection.fetch(_ORDERS, run.run_id, number)}
    # Stop and target have the two numbers after their entry's, and say nothing of a trade until they fill.
    wanted = sorted({order + place for order in known for place in range(3)})
    lives = await queries.order_lives(connection, run.run_id, wanted)
    return tell(trade_row(found), of_trade(lives, known, number), run.currency or "USD", run.risk_per_trade)


def of_trade(lives: Sequence[OrderRow], known: set[int], number: int) -> list[OrderRow]:
    """The orders of a trade, by number. An entry that was refused left its trade's number to the next one."""
    entries = {order.order for order in lives if order.purpose == "entry" and _fills(order, number)}
    return sorted(
        (
            order
            for order in lives
            if (order.order in known and (order.purpose != "entry" or order.order in entries))
            or (order.purpose in ("stop", "target") and entries & {order.order - 1, order.order - 2})
        ),
        key=lambda order: order.order,
    )


def tell(trade: TradeRow, orders: Sequence[OrderRow], currency: str, asked: Decimal | None) -> TradeStory:
    """The story, from the trade and its orders with their lives. Money is in `currency`."""
    entry = next((order for order in orders if order.purpose == "entry"), None)
    intent = _step(entry, "intended")
    fills = sorted(
        (fill for order in orders for fill in _fill_rows(order, trade.trade)), key=lambda fill: fill.filled_at
    )
    return TradeStory(
        trade=trade,
        currency=currency,
        reason=intent.detail.get("reason") or None if intent else None,
        sizing=_sizing(intent.detail, asked) if intent else None,
        verdict=_verdict(entry),
        orders=list(orders),
        fills=fills,
        working=_working(trade, fills, currency),
    )


def _step(order: OrderRow | None, *states: str) -> OrderStep | None:
    return next((step for step in order.life if step.state in states), None) if order else None


def _fills(order: OrderRow, number: int) -> list[OrderStep]:
    return [step for step in order.life if step.state == "filled" and step.detail.get("trade") == number]


def _sizing(intent: dict[str, Any], asked: Decimal | None) -> Sizing | None:
    if intent.get("stop") is None:
        return None
    expected, stop, amount, risk = (Decimal(intent[name]) for name in ("expected", "stop", "amount", "risk"))
    distance = abs(expected - stop)
    in_quote = amount * distance
    rate = None if not in_quote else (risk / in_quote).quantize(_RATE_DIGITS)
    if rate is not None and abs(rate - 1) < _NEARLY_ONE:
        rate = Decimal(1)  # the quote currency is the account's; the rest is rounding to the cent
    return Sizing(
        asked=asked, expected=expected, stop=stop, distance=distance, rate=rate, amount=amount, risk=risk
    )


def _verdict(entry: OrderRow | None) -> VerdictGiven | None:
    step = _step(entry, "approved", "denied")
    if step is None:
        return None
    return VerdictGiven(
        approved=step.state == "approved",
        time=step.time,
        step=step.detail.get("step", 0),
        digest=step.detail.get("digest", ""),
        reasons=step.detail.get("reasons", []),
    )


def _fill_rows(order: OrderRow, number: int) -> Iterator[FillRow]:
    """A resting order is expected to fill at its price, as last accepted before; a market order at what the
    market was when it was decided."""
    decided = _step(order, "intended")
    for step in _fills(order, number):
        said = step.detail
        placed = [
            each.detail.get("price")
            for each in order.life[: order.life.index(step)]
            if each.state == "accepted" and each.detail.get("price") is not None
        ]
        text = placed[-1] if placed else decided.detail.get("expected") if decided else None
        expected = None if text is None else Decimal(text)
        price = Decimal(said["price"])
        worse = None
        if expected is not None:
            worse = price - expected if said["side"] == "buy" else expected - price
        yield FillRow(
            order=order.order,
            purpose=said["purpose"],
            side=said["side"],
            amount=Decimal(said["amount"]),
            price=price,
            expected=expected,
            worse_by=worse,
            rate=Decimal(said["rate"]),
            commission=Decimal(said["commission"]),
            slippage=Decimal(said["slippage"]),
            filled_at=datetime.fromisoformat(said["filled_at"]),
        )


def _working(trade: TradeRow, fills: Sequence[FillRow], currency: str) -> Working | None:
    """As the book books: entries at their average, each exit's gain rounded to the cent."""
    sign = 1 if trade.side == "long" else -1
    held = cost = commission = ZERO
    gains = []
    for fill in fills:
        commission += fill.commission
        if fill.purpose == "entry":
            held += fill.amount
            cost += fill.amount * fill.price
        elif held:
            amount = min(fill.amount, held)
            share = cost * amount / held
            gain = round_money(sign * (fill.price * amount - share) * fill.rate, currency)
            gains.append(
                GainRow(
                    entry_price=share / amount,
                    exit_price=fill.price,
                    amount=amount,
                    rate=fill.rate,
                    gain=gain,
                )
            )
            held -= amount
            cost -= share
    if not gains:
        return None
    pnl = sum((row.gain for row in gains), ZERO) - commission
    return Working(gains=gains, commission=commission, pnl=pnl, agrees=pnl == trade.pnl)

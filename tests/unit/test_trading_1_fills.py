"""TRADING 1: what fills do to a position, and what is done about those that nobody wanted."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from services.risk.guard import Guard
from services.shared.events import (
    OrderAccepted,
    OrderCancelled,
    OrderRejected,
    Reason,
    TradeClosed,
)
from services.shared.verdicts import digest
from services.trader.brokers.base import Accepted, Cancelled, Filled, NotFound, Rejected, Unknown
from services.trader.inputs import CommandInput
from services.trader.working import Cancel, Submit
from tests.order_scripts import FLAT, buy, holding_5000, leave, rest
from tests.paper_runs import MONDAY, WIDE, Deed, plan_of, run, scripted

D = Decimal


def _filled(order: int, fill: str, amount: int, price: str = "1.1") -> Filled:
    return Filled(
        order=order,
        fill=fill,
        amount=D(amount),
        price=D(price),
        time=MONDAY + timedelta(hours=3),
        commission=D(0),
        slippage=D(0),
        rate=D(1),
        reason="exit",
    )


def test_stop_and_close_both_filled_is_closed_at_once() -> None:
    """Two fills crossed at the broker: 5,000 long became 5,000 short, which nobody wanted."""
    loop = holding_5000()
    engine = loop.engine
    engine.orders.leave("EURUSD", fraction=1.0, reason="signal", urgent=False)
    engine.out.actions.clear()
    engine.on_update(Accepted(4, None, D(5000)))
    engine.on_update(_filled(4, "a", 5000))
    engine.on_update(_filled(2, "b", 5000, "1.098"))
    flip = engine.book.positions["EURUSD"]
    assert (flip.side, flip.amount, flip.trade) == ("short", D(5000), 2)
    sent = [action.ticket for action in engine.out.actions if isinstance(action, Submit)]
    assert [(ticket.side, ticket.amount, ticket.urgent) for ticket in sent] == [("buy", D(5000), True)]
    engine.on_update(_filled(sent[0].order, "c", 5000, "1.0981"))
    closed = [fact for fact in engine.out.facts if isinstance(fact, TradeClosed)]
    assert [(fact.trade, fact.pnl, fact.exit_reason) for fact in closed] == [
        (1, D("0.00"), "signal"),
        (2, D("-0.50"), "flip"),
    ]
    assert engine.book.flat


def test_an_open_position_is_never_added_to() -> None:
    record = run(plan_of([FLAT] * 6, scripted(buy)))
    assert [fill.purpose for fill in record.fills] == ["entry", "exit"]


def test_a_trade_is_from_flat_to_flat_with_prices_weighted_by_amount() -> None:
    up = (1.104, 1.104, 1.104, 1.104)
    deeds: dict[int, Deed] = {1: buy, 2: lambda ctx: ctx.exit(0.4), 4: leave}
    record = run(plan_of([FLAT, FLAT, FLAT, up, up, up], scripted(deeds)))
    trade = record.trades[0]
    assert [fill.amount for fill in record.fills] == [D(5000), D(2000), D(3000)]
    assert trade.exit_price == D("1.10240")
    assert (trade.amount, trade.pnl) == (D(5000), D("12.00"))


def test_the_stop_and_target_follow_what_is_left_of_the_position() -> None:
    down = (1.1, 1.1, 1.097, 1.097)
    deeds: dict[int, Deed] = {1: buy, 2: lambda ctx: ctx.exit(0.5)}
    record = run(plan_of([FLAT, FLAT, FLAT, down, FLAT], scripted(deeds)))
    amounts = [(order.purpose, order.amount) for order in record.of(OrderAccepted) if order.order in (2, 3)]
    assert amounts == [("stop", D(5000)), ("target", D(5000)), ("stop", D(2500)), ("target", D(2500))]
    assert [(fill.purpose, fill.amount) for fill in record.fills][-1] == ("stop", D(2500))
    assert record.engine.settled


def test_what_an_order_leaves_unfilled_is_cancelled_and_the_stops_amount_follows_the_fill() -> None:
    loop = plan_of([FLAT] * 3, scripted({1: buy})).loop("run-1")
    loop.start("test", None)
    report = loop.advance(next(iter(plan_of([FLAT] * 3).feed.steps())))
    order = report.judge[0]
    engine = loop.engine
    engine.orders.approve(order.order, digest(order), 1)
    engine.out.actions.clear()
    for news in (
        Accepted(1, None, D(5000)),
        _filled(1, "a", 2000),
        Accepted(2, 1.098, D(2000)),
        Accepted(3, 1.11, D(2000)),
    ):
        engine.on_update(news)
    assert engine.out.actions == [Cancel(1)]
    engine.on_update(Cancelled(1, Reason(code="cancelled", text="the rest")))
    cancelled = [fact for fact in engine.out.facts if isinstance(fact, OrderCancelled)]
    assert [fact.unfilled for fact in cancelled] == [D(3000)]
    engine.on_update(_filled(2, "b", 2000, "1.098"))
    engine.on_update(Cancelled(3, Reason(code="position_closed", text="closed")))
    assert engine.settled
    assert engine.book.balance == D("9996.00")


def test_the_rest_of_an_entry_that_fills_after_its_trade_was_closed_is_closed_at_once() -> None:
    loop = plan_of([FLAT] * 3, scripted({1: buy})).loop("run-1")
    loop.start("test", None)
    report = loop.advance(next(iter(plan_of([FLAT] * 3).feed.steps())))
    engine = loop.engine
    engine.orders.approve(1, digest(report.judge[0]), 1)
    engine.out.actions.clear()
    for news in (_filled(1, "a", 2000), _filled(2, "b", 2000, "1.098"), _filled(1, "c", 3000)):
        engine.on_update(news)
    assert engine.book.positions["EURUSD"].trade == 2
    exits = [action.ticket for action in engine.out.actions if isinstance(action, Submit)]
    assert [(ticket.side, ticket.amount) for ticket in exits] == [("sell", D(3000))]


def test_a_position_whose_stop_is_gone_at_the_broker_is_closed() -> None:
    loop = holding_5000()
    engine = loop.engine
    engine.on_update(Unknown(2))
    engine.on_update(NotFound(2))
    sent = [action.ticket for action in engine.out.actions if isinstance(action, Submit)]
    assert [(ticket.side, ticket.amount) for ticket in sent] == [("sell", D(5000))]


def test_an_entry_that_fills_although_it_was_cancelled_is_closed_when_the_run_is_ending() -> None:
    loop = plan_of([FLAT] * 5, scripted({1: rest})).loop("run-1")
    loop.start("test", None)
    steps = list(plan_of([FLAT] * 5).feed.steps())
    guard = Guard(WIDE)
    loop.conclude(guard.answer(loop.advance(steps[0])))
    loop.conclude(guard.answer(loop.advance(CommandInput("stop", "s"))))
    assert loop.finished
    loop.engine.on_update(_filled(1, "late", 1000, "1.09"))
    assert not loop.engine.book.flat
    loop.engine.settle()
    sent = [action.ticket for action in loop.engine.out.actions if isinstance(action, Submit)]
    assert [(ticket.side, ticket.amount) for ticket in sent] == [("sell", D(1000))]


def test_a_refused_exit_is_tried_again_until_it_is_flat() -> None:
    loop = holding_5000()
    engine = loop.engine
    engine.orders.leave("EURUSD", fraction=1.0, reason="signal", urgent=False)
    number = engine.state.orders.next_order - 1
    engine.out.actions.clear()
    engine.on_update(Rejected(number, Reason(code="busy", text="busy")))
    assert any(isinstance(fact, OrderRejected) for fact in engine.out.facts)
    engine.orders.follow_up()
    sent = [action.ticket for action in engine.out.actions if isinstance(action, Submit)]
    assert [(ticket.order, ticket.amount) for ticket in sent] == [(number + 1, D(5000))]

"""TRADING 5, the paper broker on bars. Sentence by sentence:

1. "A market order fills at the next bar's open, buys at ask, sells at bid, plus slippage" – a_market_order_....
2. "A long's stop and target watch the bid, a short's the ask" – a_longs_..., a_shorts_....
3. "An open beyond a stop or target fills at that open" – an_open_beyond_....
4. "Stop and target in one bar: the stop" – stop_and_target_.... "The report counts the ambiguous bars and gives
   the result with the target first beside it (figures)" – ambiguous_..., the_samples_figures_....
5. "An entry at the open may exit within its bar; an entry inside the bar may be stopped there but not reach
   its target" – an_entry_....
6. "A limit needs a tick through" – a_limit_....
7. "On a crossed row one buys at the higher and sells at the lower" – on_a_crossed_row_....
8. "No entry in the bar of an exit" – no_entry_....
9. "Defaults are never zero: spread 1.0, slippage 0.2 on market and stop fills" – the_defaults_..., a_wider_....
10. Issue 3: commission, margin, order-rate limit like a real broker's – the last ones.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from services.shared.commands import Costs, Deploy
from services.shared.events import OrderIntended, OrderRejected, Side
from services.trader.brokers.paper_account import PaperRules
from services.trader.inputs import CommandInput
from services.trader.plan import make_plan
from services.trader.strategies.base import Context
from tests.paper_runs import HOUR, MONDAY, Deed, Record, Row, plan_of, run, scripted

D = Decimal
FLAT = (1.1, 1.1, 1.1, 1.1)


def enter(
    side: Side = "buy",
    stop: float = 1.098,
    target: float | None = 1.105,
    *,
    limit: float | None = None,
    breakout: float | None = None,
) -> Deed:
    """A deed that enters."""
    return lambda ctx: ctx.enter(side, stop, target, limit=limit, breakout=breakout)


def trade_over(*rows: Row, deed: Deed | None = None, **options: object) -> Record:
    """A flat bar at whose end the deed is done, then `rows`, then a flat bar more."""
    return run(plan_of([FLAT, *rows, FLAT], scripted({1: deed or enter()}), **options))  # type: ignore[arg-type]


def both(bid: Row, ask: Row) -> Row:
    """A bar with its two sides."""
    return (*bid, *ask)


def test_a_market_order_fills_at_the_next_bars_open_buys_at_ask_sells_at_bid_plus_slippage() -> None:
    opened = (1.101, 1.1012, 1.1008, 1.1009)
    record = trade_over(opened, spread="2", slippage="0.5")
    assert (record.fills[0].price, record.fills[0].filled_at) == (D("1.10115"), MONDAY + HOUR)
    record = trade_over(opened, deed=enter("sell", 1.103, 1.09), spread="2", slippage="0.5")
    assert record.fills[0].price == D("1.10085")


BID_TOUCHES = both((1.1, 1.1, 1.0979, 1.1), (1.1004, 1.1004, 1.0983, 1.1004))
ASK_TOUCHES = both((1.1, 1.1018, 1.1, 1.1), (1.1004, 1.1022, 1.1004, 1.1004))
ASK_UP = both((1.1, 1.1048, 1.1, 1.1), (1.1004, 1.1052, 1.1004, 1.1004))
BID_UP = both((1.1, 1.1051, 1.1, 1.1), (1.1004, 1.1055, 1.1004, 1.1004))
QUIET = both(FLAT, (1.1004, 1.1004, 1.1004, 1.1004))


def over_sides(row: Row, deed: Deed) -> Record:
    """An entry filled in a quiet bar, then `row`, then a quiet bar."""
    return run(plan_of([QUIET, QUIET, row, QUIET], scripted({1: deed})))


@pytest.mark.parametrize(
    ("row", "reason"), [(BID_TOUCHES, "stop"), (BID_UP, "target"), (ASK_UP, "end_of_data")]
)
def test_a_longs_stop_and_target_watch_the_bid(row: Row, reason: str) -> None:
    assert over_sides(row, enter()).trades[0].exit_reason == reason


@pytest.mark.parametrize(
    ("row", "reason"), [(ASK_TOUCHES, "stop"), (BID_TOUCHES, "target"), (QUIET, "end_of_data")]
)
def test_a_shorts_stop_and_target_watch_the_ask(row: Row, reason: str) -> None:
    assert over_sides(row, enter("sell", 1.102, 1.0985)).trades[0].exit_reason == reason


@pytest.mark.parametrize(
    ("open_", "reason", "price"), [(1.09, "stop", "1.09000"), (1.11, "target", "1.11000")]
)
def test_an_open_beyond_stop_or_target_fills_at_that_open(open_: float, reason: str, price: str) -> None:
    trade = trade_over(FLAT, (open_,) * 4).trades[0]
    assert (trade.exit_reason, trade.exit_price) == (reason, D(price))
    assert trade.trade_time == MONDAY + 2 * HOUR


def test_a_stop_inside_the_bar_fills_at_its_price_at_the_bars_end() -> None:
    trade = trade_over(FLAT, (1.1, 1.1, 1.09, 1.1), slippage="0.3").trades[0]
    assert (trade.exit_price, trade.trade_time) == (D("1.09797"), MONDAY + 3 * HOUR)


WIDE_BAR = (1.1, 1.106, 1.097, 1.1)


def test_stop_and_target_in_one_bar_is_the_stop_and_the_bar_is_counted() -> None:
    record = trade_over(FLAT, WIDE_BAR)
    assert record.trades[0].exit_reason == "stop"
    assert record.paper.state.ambiguous == 1


def test_with_the_target_first_it_is_the_target_and_the_bar_is_counted_too() -> None:
    record = trade_over(FLAT, WIDE_BAR, rules=PaperRules(costs=Costs(), target_first=True))
    assert record.trades[0].exit_reason == "target"
    assert record.paper.state.ambiguous == 1


def test_a_bar_that_holds_only_one_of_them_is_not_ambiguous() -> None:
    record = trade_over(FLAT, (1.1, 1.1, 1.097, 1.1))
    assert record.paper.state.ambiguous == 0


def test_the_samples_figures_of_narrow_stops_lie_apart_by_what_is_ambiguous() -> None:
    """0.5 ATR stops, 1 R targets: a heavy loss with the stop first, about nothing with the target first."""
    command = Deploy(
        parameters={"stop_atr": "0.5", "target_r": "1", "trail_atr": "0"},
        costs=Costs(spread=D(1), slippage=D(0)),
    )
    plan = make_plan(command, feed="", mode="lockstep")
    sums = {}
    for first in (False, True):
        record = run(replace(plan, rules=replace(plan.rules, target_first=first)))
        sums[first] = sum(trade.r_multiple or D(0) for trade in record.trades)
        assert 60 < record.paper.state.ambiguous < 120
    assert sums[False] < -60
    assert sums[True] - sums[False] > 120


def test_an_entry_at_the_open_may_exit_within_its_bar_by_either() -> None:
    assert trade_over((1.1, 1.106, 1.1, 1.1)).trades[0].exit_reason == "target"
    assert trade_over((1.1, 1.1, 1.097, 1.1)).trades[0].exit_reason == "stop"


def test_an_entry_whose_open_is_beyond_its_stop_by_then_is_stopped_at_that_open() -> None:
    trade = trade_over((1.097, 1.097, 1.097, 1.097)).trades[0]
    assert (trade.entry_price, trade.exit_price, trade.exit_reason) == (D("1.09700"), D("1.09700"), "stop")


def test_an_entry_inside_the_bar_may_be_stopped_there_but_not_reach_its_target() -> None:
    breakout = enter("buy", 1.1, 1.104, breakout=1.102)
    stopped = trade_over((1.1005, 1.106, 1.0995, 1.1), deed=breakout).trades[0]
    assert (stopped.exit_reason, stopped.entry_time, stopped.trade_time) == (
        "stop",
        MONDAY + 2 * HOUR,
        MONDAY + 2 * HOUR,
    )
    held = trade_over((1.1005, 1.106, 1.1005, 1.103), (1.103, 1.103, 1.103, 1.103), deed=breakout)
    assert held.trades[0].exit_reason != "target"
    assert held.paper.state.ambiguous == 0


def test_an_entry_inside_a_bar_reaches_its_target_in_a_later_one() -> None:
    breakout = enter("buy", 1.1, 1.104, breakout=1.102)
    record = trade_over((1.1005, 1.106, 1.1005, 1.103), (1.103, 1.106, 1.103, 1.103), deed=breakout)
    assert record.trades[0].exit_reason == "target"


@pytest.mark.parametrize(("low", "fills"), [(1.095, False), (1.09499, True)])
def test_a_limit_needs_a_tick_through(low: float, fills: bool) -> None:
    record = trade_over((1.1, 1.1, low, 1.1), deed=enter("buy", 1.09, None, limit=1.095), slippage="1")
    assert bool(record.fills) == fills
    assert not fills or record.fills[0].price == D("1.09500")  # and does not slip


def test_a_target_needs_a_tick_through_as_well() -> None:
    assert trade_over(FLAT, (1.1, 1.105, 1.1, 1.1)).trades[0].exit_reason != "target"
    assert trade_over(FLAT, (1.1, 1.10501, 1.1, 1.1)).trades[0].exit_price == D("1.10500")


def test_a_stop_is_triggered_by_touching() -> None:
    assert trade_over(FLAT, (1.1, 1.1, 1.098, 1.1)).trades[0].exit_reason == "stop"


def test_on_a_crossed_row_one_buys_at_the_higher_and_sells_at_the_lower() -> None:
    crossed = both((1.1006,) * 4, (1.1,) * 4)
    record = run(plan_of([crossed] * 4, scripted({1: enter(), 2: lambda ctx: ctx.exit()})))
    assert [fill.price for fill in record.fills] == [D("1.10060"), D("1.10000")]


def test_no_entry_in_the_bar_of_an_exit() -> None:
    """Stopped inside a bar, the strategy enters at its end: that fills in the next bar."""

    def again(ctx: Context) -> None:
        if ctx.position() is None:
            ctx.enter("buy", 1.098, 1.105)

    down = (1.1, 1.1, 1.097, 1.1)
    record = run(plan_of([FLAT, FLAT, down, FLAT, FLAT], scripted(again)))
    times = [(fill.purpose, fill.filled_at) for fill in record.fills]
    assert times[1:3] == [("stop", MONDAY + 3 * HOUR), ("entry", MONDAY + 3 * HOUR)]
    bars = {step: fact.purpose for step, fact in record.facts if type(fact).__name__ == "OrderFilled"}  # type: ignore[union-attr]
    assert (bars[3], bars[4]) == ("stop", "entry")


def test_the_defaults_are_never_zero() -> None:
    costs = Deploy().costs
    assert (costs.spread, costs.slippage) == (D("1.0"), D("0.2"))
    fills = run(make_plan(Deploy(), feed="", mode="lockstep")).fills
    assert any(fill.slippage > 0 for fill in fills if fill.purpose == "entry")
    assert any(fill.slippage > 0 for fill in fills if fill.purpose == "stop")
    assert all(fill.slippage == 0 for fill in fills if fill.purpose == "target")


def test_a_wider_spread_costs_more_on_the_sample() -> None:
    results = []
    for spread in ("0", "1", "2"):
        command = Deploy(parameters={"trail_atr": "0"}, costs=Costs(spread=D(spread), slippage=D(0)))
        trades = run(make_plan(command, feed="", mode="lockstep")).trades
        results.append(sum(trade.r_multiple or D(0) for trade in trades))
    assert results[0] > results[1] > results[2]


def test_commission_is_per_million_traded_on_each_side() -> None:
    record = run(plan_of([FLAT] * 4, scripted({1: enter(), 2: lambda ctx: ctx.exit()}), commission="50"))
    assert [fill.commission for fill in record.fills] == [
        D("0.28")
    ] * 2  # 5,000 × 1.1 × 50 / 1,000,000 = 0.275
    assert record.paper.state.cash == record.engine.book.balance == D("9999.44")


def test_an_entry_that_needs_more_margin_than_is_free_is_rejected() -> None:
    record = run(plan_of([FLAT] * 4, scripted({1: enter()}), balance="100", leverage="30"))
    rejected = record.of(OrderRejected)[0].reason
    assert rejected.code == "margin"
    assert "183.33 USD, free are 100.00" in rejected.text
    assert record.fills == []


def test_margin_counts_what_is_held_and_what_it_has_gained() -> None:
    def enter_each(ctx: Context) -> None:
        ctx.enter("buy", 1.098)

    rows = [FLAT] * 5
    plan = plan_of({"EURUSD": rows, "GBPUSD": rows}, scripted(enter_each), balance="300", leverage="30")
    rejected = run(plan).of(OrderRejected)
    assert "183.33 USD, free are 116.67" in rejected[0].reason.text


def test_two_entries_faster_than_the_order_rate_are_one_too_many() -> None:
    rules = PaperRules(costs=Costs(), order_interval=timedelta(seconds=1))
    rows = [FLAT] * 5

    def enter_each(ctx: Context) -> None:
        ctx.enter("buy", 1.098)

    plan = plan_of({"EURUSD": rows, "GBPUSD": rows}, scripted({1: enter_each, 2: enter_each}), rules=rules)
    record = run(plan)
    assert [(fact.order, fact.reason.code) for fact in record.of(OrderRejected)] == [(4, "rate_limited")]
    assert {fact.instrument for fact in record.opened} == {"EURUSD"}


def test_exits_are_never_held_up_by_the_order_rate() -> None:
    rules = PaperRules(costs=Costs(), order_interval=timedelta(hours=2))
    rows = [FLAT] * 9

    def enter_each(ctx: Context) -> None:
        ctx.enter("buy", 1.098)

    plan = plan_of({"EURUSD": rows, "GBPUSD": rows}, scripted({1: enter_each, 8: enter_each}), rules=rules)
    record = run(plan, inputs={7: [CommandInput("stop", "s")]})
    assert len([order for order in record.of(OrderIntended) if order.purpose == "exit"]) == len(record.trades)
    assert record.engine.settled

"""TRADING 3, the trader's part of what is counted. Sentence by sentence:

1. "Initial risk = filled amount × |price at decision − first stop| × rate at decision; never changed later.
   r_multiple = pnl ÷ initial risk; null without a stop" – initial_risk_..., r_multiple_....
2. "pnl is net of spread, slippage, commission" – pnl_is_net_.... "outcome by its sign; breakeven counts as a
   trade and neither adds to nor ends a streak" – outcome_..., breakeven_....
3. "trade_time is the exit's time. A trade's equity is the balance after it; an equity event's includes the
   unrealised, longs marked at bid, shorts at ask" – the next four.
4. "Change in balance = sum of trades' pnl + sum of adjustments" – test_trading_3_balance.
5. "Drawdown = peak − equity, both with the unrealised. A run starts its own peak" – drawdown_..., a_run_....
6. "A run's equity = balance at deploy + the desk's own results" – a_run_....

Trading days, Sharpe and Sortino are `shared`'s (test_calendar, test_statistics), breaches the guard's.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from services.shared.events import Outcome, Side, TradeClosed
from services.trader.book import Book, Position
from services.trader.strategies.base import Context
from tests.paper_runs import MONDAY, Deed, plan_of, run, scripted

D = Decimal
FLAT = (1.1, 1.1, 1.1, 1.1)


def buy(ctx: Context) -> None:
    """A long of 5,000 with its stop 20 pips below."""
    ctx.enter("buy", 1.098)


def _trip(
    book: Book, amount: str, entry: str, exit_: str, *, first_stop: Decimal | None = None
) -> TradeClosed:
    position = Position(
        trade=book.trades + 1,
        instrument="EURUSD",
        side="long",
        strategy="test",
        entry_time=MONDAY,
        reference=D(entry),
        reference_rate=D(1),
        first_stop=first_stop,
        stop=None,
        target=None,
    )
    book.open(position)
    book.book_entry(position, D(amount), D(entry), D(0), D(0))
    book.book_exit(position, D(amount), D(exit_), D(1), D(0), D(0))
    return book.close(position, trade_time=MONDAY, exit_reason="test")


def booked(currency: str, *, amount: str, entry: str, exit_: str) -> Decimal:
    """The pnl of one round trip."""
    return _trip(Book(currency=currency, balance=D(1000), peak=D(1000)), amount, entry, exit_).pnl


def test_initial_risk_is_the_filled_amount_times_the_distance_at_the_decision_and_never_changes() -> None:
    gap = (1.1004, 1.1004, 1.1004, 1.1004)
    deeds: dict[int, Deed] = {1: buy, 2: lambda ctx: ctx.move_stop(1.0995)}
    record = run(plan_of([FLAT, gap, gap, gap], scripted(deeds)))
    assert record.opened[0].entry_price == D("1.10040")
    assert record.opened[0].initial_risk == record.trades[0].initial_risk == D("10.00")
    assert record.trades[0].stop == D("1.09800")


def test_r_multiple_is_pnl_over_initial_risk() -> None:
    up = (1.1011, 1.1011, 1.1011, 1.1011)
    trade = run(plan_of([FLAT, FLAT, up], scripted({1: buy}))).trades[0]
    assert (trade.pnl, trade.initial_risk, trade.r_multiple) == (D("5.50"), D("10.00"), D("0.550000"))


def test_r_multiple_is_null_without_a_stop() -> None:
    trade = _trip(Book(currency="USD", balance=D(1000), peak=D(1000)), "1000", "1.1", "1.2")
    assert trade.r_multiple is None
    assert trade.initial_risk == 0


def test_pnl_is_net_of_spread_slippage_and_commission_in_account_currency() -> None:
    kind = scripted({1: buy, 2: lambda ctx: ctx.exit()})
    plan = plan_of([FLAT] * 4, kind, spread="2", slippage="0.5", commission="30")
    record = run(plan)
    trade = record.trades[0]
    buy_at, sell_at = D("1.10015"), D("1.09985")
    assert [fill.price for fill in record.fills] == [buy_at, sell_at]
    costs = [(trade.amount * price * 30 / 1_000_000).quantize(D("0.01")) for price in (buy_at, sell_at)]
    assert trade.commission == sum(costs)
    assert trade.slippage == 2 * (trade.amount * D("0.00005")).quantize(D("0.01"))
    assert trade.pnl == (trade.amount * (sell_at - buy_at)).quantize(D("0.01")) - trade.commission


@pytest.mark.parametrize(("exit_", "outcome"), [("1.2", "win"), ("1.0", "loss"), ("1.1", "breakeven")])
def test_outcome_is_the_sign_of_pnl(exit_: str, outcome: Outcome) -> None:
    book = Book(currency="USD", balance=D(1000), peak=D(1000))
    assert _trip(book, "1000", "1.1", exit_).outcome == outcome


def test_breakeven_counts_as_a_trade_and_neither_adds_to_nor_ends_a_streak() -> None:
    book = Book(currency="USD", balance=D(1000), peak=D(1000))
    streaks = [
        _trip(book, "1000", "1.1", exit_).streak for exit_ in ("1.2", "1.1", "1.2", "1.0", "1.1", "1.0")
    ]
    assert streaks == [1, 1, 2, -1, -1, -2]
    assert book.trades == 6


def test_trade_time_is_the_exits_time() -> None:
    down = (1.1, 1.1, 1.097, 1.097)
    record = run(plan_of([FLAT, FLAT, down, FLAT], scripted({1: buy})))
    assert record.trades[0].trade_time == record.fills[-1].filled_at == MONDAY + timedelta(hours=3)
    assert record.trades[0].entry_time == MONDAY + timedelta(hours=1)


def test_a_trades_equity_is_the_balance_after_it() -> None:
    up = (1.102, 1.102, 1.102, 1.102)
    trade = run(plan_of([FLAT, FLAT, up], scripted({1: buy}))).trades[0]
    assert trade.equity == D("10010.00")


@pytest.mark.parametrize(("side", "stop"), [("buy", 1.09), ("sell", 1.11)])
def test_equity_includes_the_unrealised_longs_at_bid_and_shorts_at_ask(side: Side, stop: float) -> None:
    """Bought at the ask and marked at the bid, 3 pips below; the other way round for a short."""

    def enter(ctx: Context) -> None:
        ctx.enter(side, stop)

    wide = (1.1, 1.1, 1.1, 1.1, 1.1003, 1.1003, 1.1003, 1.1003)
    record = run(plan_of([wide] * 4, scripted({1: enter}), risk_per_trade="12"))
    mark = record.marks[1]
    amount = record.opened[0].amount
    assert mark.unrealised == (-amount * D("0.0003")).quantize(D("0.01"))
    assert mark.equity == mark.balance + mark.unrealised < mark.balance


def test_drawdown_is_peak_less_equity_both_with_the_unrealised() -> None:
    rows = [FLAT, (1.1, 1.104, 1.1, 1.104), (1.104, 1.104, 1.101, 1.101), (1.101, 1.101, 1.101, 1.101)]
    marks = run(plan_of(rows, scripted({1: buy}))).marks
    assert [mark.peak for mark in marks[:3]] == [D(10000), D(10020), D(10020)]
    assert [mark.drawdown for mark in marks[:3]] == [0, 0, D(15)]
    assert marks[-1].max_drawdown == D(15)


def test_open_risk_is_what_is_lost_from_entry_to_stop() -> None:
    deeds: dict[int, Deed] = {1: buy, 2: lambda ctx: ctx.move_stop(1.0995), 3: lambda ctx: ctx.exit(0.5)}
    record = run(plan_of([FLAT] * 5, scripted(deeds)))
    assert [mark.open_risk for mark in record.marks[:4]] == [0, D("2.50"), D("2.50"), D("1.25")]


def test_a_run_starts_at_its_balance_with_its_own_peak_and_adds_only_its_own_results() -> None:
    record = run(plan_of([FLAT] * 4, scripted({1: buy}), balance="2500", commission="100"))
    first, last = record.marks[0], record.marks[-1]
    assert (first.balance, first.peak) == (D(2500), D(2500))
    assert last.balance == D(2500) + sum(trade.pnl for trade in record.trades)


def test_the_balance_changes_by_each_trades_pnl_and_nothing_else() -> None:
    def turn(ctx: Context) -> None:
        if ctx.position() is None:
            ctx.enter("buy", ctx.quote.bid - 0.005)
        else:
            ctx.exit()

    rows = [(1.1 + k % 7 / 1000,) * 4 for k in range(40)]
    record = run(plan_of(rows, scripted(turn), spread="1", slippage="0.3", commission="25"))
    balances = [D(10000), *(trade.equity for trade in record.trades)]
    assert len(record.trades) > 10
    assert [after - before for before, after in pairwise(balances)] == [trade.pnl for trade in record.trades]
    assert record.paper.state.cash == record.engine.book.balance

"""Statistics: each against its definition, and None where there is none."""

from __future__ import annotations

import math
import statistics as reference
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.events import TradeClosed
from services.shared.statistics import Statistics, Totals, daily_returns, explanations, summarise

START = datetime(2024, 1, 2, 12, tzinfo=UTC)
OPENING = Decimal(10000)
CENTS = st.integers(-100_000, 100_000).map(lambda cents: Decimal(cents) / 100)


def closed(pnl: Decimal | str, *, r: str | None = "1", hours: int = 1) -> TradeClosed:
    money = Decimal(pnl)
    return TradeClosed(
        trade=1,
        instrument="EURUSD",
        side="long",
        amount=Decimal(1000),
        entry_time=START,
        entry_price=Decimal("1.1"),
        trade_time=START + timedelta(hours=hours),
        exit_price=Decimal("1.1"),
        stop=None,
        target=None,
        initial_risk=Decimal(10),
        pnl=money,
        outcome="win" if money > 0 else "loss" if money < 0 else "breakeven",
        r_multiple=None if r is None else Decimal(r),
        equity=OPENING + money,
        commission=Decimal("0.10"),
        slippage=Decimal("0.02"),
        exit_reason="target",
        strategy="donchian",
        streak=0,
    )


def totals(*trades: TradeClosed) -> Totals:
    counted = Totals()
    for trade in trades:
        counted.add(trade)
    return counted


def test_a_run_without_trades_has_nothing_but_counts_and_its_balance() -> None:
    result = summarise(Totals(), opening_balance=OPENING).model_dump()
    known = {name for name, value in result.items() if value is not None}
    assert known == {
        *("trades", "wins", "losses", "breakevens", "pnl", "adjustments", "gross_profit", "gross_loss"),
        *("commission", "slippage", "equity", "total_return", "days"),
    }


def test_each_trade_statistic_follows_its_definition() -> None:
    result = summarise(
        totals(closed("20", r="2"), closed("-10", r="-1"), closed("0", r="0"), closed("40", r="4", hours=5)),
        opening_balance=OPENING,
        span=timedelta(hours=16),
    )
    assert (result.trades, result.wins, result.losses, result.breakevens) == (4, 2, 1, 1)
    assert result.win_rate == 0.5
    assert result.profit_factor == 6
    assert result.expectancy == Decimal("12.5")
    assert result.expectancy_r == 1.25
    assert result.expectancy_r_error == pytest.approx(reference.stdev([2, -1, 0, 4]) / 2)
    assert [result.average_win, result.average_loss, result.payoff] == [30, -10, 3]
    assert [result.largest_win, result.largest_loss] == [40, -10]
    assert result.average_seconds_held == 2 * 3600
    assert result.exposure == 0.5
    assert (result.commission, result.slippage) == (Decimal("0.40"), Decimal("0.08"))
    assert [result.equity, result.total_return] == [10050, 0.005]


def test_profit_factor_without_losses_is_none() -> None:
    assert summarise(totals(closed("5")), opening_balance=OPENING).profit_factor is None


def test_a_trade_without_r_counts_in_money_only() -> None:
    result = summarise(totals(closed("5", r=None), closed("5", r="1")), opening_balance=OPENING)
    assert (result.trades, result.expectancy_r, result.expectancy_r_error) == (2, 1, None)


def test_alike_r_multiples_have_no_error_rather_than_a_negative_variance() -> None:
    result = summarise(totals(*[closed("1", r="0.3333")] * 3), opening_balance=OPENING)
    assert result.expectancy_r_error == pytest.approx(0, abs=1e-9)


def test_sharpe_and_sortino_are_none_under_20_days() -> None:
    days = [OPENING + n % 3 for n in range(20)]
    assert summarise(Totals(), opening_balance=OPENING, daily_equity=days[:19]).sharpe is None
    assert summarise(Totals(), opening_balance=OPENING, daily_equity=days[:19]).sortino is None
    assert summarise(Totals(), opening_balance=OPENING, daily_equity=days).sharpe is not None
    assert summarise(Totals(), opening_balance=OPENING, daily_equity=days).sortino is not None


@given(st.lists(st.integers(9000, 11000), min_size=20, max_size=80, unique=True))
def test_sharpe_and_sortino_follow_their_definitions(equities: list[int]) -> None:
    result = summarise(Totals(), opening_balance=OPENING, daily_equity=[Decimal(value) for value in equities])
    before = [10000, *equities]
    returns = [now / then - 1 for then, now in zip(before, equities, strict=False)]
    mean = reference.fmean(returns)
    assert result.sharpe == pytest.approx(mean / reference.stdev(returns) * math.sqrt(252), abs=1e-9)
    downside = math.sqrt(sum(min(value, 0) ** 2 for value in returns) / (len(returns) - 1))
    if downside:
        assert result.sortino == pytest.approx(mean / downside * math.sqrt(252), abs=1e-9)
    else:
        assert result.sortino is None


def test_a_flat_equity_has_no_sharpe_and_no_sortino() -> None:
    result = summarise(Totals(), opening_balance=OPENING, daily_equity=[OPENING] * 30)
    assert (result.sharpe, result.sortino) == (None, None)


def test_equity_at_nothing_has_no_daily_returns() -> None:
    days = [Decimal(value) for value in (5, 0, *range(30))]
    assert summarise(Totals(), opening_balance=OPENING, daily_equity=days).sharpe is None


def test_a_years_return_is_none_for_less_than_half_a_year() -> None:
    short = [OPENING + 100] * 125
    assert (
        summarise(Totals(), opening_balance=OPENING, daily_equity=short, equity=short[-1]).annual_return
        is None
    )
    result = summarise(
        Totals(), opening_balance=OPENING, daily_equity=[OPENING + 100] * 126, equity=OPENING + 100
    )
    assert result.annual_return == pytest.approx(1.01**2 - 1)


def test_drawdown_and_peak_are_the_books_and_in_percent_of_the_opening_balance() -> None:
    result = summarise(
        Totals(),
        opening_balance=OPENING,
        equity=Decimal(9900),
        peak=Decimal(10400),
        drawdown=Decimal(500),
        max_drawdown=Decimal(1500),
    )
    assert [result.peak, result.drawdown, result.max_drawdown, result.max_drawdown_percent] == [
        10400,
        500,
        1500,
        15,
    ]
    assert result.total_return == -0.01


def test_the_longest_streaks_are_those_the_trades_carry() -> None:
    streaks = [replace(closed("1"), streak=streak) for streak in (1, 2, -1, -2, -3, 1)]
    result = summarise(totals(*streaks), opening_balance=OPENING)
    assert (result.longest_win_streak, result.longest_loss_streak) == (2, 3)
    only_losses = summarise(totals(replace(closed("-1"), streak=-1)), opening_balance=OPENING)
    assert (only_losses.longest_win_streak, only_losses.longest_loss_streak) == (0, 1)


@given(st.lists(CENTS, max_size=30), st.randoms(use_true_random=False))
def test_totals_do_not_depend_on_the_order_of_trades(pnls: list[Decimal], order: object) -> None:
    trades = [closed(pnl, r=str(pnl / 10)) for pnl in pnls]
    shuffled = list(trades)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert totals(*trades) == totals(*shuffled)


@given(st.lists(CENTS, max_size=30), st.lists(CENTS, max_size=5))
def test_balance_is_opening_and_pnl_and_adjustments_to_the_cent(
    pnls: list[Decimal], changes: list[Decimal]
) -> None:
    counted = totals(*[closed(pnl) for pnl in pnls])
    for change in changes:
        counted.adjust(change)
    result = summarise(counted, opening_balance=OPENING)
    assert result.equity == OPENING + sum(pnls) + sum(changes)
    assert result.gross_profit - result.gross_loss == result.pnl


def test_money_goes_out_as_text_and_what_is_undefined_as_null() -> None:
    plain = summarise(totals(closed("5.00")), opening_balance=OPENING).model_dump(mode="json")
    assert plain["pnl"] == "5.00"
    assert plain["profit_factor"] is None


def test_every_statistic_is_explained() -> None:
    assert set(explanations()) == set(Statistics.model_fields)
    assert all(explanations().values())
    assert [field.name for field in fields(Totals)][:4] == ["trades", "wins", "losses", "breakevens"]


def test_a_run_without_a_day_has_no_returns() -> None:
    assert daily_returns(Decimal(10_000), []) == []

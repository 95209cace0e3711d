"""TRADING 2, sizing. Sentence by sentence:

1. "amount = risk ÷ (distance from the expected fill side, spread included, to the stop), in account currency,
   rounded down to the lot step" – the first three. "A stop nearer than 3 spreads: no trade" – the fourth.
2. "Conversion: ..." – the_rate_is_...; "none of these: deploy is refused"; "PnL converts at each exit fill's
   moment and rounds half-even to the currency's minor unit".
3. "Under the minimum: denied as undersized, naming the smallest risk that would trade; deploy computes this
   beforehand and warns (figures)" – undersized_..., the_outlook_....
4. "--min-amount trades the minimum as long as it risks at most 5 times what was asked" – min_amount_....
5. "Defaults on paper" – the_defaults_on_paper; and a balance is money: whole minor units.
"""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.launcher.backtest import plan_backtest, run_backtest
from services.launcher.backtest_report import assumptions
from services.shared import instruments
from services.shared.commands import Deploy
from services.shared.errors import InvalidInput
from services.shared.events import AlertRaised, OrderDenied, OrderIntended
from services.trader.outlook import size_outlook
from services.trader.plan import make_plan
from services.trader.sizing import Size, size_entry
from services.trader.strategies.base import Context
from tests.paper_runs import Deed, plan_of, run, scripted
from tests.unit.test_trading_3_counting import booked

D = Decimal
FLAT = (1.1, 1.1, 1.1, 1.1)
EURUSD = instruments.find("EURUSD")


def size(
    *,
    risk: str = "10",
    expected: str = "1.1",
    stop: str = "1.098",
    spread: str = "0",
    rate: str = "1",
    currency: str = "USD",
    min_amount: bool = False,
) -> Size:
    """A long of EURUSD."""
    return size_entry(
        instrument=EURUSD,
        side="buy",
        expected=D(expected),
        spread=D(spread),
        stop=D(stop),
        target=None,
        risk=D(risk),
        rate=D(rate),
        currency=currency,
        min_amount=min_amount,
    )


def test_amount_is_risk_over_the_distance_to_the_stop_in_account_currency() -> None:
    assert size().amount == D(5000)
    assert size(rate="0.5", currency="CHF").amount == D(10000)


def test_the_distance_is_from_the_expected_fill_side_spread_included() -> None:
    record = run(plan_of([FLAT] * 3, scripted({1: lambda ctx: ctx.enter("buy", 1.098)}), spread="1"))
    intent = record.of(OrderIntended)[0]
    assert intent.expected == D("1.10005")
    assert intent.amount == D(4878)  # 10 / 0.00205 = 4878.04…
    assert intent.risk == D("10.00")


def test_the_expected_fill_side_of_a_crossed_row_is_the_worse_one() -> None:
    crossed = (1.1001, 1.1001, 1.1001, 1.1001, 1.0999, 1.0999, 1.0999, 1.0999)
    for deed, worse in (
        (lambda ctx: ctx.enter("buy", 1.09), "1.10010"),
        (lambda ctx: ctx.enter("sell", 1.11), "1.09990"),
    ):
        record = run(plan_of([crossed] * 3, scripted({1: deed})))
        assert record.of(OrderIntended)[0].expected == D(worse)


@given(
    risk=st.decimals("0.01", "100000", places=2),
    distance=st.integers(1, 100_000),
    rate=st.decimals("0.001", "200", places=6),
)
def test_amount_is_rounded_down_to_the_lot_step(risk: Decimal, distance: int, rate: Decimal) -> None:
    stop = D("1.1") - distance * EURUSD.tick
    found = size(risk=str(risk), stop=str(stop), rate=str(rate))
    loss = distance * EURUSD.tick * rate
    assert found.amount % EURUSD.amount_step == 0
    assert found.amount * loss <= risk < (found.amount + EURUSD.amount_step) * loss


@pytest.mark.parametrize(("stop", "refused"), [("1.09971", True), ("1.0997", False)])
def test_a_stop_nearer_than_three_spreads_is_no_trade(stop: str, refused: bool) -> None:
    found = size(stop=stop, spread="0.0001", risk="100")
    assert (found.refusal is not None and found.refusal.code == "stop_too_near") == refused


def buy(ctx: Context) -> None:
    """A long of 10,000 with its stop 10 pips below, at a risk of 10 and a rate of 1."""
    ctx.enter("buy", 1.099)


def test_the_rate_is_1_where_the_quote_currency_is_the_accounts() -> None:
    record = run(plan_of([FLAT] * 4, scripted({1: buy})))
    assert {fill.rate for fill in record.fills} == {D(1)}


def test_the_rate_is_the_instruments_own_price_where_its_base_is_the_accounts() -> None:
    row = (125.0, 125.0, 125.0, 125.0)
    plan = plan_of([row] * 4, scripted({1: lambda ctx: ctx.enter("buy", 124.0)}), instrument="USDJPY")
    record = run(plan)
    assert {fill.rate for fill in record.fills} == {D("0.008")}
    assert record.opened[0].amount == D(1250)


@pytest.mark.parametrize(("name", "number", "rate"), [("USDCHF", "0.8", "0.8"), ("CHFUSD", "1.25", "0.8")])
def test_the_rate_is_what_was_given_otherwise(name: str, number: str, rate: str) -> None:
    plan = plan_of([FLAT] * 4, scripted({1: buy}), currency="CHF", rates={name: number})
    record = run(plan)
    assert {fill.rate for fill in record.fills} == {D(rate)}
    assert record.opened[0].amount == D(12500)


def test_without_a_rate_deploy_is_refused_naming_what_to_give() -> None:
    with pytest.raises(InvalidInput, match="--rates CHFUSD=FILE"):
        plan_of([FLAT] * 4, currency="CHF")


def test_pnl_converts_at_each_exit_fills_moment() -> None:
    rows = [(100.0,) * 4, (100.0,) * 4, (125.0,) * 4, (125.0,) * 4]
    deeds: dict[int, Deed] = {1: lambda ctx: ctx.enter("buy", 99.0)}
    record = run(plan_of(rows, scripted(deeds), instrument="USDJPY"))
    trade = record.trades[0]
    assert record.fills[-1].rate == D("0.008")
    assert trade.pnl == D(1000) * 25 * D("0.008")
    assert trade.initial_risk == D("10.00")  # at the rate of the decision, 0.01


@pytest.mark.parametrize(("move", "pnl"), [("1.00125", "0.12"), ("1.00135", "0.14"), ("0.99875", "-0.12")])
def test_pnl_rounds_half_even_to_the_minor_unit(move: str, pnl: str) -> None:
    """A hundred units, 0.00125 up: 0.125 dollars."""
    assert booked("USD", amount="100", entry="1.0", exit_=move) == D(pnl)


def test_an_account_in_yen_has_no_minor_digits() -> None:
    row, up = (150.0,) * 4, (150.0007,) * 4
    deeds: dict[int, Deed] = {1: lambda ctx: ctx.enter("buy", 149.0)}
    plan = plan_of(
        [row, row, up],
        scripted(deeds),
        instrument="USDJPY",
        currency="JPY",
        balance="1000000",
        risk_per_trade="1500",
    )
    trade = run(plan).trades[0]
    assert (trade.amount, trade.pnl) == (D(1500), D(2))  # 150.001 - 150.000 = 1.5 yen, to the even
    assert -trade.pnl.as_tuple().exponent == 0  # type: ignore[operator]


def test_an_account_in_francs_books_at_the_given_rate() -> None:
    up = (1.1023, 1.1023, 1.1023, 1.1023)
    plan = plan_of([FLAT, FLAT, up], scripted({1: buy}), currency="CHF", rates={"USDCHF": "0.9"})
    trade = run(plan).trades[0]
    assert trade.pnl == (trade.amount * D("0.0023") * D("0.9")).quantize(D("0.01"))


def test_under_the_minimum_is_denied_as_undersized_naming_the_smallest_risk_that_would_trade() -> None:
    record = run(plan_of([FLAT] * 4, scripted({1: buy}), risk_per_trade="0.99"))
    denied = record.of(OrderDenied)[0].reasons[0]
    assert denied.code == "undersized"
    assert "the smallest risk that would trade is 1.00 USD" in denied.text
    assert record.fills == []
    assert [alert.code for alert in record.of(AlertRaised)] == ["denied_undersized"]


def test_the_smallest_risk_named_does_trade() -> None:
    found = size(risk="0.5", stop="1.09777")
    assert found.refusal is not None
    smallest = found.refusal.text.split()[-2]
    assert size(risk=smallest, stop="1.09777").amount == EURUSD.min_amount


@pytest.mark.parametrize(("risk", "trades"), [("0.20", True), ("0.19", False)])
def test_min_amount_trades_the_minimum_as_long_as_it_risks_at_most_5_times_what_was_asked(
    risk: str, trades: bool
) -> None:
    found = size(risk=risk, stop="1.099", min_amount=True)
    assert (found.refusal is None) == trades
    assert not trades or found.amount == D(1000)


@pytest.mark.parametrize(
    ("risk", "least", "most"), [("1.00", "1", "1"), ("2.00", "0.80", "0.90"), ("5.00", "0.03", "0.05")]
)
def test_deploy_computes_beforehand_how_many_entries_would_be_undersized(
    risk: str, least: str, most: str
) -> None:
    """On the sample: 1.00 never trades, 2.00 at a sixth of the bars, 5.00 at 96 %."""
    outlook = size_outlook(make_plan(Deploy(risk_per_trade=D(risk)), feed="", mode="lockstep"), 5000)
    assert outlook.undersized is not None
    assert D(least) <= outlook.undersized <= D(most)
    assert outlook.risk_needed == D("4.83")


def test_the_outlook_warns_naming_the_risk_that_would_trade_at_95_percent_of_bars() -> None:
    plan = make_plan(Deploy(risk_per_trade=D(2)), feed="", mode="lockstep")
    outlook = size_outlook(plan)
    assert outlook.warning is not None
    assert f"{outlook.risk_needed} USD would trade" in outlook.warning
    enough = size_outlook(
        make_plan(Deploy(risk_per_trade=outlook.risk_needed or D(1)), feed="", mode="lockstep")
    )
    assert enough.undersized is not None
    assert enough.undersized <= D("0.05")
    assert enough.warning is None


def test_the_outlook_of_too_few_bars_says_nothing() -> None:
    outlook = size_outlook(plan_of([FLAT] * 4))
    assert (outlook.undersized, outlook.risk_needed, outlook.warning) == (None, None, None)


def test_the_defaults_on_paper() -> None:
    plan = make_plan(Deploy(), feed="", mode="lockstep")
    assert (plan.terms.balance, plan.terms.currency, plan.terms.risk_per_trade) == (D(10000), "USD", D(10))
    assert plan.terms.instruments == ("EURUSD",)
    assert (EURUSD.tick, EURUSD.min_amount, EURUSD.amount_step) == (D("0.00001"), D(1000), D(1))


@pytest.mark.parametrize(("balance", "currency"), [("10000.005", "USD"), ("1000000.5", "JPY")])
def test_a_balance_that_is_no_whole_number_of_minor_units_is_refused(balance: str, currency: str) -> None:
    row = (150.0,) * 4
    with pytest.raises(InvalidInput, match=f"balance: expected a multiple of .* {currency}"):
        plan_of([row] * 4, instrument="USDJPY", currency=currency, balance=balance)


@pytest.mark.parametrize(("risk", "warned"), [("2", True), ("10", False)])
def test_a_backtest_says_beforehand_that_entries_would_be_undersized(risk: str, warned: bool) -> None:
    result = run_backtest(plan_backtest(Deploy(risk_per_trade=D(risk)), ""))
    shown = dict(assumptions(result))
    assert ("Size" in shown) == warned
    assert not warned or "4.51 USD would trade at 95 %" in shown["Size"]

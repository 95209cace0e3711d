"""TRADING 7, strategies. Sentence by sentence:

1. "A strategy declares parameters (typed, with ranges and help), instruments, timeframes and warm-up bars" –
   parameters_..., a_strategy_is_refused_.... "It gets on_bar and on_fill; ctx has history, the true position,
   enter, exit, move_stop, and a JSON state" – the_context_..., the_state_....  "Warm-up bars cannot trade":
   test_trading_4.
2. "Built in: Donchian (trails its stop), EMA crossover, RSI mean reversion" – donchian_..., ema_..., rsi_....
3. "signals: id, instrument, side, stop, target or R, expiry. The same id twice is one signal; an expired one is
   refused" – the signal tests.
4. "One test strategy uses two instruments, two timeframes, a trailing stop and a half exit": test_restore.
   "desk strategy check": its own tests.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.shared.commands import Deploy, Signal
from services.shared.errors import InvalidInput
from services.shared.events import AlertRaised, CommandOutcome, OrderAccepted
from services.trader.inputs import SignalInput
from services.trader.plan import make_plan
from services.trader.strategies.base import Context, Strategy
from services.trader.strategies.catalogue import BUILT_IN
from tests.paper_runs import Deed, Record, plan_of, run, scripted

D = Decimal
FLAT = (1.1, 1.1, 1.1, 1.1)
NOW = datetime(2024, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize("kind", BUILT_IN.values(), ids=BUILT_IN)
def test_parameters_are_typed_with_ranges_and_help(kind: type[Strategy[Any]]) -> None:
    for field in kind.Parameters.model_fields.values():
        assert field.description
        assert field.metadata
        assert field.annotation in (int, float)


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"period": "1"}, "period"),
        ({"perriod": "20"}, "it knows: period, atr_period"),
        ({"stop_atr": "wide"}, "stop_atr"),
    ],
)
def test_a_parameter_out_of_range_or_unknown_is_refused_naming_it(
    parameters: dict[str, str], complaint: str
) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        make_plan(Deploy(parameters=parameters), feed="", mode="lockstep")


def test_a_strategy_is_refused_a_timeframe_the_bars_do_not_divide() -> None:
    with pytest.raises(InvalidInput, match="needs bars of 30m"):
        _with_timeframe("30m")


def _with_timeframe(text: str) -> None:
    from services.trader.plan import _check_timeframes
    from services.trader.strategies.base import make

    _check_timeframes(make(scripted({}, timeframes=(text,)), {}), 3600)


def test_the_context_has_history_by_instrument_and_the_true_position() -> None:
    seen: list[tuple[float, object]] = []

    def look(ctx: Context) -> None:
        held = ctx.position("EURUSD")
        seen.append((ctx.history("GBPUSD").close[-1], held and (held.side, held.amount, held.entry_price)))
        if ctx.instrument == "EURUSD":
            ctx.enter("buy", 1.098)

    rows = {"EURUSD": [FLAT] * 3, "GBPUSD": [(1.3, 1.3, 1.3, 1.3)] * 3}
    run(plan_of(rows, scripted(look)))
    assert seen[-1] == (1.3, ("long", D(5000), 1.1))


def test_history_is_as_long_as_was_declared_and_no_longer() -> None:
    lengths: list[int] = []
    run(plan_of([FLAT] * 6, scripted(lambda ctx: lengths.append(len(ctx.history())), look_back=4)))
    assert lengths == [1, 2, 3, 4, 4, 4]


def test_the_state_of_an_instrument_is_its_own_and_the_shared_one_everybodys() -> None:
    def count(ctx: Context) -> None:
        ctx.state["seen"] = ctx.state.get("seen", 0) + 1

    record = run(plan_of({"EURUSD": [FLAT] * 3, "GBPUSD": [FLAT] * 3}, scripted(count)))
    assert record.engine.state.memory == {"EURUSD": {"seen": 3}, "GBPUSD": {"seen": 3}, "*": {"bars": 6}}


def test_a_strategy_that_raises_ends_the_run_as_failed_and_flat() -> None:
    def fail(ctx: Context) -> None:
        raise ValueError("no idea")

    deeds: dict[int, Deed] = {1: lambda ctx: ctx.enter("buy", 1.098), 3: fail}
    record = run(plan_of([FLAT] * 6, scripted(deeds)))
    assert record.engine.state.phase == "FAILED"
    assert [trade.exit_reason for trade in record.trades] == ["failed"]
    assert "ValueError: no idea" in record.of(AlertRaised)[0].text


def test_exit_takes_a_fraction_above_0() -> None:
    record = run(plan_of([FLAT] * 4, scripted({2: lambda ctx: ctx.exit(0)})))
    assert record.engine.state.phase == "FAILED"


def _sample(strategy: str, **parameters: str) -> Record:
    return run(make_plan(Deploy(strategy=strategy, parameters=parameters), feed="", mode="lockstep"))


def test_donchian_breaks_out_and_trails_its_stop() -> None:
    record = _sample("donchian")
    assert len(record.trades) > 100
    moved: dict[int, list[Decimal]] = {}
    for order in record.of(OrderAccepted):
        if order.purpose == "stop" and order.price is not None:
            moved.setdefault(order.order, []).append(order.price if order.side == "sell" else -order.price)
    assert any(len(prices) > 3 for prices in moved.values())
    assert all(prices == sorted(prices) for prices in moved.values())


def test_ema_leaves_on_the_opposite_cross() -> None:
    assert {trade.exit_reason for trade in _sample("ema").trades} >= {"cross", "stop"}


def test_rsi_leaves_when_it_has_reverted() -> None:
    assert {trade.exit_reason for trade in _sample("rsi").trades} >= {"reverted", "stop"}


def _signal(number: str = "1", **fields: Any) -> SignalInput:
    given = {"id": number, "instrument": "EURUSD", "side": "buy", "stop": "1.098", **fields}
    return SignalInput(Signal.model_validate(given), NOW)


def _answers(record: Record) -> list[tuple[str, str]]:
    return [(fact.command_id, fact.state) for fact in record.of(CommandOutcome) if fact.verb == "signal"]


def test_a_signal_is_sized_guarded_protected_and_recorded() -> None:
    record = run(plan_of([FLAT] * 4), inputs={1: [_signal(target="1.105")], 2: [_signal("2", side="close")]})
    assert (record.opened[0].amount, record.opened[0].stop, record.opened[0].target) == (
        D(5000),
        D("1.09800"),
        D("1.10500"),
    )
    assert [trade.exit_reason for trade in record.trades] == ["signal"]
    assert _answers(record) == [("1", "done"), ("2", "done")]


def test_a_signals_target_may_be_given_in_r() -> None:
    record = run(plan_of([FLAT] * 4), inputs={1: [_signal(r="2")]})
    assert record.opened[0].target == D("1.10400")


def test_the_same_id_twice_is_one_signal() -> None:
    record = run(plan_of([FLAT] * 4), inputs={1: [_signal(), _signal()]})
    assert _answers(record) == [("1", "done")]
    assert len(record.opened) == 1


def test_an_expired_signal_is_refused() -> None:
    late = _signal(expires=(NOW - timedelta(seconds=1)).isoformat())
    record = run(plan_of([FLAT] * 4), inputs={1: [late]})
    assert _answers(record) == [("1", "rejected")]
    assert record.opened == []


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"instrument": "GBPUSD"}, "not deployed"),
        ({"side": "close", "stop": None}, "no position in EURUSD to close"),
    ],
)
def test_a_signal_that_cannot_be_carried_out_is_refused_with_the_reason(
    fields: dict[str, str], complaint: str
) -> None:
    record = run(plan_of([FLAT] * 4), inputs={1: [_signal(**fields)]})
    assert _answers(record) == [("1", "rejected")]
    assert complaint in record.of(CommandOutcome)[-1].reason


def test_a_signal_that_is_too_small_to_trade_is_refused_with_the_reason() -> None:
    record = run(plan_of([FLAT] * 4, risk_per_trade="0.5"), inputs={1: [_signal()]})
    assert _answers(record) == [("1", "rejected")]
    assert "smallest risk that would trade" in record.of(CommandOutcome)[-1].reason


def test_a_strategy_that_takes_no_signals_says_so() -> None:
    plan = replace(plan_of([FLAT] * 4), kind=scripted({}))
    record = run(plan, inputs={1: [_signal()]})
    assert _answers(record) == [("1", "rejected")]
    assert "takes no signals" in record.of(CommandOutcome)[-1].reason

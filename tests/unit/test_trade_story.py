"""A trade's story is told from its orders: what they say is worked out, what they don't is left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from services.api.answers.records import OrderRow, OrderStep, TradeRow
from services.api.console.story import denied_orders, story, streak
from services.api.trade_story import of_trade, tell

D = Decimal
START = datetime(2017, 4, 20, 8, tzinfo=UTC)


def _trade(**changes: Any) -> TradeRow:
    known: dict[str, Any] = {
        "run_id": "run-1", "seq": 40, "trade": 3, "instrument": "EURUSD", "side": "long", "amount": D(3000),
        "entry_time": START, "entry_price": D("1.07431"), "trade_time": START + timedelta(hours=6),
        "exit_price": D("1.07831"), "stop": D("1.07147"), "target": None, "initial_risk": D("8.52"),
        "pnl": D("11.80"), "outcome": "win", "r_multiple": D("1.384976"), "equity": D("10011.80"),
        "commission": D("0.20"), "slippage": D("0.07"), "exit_reason": "signal", "strategy": "donchian",
        "streak": 2,
    }  # fmt: skip
    return TradeRow(**{**known, **changes})


def _order(number: int, purpose: str, *life: tuple[str, dict[str, Any]]) -> OrderRow:
    steps = [
        OrderStep(state=state, time=START + timedelta(minutes=place), detail=said)
        for place, (state, said) in enumerate(life)
    ]
    return OrderRow(
        run_id="run-1", order=number, state=steps[-1].state, instrument="EURUSD", purpose=purpose, side="buy",
        kind="market", amount=D(3000), price=None, life=steps,
    )  # fmt: skip


def _fill(order: int, purpose: str, amount: str, price: str, hour: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "order": order, "fill": f"f{order}", "trade": 3, "instrument": "EURUSD", "purpose": purpose,
        "side": "buy" if purpose == "entry" else "sell", "amount": amount, "price": price, "rate": "1",
        "commission": "0.10", "slippage": "0.02", "filled_at": (START + timedelta(hours=hour)).isoformat(),
        **changes,
    }  # fmt: skip


INTENT = {
    "order": 7, "trade": 3, "purpose": "entry", "expected": "1.07429", "stop": "1.07145", "amount": "3000",
    "risk": "8.52", "price": None, "reason": "close beyond 20 bars",
}  # fmt: skip
ENTRY = _order(
    7,
    "entry",
    ("intended", INTENT),
    ("approved", {"order": 7, "step": 24, "digest": "abc"}),
    ("filled", _fill(7, "entry", "3000", "1.07431")),
)
STOP = _order(8, "stop", ("accepted", {"price": "1.07145"}), ("cancelled", {"unfilled": "3000"}))
HALF = _order(
    10, "exit", ("intended", {"trade": 3, "expected": "1.07631"}),
    ("filled", _fill(10, "exit", "1000", "1.07630", 3, commission="0")),
)  # fmt: skip
REST = _order(
    11, "exit", ("intended", {"trade": 3, "expected": "1.07931"}),
    ("filled", _fill(11, "exit", "2000", "1.07931", 6)),
)  # fmt: skip


def test_the_result_is_worked_out_again_from_the_fills_a_partial_exit_at_a_time() -> None:
    told = tell(_trade(pnl=D("11.79")), [ENTRY, STOP, HALF, REST], "USD", D(10))
    assert told.working is not None
    # (1.07630 - 1.07431) * 1000 = 1.99 and (1.07931 - 1.07431) * 2000 = 10.00, less 0.20
    assert [row.gain for row in told.working.gains] == [D("1.99"), D("10.00")]
    assert (told.working.commission, told.working.pnl, told.working.agrees) == (D("0.20"), D("11.79"), True)


def test_a_booking_that_the_fills_do_not_explain_is_said() -> None:
    told = tell(_trade(pnl=D("12.79")), [ENTRY, HALF, REST], "USD", D(10))
    assert told.working is not None
    assert not told.working.agrees
    assert "it is not what was booked" in story(told)["html"]


def test_a_short_gains_when_it_buys_back_lower() -> None:
    entry = _order(7, "entry", ("filled", _fill(7, "entry", "3000", "1.07431", side="sell")))
    back = _order(10, "exit", ("filled", _fill(10, "exit", "3000", "1.07031", 3, side="buy", rate="0.5")))
    told = tell(_trade(side="short"), [entry, back], "USD", None)
    assert told.working is not None
    assert [row.gain for row in told.working.gains] == [D("6.00")]
    assert "(1.07431 entry − 1.07031 exit) × 3,000 × rate 0.5 = +6.00 USD" in story(told)["html"]


def test_sizing_and_verdict_are_the_entrys() -> None:
    told = tell(_trade(), [ENTRY, STOP, HALF, REST], "USD", D(10))
    assert told.sizing is not None
    assert (told.sizing.distance, told.sizing.rate, told.sizing.risk) == (D("0.00284"), D(1), D("8.52"))
    assert told.verdict is not None
    assert (told.verdict.approved, told.verdict.digest, told.reason) == (True, "abc", "close beyond 20 bars")


def test_fills_are_measured_by_the_price_their_order_was_placed_at() -> None:
    moved = _order(
        8, "stop", ("accepted", {"price": "1.07145"}), ("accepted", {"price": "1.07300"}),
        ("filled", _fill(8, "stop", "3000", "1.07290", 2)),
    )  # fmt: skip
    told = tell(_trade(), [ENTRY, moved], "USD", None)
    assert [(fill.expected, fill.worse_by) for fill in told.fills] == [
        (D("1.07429"), D("0.00002")),
        (D("1.07300"), D("0.00010")),
    ]


def test_an_entry_that_was_refused_and_left_its_number_is_not_the_trades() -> None:
    refused = _order(4, "entry", ("intended", {**INTENT, "order": 4}), ("denied", {"reasons": []}))
    unrelated = _order(9, "entry", ("intended", {"trade": 4}))
    found = of_trade([REST, STOP, ENTRY, HALF, refused, unrelated], {4, 7, 10, 11}, 3)
    assert [order.order for order in found] == [7, 8, 10, 11]


def test_a_trade_without_orders_has_a_story_of_what_is_known() -> None:
    told = tell(_trade(r_multiple=None), [], "USD", None)
    assert (told.sizing, told.verdict, told.fills, told.working) == (None, None, [], None)
    shown = story(told)
    assert shown["title"] == "Trade 3: long 3,000 EURUSD, +11.80 USD"
    assert "Nothing of it is recorded" in shown["html"]


def test_what_a_strategy_or_a_guard_writes_is_no_markup() -> None:
    evil = "<img src=x onerror=alert(1)>"
    intent = {**INTENT, "reason": evil}
    denied = _order(7, "entry", ("intended", intent), ("denied", {"reasons": [{"code": "x", "text": evil}]}))
    told = tell(_trade(exit_reason=evil, strategy=evil), [denied], "USD", D(10))
    for html in (story(told)["html"], denied_orders([denied], "run<b>", more=False)):
        assert "<img" not in html
        assert "<b>" not in html


def test_a_streak_is_said_in_words() -> None:
    assert streak(_trade(streak=1)) == "the first win"
    assert streak(_trade(streak=-3, outcome="loss")) == "3 losses in a row"
    assert streak(_trade(streak=2, outcome="breakeven")).startswith("as before")

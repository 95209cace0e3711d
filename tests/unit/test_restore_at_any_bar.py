"""Promise 3 in memory: a run restored from its snapshot at any bar goes on to the last fact as if it had not been.

TRADING 7's test strategy, over synthetic prices of two instruments, with the real guard restored as well.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import cache

import pytest

from services.risk.guard import Guard
from services.shared.events import Body, OrderAccepted, OrderFilled, TradeClosed
from services.shared.limits import parse
from services.trader.brokers.faulty import FaultRules
from services.trader.feeds.base import MarketStep
from services.trader.inputs import EndOfData
from services.trader.loop import STATE, TradingLoop
from services.trader.plan import Plan
from tests.paper_runs import plan_of
from tests.strategies.pair_trend import PairTrend

BARS = 170
LIMITS = parse({"daily_loss": "4x", "losing_streak": "6"})


def _prices(seed: int, middle: float, digits: int) -> list[tuple[float, ...]]:
    """A random walk of bars with their own spread."""
    chance = random.Random(seed)
    rows, close, trend = [], middle, 0.0
    for _ in range(BARS):
        trend = 0.9 * trend + chance.gauss(0, 0.0004)
        open_ = close * (1 + chance.gauss(0, 0.0002))
        close = open_ * (1 + trend + chance.gauss(0, 0.001))
        high = max(open_, close) * (1 + abs(chance.gauss(0, 0.0006)))
        low = min(open_, close) * (1 - abs(chance.gauss(0, 0.0006)))
        spread = middle * 0.00008 * (1 + chance.random())
        bid = [round(price, digits) for price in (open_, high, low, close)]
        rows.append((*bid, *(round(price + spread, digits) for price in bid)))
    return rows


@cache
def _plan(faulty: bool) -> Plan:
    prices = {"EURUSD": _prices(5, 1.1, 5), "USDJPY": _prices(6, 150.0, 3)}
    plan = plan_of(prices, PairTrend, slippage="0.2", commission="20", risk_per_trade="20")
    return replace(plan, faults=FaultRules(seed=4, share=0.5)) if faulty else plan


def _drive(loop: TradingLoop, guard: Guard, steps: list[MarketStep]) -> list[list[Body]]:
    """The facts of each step to the end, the data's end included."""
    told = []
    for given in [*steps, *[EndOfData()] * 12, None]:
        if given is not None and loop.finished:
            continue
        report = loop.advance(given)
        loop.conclude(guard.answer(report))
        told.append(list(report.facts))
    assert loop.finished
    return told


@pytest.mark.parametrize("faulty", [False, True], ids=["clean", "faulty"])
def test_a_run_restored_at_any_bar_states_the_same_facts_as_one_that_was_not(faulty: bool) -> None:
    plan = _plan(faulty)
    steps = list(plan.feed.steps())
    loop, guard = plan.loop("run-1"), Guard(LIMITS)
    loop.start("test", None)
    snapshots = []
    for step in steps:
        loop.conclude(guard.answer(loop.advance(step)))
        kept = json.dumps(guard.snapshot())
        snapshots.append((STATE.dump_json(loop.snapshot()), list(loop.carried), kept))
    whole_loop = plan.loop("run-1")
    whole_loop.start("test", None)
    whole = _drive(whole_loop, Guard(LIMITS), steps)
    assert len(whole) > BARS
    for cursor, (state, carried, kept) in enumerate(snapshots, 1):
        restored = plan.loop("run-1", STATE.validate_json(state), cursor)
        restored.carry(carried)
        rest = _drive(restored, Guard.restore(json.loads(kept)), steps[cursor:])
        assert rest == whole[cursor:], f"restored after step {cursor}"


def test_the_strategy_of_that_test_does_all_it_is_there_for() -> None:
    plan = _plan(False)
    loop, guard = plan.loop("run-1"), Guard(LIMITS)
    loop.start("test", None)
    facts = [fact for step in _drive(loop, guard, list(plan.feed.steps())) for fact in step]
    trades = [fact for fact in facts if isinstance(fact, TradeClosed)]
    fills = [fact for fact in facts if isinstance(fact, OrderFilled)]
    halves = {
        fill.trade for fill in fills if fill.purpose == "exit" and fill.amount * 2 <= _opened(trades, fill)
    }
    stops = [fact for fact in facts if isinstance(fact, OrderAccepted) and fact.purpose == "stop"]
    assert {trade.instrument for trade in trades} == {"EURUSD", "USDJPY"}
    assert len(trades) >= 12
    assert len(halves) >= 3
    assert len(stops) > len(trades) * 2
    assert any(trade.exit_reason == "stop" and trade.trade in halves for trade in trades)


def _opened(trades: list[TradeClosed], fill: OrderFilled) -> int:
    return next((int(trade.amount) for trade in trades if trade.trade == fill.trade), 0)

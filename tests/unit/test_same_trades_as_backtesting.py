"""Our engine against an independent one: backtesting.py makes the same trades of the same levels and bars."""

from __future__ import annotations

import warnings
from dataclasses import replace

from tests.bench import engine_bench


def test_every_trade_is_backtestings_trade_by_bars_prices_and_pnl() -> None:
    plan = engine_bench._plan()
    ours = engine_bench.our_trips(plan, list(plan.feed.steps()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = engine_bench.their_trips(engine_bench._theirs().run())
    assert len(ours) > 150
    assert engine_bench.differences(ours, theirs) == []


def test_a_trade_off_by_a_tick_or_a_bar_is_seen() -> None:
    trip = engine_bench.Trip(3, 7, 1.1, 1.2, 100.0)
    assert engine_bench.differences([trip], [trip]) == []
    for other in (replace(trip, exit_bar=8), replace(trip, exit_price=1.20001), replace(trip, pnl=100.01)):
        assert engine_bench.differences([trip], [other]) == [(trip, other)]
    assert engine_bench.differences([trip], []) == [(trip, None)]

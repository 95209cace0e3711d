"""Over a bad line to the broker no order is ever doubled, and the run ends flat with the broker's own cash.

Faults fall by seed and order number: timeout after accept, an order lost, duplicates, reordering, a
disconnection, a partial fill. Nothing is stood in for: the loop, the real guard, real prices.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from functools import cache

import pytest

from services.shared.commands import Deploy
from services.shared.events import OrderFilled, OrderIntended, TradeClosed
from services.trader.brokers.faulty import FAULTS, Fault, FaultRules, FaultyBroker
from services.trader.brokers.paper import PaperBroker
from services.trader.plan import Plan, make_plan
from tests.paper_runs import Record, run

SEEDS = 240
BARS = 160


class _FirstBars:
    """The first bars of a feed, from one place on."""

    def __init__(self, plan: Plan, start: int) -> None:
        self._feed = plan.feed
        self._steps = [step for _, step in zip(range(BARS), plan.feed.steps(start), strict=False)]

    def steps(self, start: int = 0) -> list[object]:
        """The steps."""
        return list(self._steps[start:])

    @property
    def rate_pairs(self) -> tuple[str, ...]:
        """None."""
        return ()


@cache
def _plan(start: int) -> Plan:
    """A strategy that trades often, over some bars of the sample."""
    command = Deploy(strategy="donchian", parameters={"period": "4", "trail_atr": "1.5", "stop_atr": "1"})
    plan = make_plan(command, feed="", mode="lockstep")
    return replace(plan, feed=_FirstBars(plan, start))  # type: ignore[arg-type]


def _run(faults: FaultRules | None, start: int = 0) -> Record:
    return run(replace(_plan(start), faults=faults))


def _check(record: Record) -> None:
    """What must hold of any run, whatever went wrong on the way."""
    assert record.engine.finished
    paper = record.paper
    assert paper.state.positions == {}
    assert paper.state.orders == {}
    assert paper.state.cash == record.engine.book.balance
    fills = record.fills
    assert len({fill.fill for fill in fills}) == len(fills) == paper.state.fills
    entered = Counter(fill.trade for fill in fills if fill.purpose == "entry")
    assert set(entered.values()) <= {1}, "an entry was doubled"
    assert len(entered) == len(record.opened) == len(record.trades)
    sums: Counter[str] = Counter()
    for fill in fills:
        sums[fill.instrument] += int(fill.amount) * (1 if fill.side == "buy" else -1)
    assert set(sums.values()) <= {0}
    sent = Counter(order.order for order in record.of(OrderIntended))
    assert set(sent.values()) == {1}
    assert sum(trade.pnl for trade in record.trades) == record.engine.book.balance - 10000


def test_no_order_is_doubled_and_every_run_ends_flat_over_240_seeds() -> None:
    seen: Counter[Fault | None] = Counter()
    trades = 0
    for seed in range(SEEDS):
        faults = FaultRules(seed=seed, share=0.6)
        record = _run(faults, start=seed % 8 * 100)
        _check(record)
        trades += len(record.trades)
        seen.update(faults.of(order.order) for order in record.of(OrderIntended))
    assert trades > 5 * SEEDS
    assert all(seen[fault] > 100 for fault in FAULTS), seen


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_survives_a_fault_on_every_order(fault: Fault) -> None:
    if fault == "lost":
        record = _run(FaultRules(seed=1, share=0.9, faults=("lost",)))
    else:
        record = _run(FaultRules(seed=1, share=1.0, faults=(fault,)))
    _check(record)


@pytest.mark.parametrize("fault", ["timeout", "duplicate", "reorder"])
def test_faults_of_the_line_alone_change_no_trade(fault: Fault) -> None:
    """What was accepted late, said twice or in another order was still filled where it was filled."""
    clean = _run(None)
    record = _run(FaultRules(seed=3, share=1.0, faults=(fault,)))

    first, same = clean.trades[0], record.trades[0]
    assert (same.entry_time, same.side, same.entry_price) == (first.entry_time, first.side, first.entry_price)
    assert len(record.trades) > 3


def test_the_same_seed_gives_the_same_run() -> None:
    runs = [_run(FaultRules(seed=11)) for _ in range(2)]
    assert runs[0].facts == runs[1].facts


def test_no_faults_are_the_paper_broker_to_the_last_fact() -> None:
    clean, faulty = _run(None), _run(FaultRules(seed=1, share=0.0))
    assert isinstance(faulty.loop.broker, FaultyBroker)
    assert clean.facts == faulty.facts


def test_a_plan_has_no_faults_unless_a_test_puts_them_in() -> None:
    plan = make_plan(Deploy(), feed="", mode="lockstep")
    assert plan.faults is None
    assert type(plan.loop("r").broker) is PaperBroker
    assert not any("fault" in name for name in Deploy.model_fields)


def test_a_partial_fill_halves_the_trade_and_its_stop() -> None:
    record = _run(FaultRules(seed=1, share=1.0, faults=("partial",)))
    intended = {order.order: order.amount for order in record.of(OrderIntended)}
    for fill in record.of(OrderFilled):
        if fill.purpose == "entry":
            assert fill.amount == intended[fill.order] // 2
    assert all(isinstance(trade, TradeClosed) and trade.amount > Decimal(0) for trade in record.trades)

"""The engine against backtesting.py: the same bars, strategy and levels, fixed size, no costs, equal trades.

Ours is the backtest's loop as it is, with the guard handed in and equity marked at each bar; theirs is
`Backtest.run()`. Both take prices that are in memory, both sides alternate, and what is compared is the
median of five. Trades are held against each other first: entry and exit bar, prices, and pnl to 1e-9.
"""

from __future__ import annotations

import gc
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pandas as pd

from services.risk.guard import Guard
from services.shared.commands import Costs, Deploy
from services.shared.events import TradeClosed, TradeOpened
from services.shared.verdicts import Answer, StepReport
from services.trader.brokers.paper import PaperBroker
from services.trader.brokers.paper_account import PaperRules
from services.trader.engine import Engine
from services.trader.feeds.base import MarketStep
from services.trader.feeds.replay import sample_path
from services.trader.loop import TradingLoop, run_to_end
from services.trader.plan import Plan, make_plan
from services.trader.rates import Rates
from services.trader.sizing import Size
from services.trader.strategies.base import make

REPEATS = 5
SIZE = 1000
PERIOD, ATR, STOP, TARGET = 20, 14, 2.0, 2.0


@dataclass(frozen=True, slots=True)
class Trip:
    """One trade, by the bars it was entered and left in."""

    entry_bar: int
    exit_bar: int
    entry_price: float
    exit_price: float
    pnl: float


def _plan() -> Plan:
    parameters = {"period": PERIOD, "atr_period": ATR, "stop_atr": STOP, "target_r": TARGET, "trail_atr": 0}
    none = Costs(spread=Decimal(0), slippage=Decimal(0), leverage=Decimal(1000))
    command = Deploy(
        parameters={name: str(value) for name, value in parameters.items()}, weekend="hold", costs=none
    )
    rules = PaperRules(costs=none, limit_through=0)
    return make_plan(command, feed="", mode="lockstep", rules=rules)


def _fixed(*, rate: Decimal, expected: Decimal, stop: Decimal, **_: Any) -> Size:
    return Size(Decimal(SIZE), SIZE * abs(expected - stop) * rate)


def _drive(
    plan: Plan, steps: list[MarketStep], hear: Callable[[StepReport, Answer], None] | None = None
) -> None:
    """The backtest: engine, paper broker and guard in the one loop, at fixed size."""
    terms = plan.terms
    rates = Rates(terms.currency, terms.instruments)
    engine = Engine(terms, make(plan.kind, plan.command.parameters), rates, sizing=_fixed)
    broker = PaperBroker(plan.rules, terms.currency, rates, engine.state.quotes, balance=terms.balance)
    loop = TradingLoop("bench", engine, broker)
    loop.start("bench", None)
    run_to_end(loop, steps, Guard(), hear)


def our_trips(plan: Plan, steps: list[MarketStep]) -> list[Trip]:
    """Our trades; a step is a bar, and the end of data belongs to the last."""
    last = len(steps) - 1
    opened: dict[int, int] = {}
    trips: list[Trip] = []

    def hear(report: StepReport, answer: Answer) -> None:
        bar = min(report.step - 1, last)
        for fact in report.facts:
            if isinstance(fact, TradeOpened):
                opened[fact.trade] = bar
            elif isinstance(fact, TradeClosed):
                prices = float(fact.entry_price), float(fact.exit_price)
                trips.append(Trip(opened[fact.trade], bar, *prices, float(fact.pnl)))

    _drive(plan, steps, hear)
    return trips


def _theirs() -> Any:
    """backtesting.py's side: the same strategy, its indicators vectorised as its manual has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from backtesting import Backtest, Strategy

    class Donchian(Strategy):  # type: ignore[misc]
        def init(self) -> None:
            high, low, close = (self.data[name].s for name in ("High", "Low", "Close"))
            before = close.shift(1)
            ranges = pd.concat([high - low, (high - before).abs(), (low - before).abs()], axis=1).max(axis=1)
            self.highest = self.I(lambda: high.rolling(PERIOD).max().shift(1).values, plot=False)
            self.lowest = self.I(lambda: low.rolling(PERIOD).min().shift(1).values, plot=False)
            self.atr = self.I(lambda: ranges.rolling(ATR).mean().values, plot=False)

        def next(self) -> None:
            if self.position or len(self.data) == bars:  # an order at the last bar has no bar to fill in
                return
            close, distance = self.data.Close[-1], STOP * self.atr[-1]
            if close > self.highest[-1]:
                stop, target = close - distance, close + TARGET * distance
                self.buy(size=SIZE, sl=round(stop, 5), tp=round(target, 5))
            elif close < self.lowest[-1]:
                stop, target = close + distance, close - TARGET * distance
                self.sell(size=SIZE, sl=round(stop, 5), tp=round(target, 5))

    frame = pd.read_csv(sample_path(), parse_dates=["time"], index_col="time").tz_localize(None)
    frame.columns = [name.capitalize() for name in frame.columns]
    bars = len(frame)
    return Backtest(frame, Donchian, cash=1_000_000, finalize_trades=True)


def their_trips(result: Mapping[str, Any]) -> list[Trip]:
    """Their trades, in order of exit."""
    table = result["_trades"].sort_values(["ExitBar", "EntryBar"])
    names = ["EntryBar", "ExitBar", "EntryPrice", "ExitPrice", "PnL"]
    return [Trip(int(a), int(b), float(c), float(d), float(e)) for a, b, c, d, e in table[names].to_numpy()]


def differences(ours: list[Trip], theirs: list[Trip]) -> list[tuple[Trip | None, Trip | None]]:
    """Trades that are not the same: bars, and prices and pnl to 1e-9."""
    found: list[tuple[Trip | None, Trip | None]] = []
    for number in range(max(len(ours), len(theirs))):
        mine = ours[number] if number < len(ours) else None
        other = theirs[number] if number < len(theirs) else None
        if mine is None or other is None or not _same(mine, other):
            found.append((mine, other))
    return found


def _same(mine: Trip, other: Trip) -> bool:
    return (
        (mine.entry_bar, mine.exit_bar) == (other.entry_bar, other.exit_bar)
        and abs(mine.entry_price - other.entry_price) < 1e-9
        and abs(mine.exit_price - other.exit_price) < 1e-9
        and abs(mine.pnl - other.pnl) < 1e-9
    )


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def run(repeats: int = REPEATS) -> dict[str, float]:
    """Bars a second of ours over theirs. Raises RuntimeError when the trades differ."""
    plan = _plan()
    steps = list(plan.feed.steps())
    theirs = _theirs()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unlike = differences(our_trips(plan, steps), their_trips(theirs.run()))
        if unlike:
            raise RuntimeError(f"expected equal trades, {len(unlike)} differ, the first: {unlike[0]}")
        pairs = [(_seconds(lambda: _drive(plan, steps)), _seconds(theirs.run)) for _ in range(repeats)]
    ours_median, theirs_median = (statistics.median(side) for side in zip(*pairs, strict=True))
    return {
        "engine_vs_backtesting": theirs_median / ours_median,
        "engine_bars_per_s": len(steps) / ours_median,
        "backtesting_bars_per_s": len(steps) / theirs_median,
    }


if __name__ == "__main__":
    for name, value in run().items():
        print(f"{name}: {value:.4g}")

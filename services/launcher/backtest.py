"""A backtest: the desk's own engine, paper broker and guard over a price file, in one process, without a bus.

It builds the run from a deploy command as the trader does and drives it with the same loop, so the same
data through `desk up` gives the same trades. Printing and pictures are `backtest_command`'s and
`backtest_report`'s business.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from services.launcher.deploy_files import strategy_file
from services.risk.guard import Guard
from services.shared.calendar import trading_day
from services.shared.commands import Deploy
from services.shared.errors import InvalidInput
from services.shared.events import (
    Adjusted,
    Body,
    EquityMarked,
    LimitsChanged,
    OrderDenied,
    StatusChanged,
    TradeClosed,
)
from services.shared.limits import DEFAULTS, Limits
from services.shared.statistics import Statistics, Totals, summarise
from services.shared.verdicts import Answer, StepReport
from services.trader.brokers.paper import PaperBroker
from services.trader.feeds.base import MarketStep
from services.trader.loop import TradingLoop, run_to_end
from services.trader.plan import Plan, make_plan

_RUN = "backtest"
_PROGRESS_EVERY = 256


@dataclass(slots=True)
class Curve:
    """Equity and drawdown at each mark, for pictures; `times` are seconds since 1970."""

    times: array[float] = field(default_factory=lambda: array("d"))
    equity: array[float] = field(default_factory=lambda: array("d"))
    drawdown: array[float] = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class Ledger:
    """What a run said, as far as reports need it. Each fact is counted at the time of its own step."""

    loop: TradingLoop
    totals: Totals = field(default_factory=Totals)
    trades: list[TradeClosed] = field(default_factory=list)
    curve: Curve = field(default_factory=Curve)
    days: dict[date, Decimal] = field(default_factory=dict)
    denied: Counter[str] = field(default_factory=Counter)
    interventions: list[tuple[datetime, LimitsChanged]] = field(default_factory=list)
    phase: str = ""
    reason: str = ""
    last: EquityMarked | None = None
    first_time: datetime | None = None
    last_time: datetime | None = None
    _carried: int = 0

    def hear(self, report: StepReport, answer: Answer) -> None:
        """One step's facts: the report's but for those counted already, then what the answer brought."""
        when = report.time
        for fact in report.facts[self._carried :]:
            self._count(fact, when)
        carried = self.loop.carried
        for fact in carried:
            self._count(fact, when)
        self._carried = len(carried)
        for event in answer.events:
            if isinstance(event, OrderDenied):
                self.denied.update(reason.code for reason in event.reasons)
            elif isinstance(event, LimitsChanged):
                self.interventions.append((when, event))

    def _count(self, fact: Body, when: datetime) -> None:
        if type(fact) is EquityMarked:
            self._mark(fact, when)
        elif isinstance(fact, TradeClosed):
            self.trades.append(fact)
            self.totals.add(fact)
        elif isinstance(fact, Adjusted):
            self.totals.adjust(fact.amount)
        elif isinstance(fact, OrderDenied):
            self.denied.update(reason.code for reason in fact.reasons)
        elif isinstance(fact, StatusChanged):
            self.phase, self.reason = fact.phase, fact.reason

    def _mark(self, mark: EquityMarked, when: datetime) -> None:
        self.last, self.last_time = mark, when
        self.first_time = self.first_time or when
        self.days[trading_day(when)] = mark.equity
        self.curve.times.append(when.timestamp())
        self.curve.equity.append(float(mark.equity))
        self.curve.drawdown.append(float(mark.drawdown))

    def statistics(self, opening_balance: Decimal) -> Statistics:
        """The run's statistics so far."""
        span: timedelta | None = None
        if self.first_time is not None and self.last_time is not None:
            span = self.last_time - self.first_time
        mark = self.last
        return summarise(
            self.totals,
            opening_balance=opening_balance,
            daily_equity=list(self.days.values()),
            equity=None if mark is None else mark.equity,
            peak=None if mark is None else mark.peak,
            drawdown=None if mark is None else mark.drawdown,
            max_drawdown=None if mark is None else mark.max_drawdown,
            streak=self.trades[-1].streak if self.trades else None,
            span=span,
        )


@dataclass(slots=True)
class Result:
    """A finished backtest. `ambiguous` bars held stop and target both; `target_first` is the same run with
    the target taken there, None when there were no such bars."""

    plan: Plan
    limits: Limits
    ledger: Ledger
    statistics: Statistics
    ambiguous: int
    target_first: Statistics | None
    bars: int
    seconds: float


def strategy_place(strategy: str) -> tuple[str, Path | None]:
    """A strategy's name and the folder of its file: `dir/my.py:Mine` is `my.py:Mine` in `dir`, the class may
    be left out, and a strategy known by name has no folder. Raises InvalidInput where there is no file."""
    found = strategy_file(strategy)
    if found is not None:
        path, name = found[0], f"{found[0].name}:{found[1]}"
    elif strategy.endswith(".py"):
        path = Path(strategy).expanduser()
        name = path.name
    else:
        return strategy, None
    if not path.is_file():
        raise InvalidInput(f"strategy: there is no file {path}")
    return name, path.parent


def plan_backtest(command: Deploy, data: str, *, bar_seconds: int | None = None) -> Plan:
    """Read and check everything; `data` is a file, `EURUSD=F1,GBPUSD=F2`, or empty for the sample.

    Raises InvalidInput saying what to change.
    """
    name, folder = strategy_place(command.strategy)
    command = command.model_copy(update={"strategy": name})
    return make_plan(command, feed=data, mode="lockstep", strategies=folder, bar_seconds=bar_seconds)


def run_backtest(
    plan: Plan, limits: Limits = DEFAULTS, progress: Callable[[int], None] | None = None
) -> Result:
    """Drive the plan to its end; `progress` is told how many steps are done. Where bars held both stop and
    target, it is driven a second time with the target first."""
    began = time.perf_counter()
    ledger, ambiguous = _drive(plan, limits, progress)
    seconds = time.perf_counter() - began
    opening = plan.terms.balance
    other: Statistics | None = None
    if ambiguous:
        favourable = replace(plan, rules=replace(plan.rules, target_first=True))
        other = _drive(favourable, limits, progress)[0].statistics(opening)
    return Result(
        plan=plan,
        limits=limits,
        ledger=ledger,
        statistics=ledger.statistics(opening),
        ambiguous=ambiguous,
        target_first=other,
        # A halt or the hours end a run before its data; the last close may be marked twice.
        bars=min(len(plan.feed), len(ledger.curve.times)),
        seconds=seconds,
    )


def _drive(plan: Plan, limits: Limits, progress: Callable[[int], None] | None) -> tuple[Ledger, int]:
    loop = plan.loop(_RUN)
    ledger = Ledger(loop)
    loop.start("backtest", None)
    run_to_end(loop, _told(plan.feed.steps(), progress), Guard(limits), ledger.hear)
    assert isinstance(loop.broker, PaperBroker)
    return ledger, loop.broker.state.ambiguous


def _told(steps: Iterable[MarketStep], progress: Callable[[int], None] | None) -> Iterator[MarketStep]:
    if progress is None:
        yield from steps
        return
    done = 0
    for done, step in enumerate(steps, 1):
        yield step
        if not done % _PROGRESS_EVERY:
            progress(done)
    progress(done)

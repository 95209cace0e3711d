"""Small deployments for tests: a few handmade bars in a price file, a scripted strategy, the real guard.

They are planned by `make_plan` and driven by the one loop, as a backtest is; nothing is stood in for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from services.risk.guard import Guard
from services.shared.commands import Deploy
from services.shared.events import Body, EquityMarked, OrderFilled, TradeClosed, TradeOpened
from services.shared.limits import Limits, parse
from services.shared.verdicts import Answer, RiskGuard, StepReport
from services.trader.brokers.paper import PaperBroker
from services.trader.brokers.paper_account import PaperRules
from services.trader.engine import Engine
from services.trader.inputs import EndOfData, Input
from services.trader.loop import TradingLoop
from services.trader.plan import Plan, make_plan
from services.trader.strategies.base import Context, Fill, Parameters, Strategy

D = Decimal
MONDAY = datetime(2024, 1, 8, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
WIDE = parse(
    {
        "trade_risk": "1000000",
        "open_risk": "1000000",
        "notional": "1000000000",
        "drawdown": "1000000",
        "daily_loss": "off",
        "price_collar": "50",
        "spread": "1000",
        "positions": "10",
    }
)
"""Limits that nothing in a test reaches."""

Deed = Callable[[Context], None]
Row = Sequence[float]
F = TypeVar("F", bound=Body)


class _NoParameters(Parameters):
    """The script says it all."""


def scripted(
    deeds: Mapping[int, Deed] | Deed,
    *,
    on_fill: Callable[[Context, Fill], None] | None = None,
    warmup: int = 1,
    look_back: int = 3,
    timeframes: tuple[str, ...] = (),
) -> type[Strategy[Any]]:
    """A strategy that does `deeds[n]` at its n-th bar (from 1), or `deeds` at each."""

    class Scripted(Strategy[_NoParameters]):
        name = "signals"
        Parameters = _NoParameters

        @property
        def look_back(self) -> int:
            return look_back_of

        @property
        def warmup(self) -> int:
            return warmup_of

        def on_bar(self, ctx: Context) -> None:
            ctx.shared["bars"] = number = ctx.shared.get("bars", 0) + 1
            if not isinstance(deeds, Mapping):
                deeds(ctx)
            elif number in deeds:
                deeds[number](ctx)

        def on_fill(self, ctx: Context, fill: Fill) -> None:
            if on_fill is not None:
                on_fill(ctx, fill)

    look_back_of, warmup_of = look_back, warmup
    Scripted.timeframes = timeframes
    return Scripted


def price_file(
    rows: Iterable[Row], *, start: datetime = MONDAY, seconds: int = 3600, times: Sequence[datetime] = ()
) -> Path:
    """A file of bars: four numbers are mid prices, eight the bid's four and the ask's four."""
    rows = list(rows)
    sides = len(rows[0]) == 8
    names = ["open", "high", "low", "close"]
    header = [f"{side}_{name}" for side in ("bid", "ask") for name in names] if sides else names
    with tempfile.NamedTemporaryFile("w", suffix=".csv", delete=False) as out:
        out.write("time," + ",".join(header) + "\n")
        for number, row in enumerate(rows):
            moment = times[number] if times else start + timedelta(seconds=seconds * number)
            cells = ",".join(format(value, ".10g") for value in row)
            out.write(f"{moment.isoformat().replace('+00:00', 'Z')},{cells}\n")
    return Path(out.name)


def plan_of(
    rows: Iterable[Row] | Mapping[str, Iterable[Row]],
    kind: type[Strategy[Any]] | None = None,
    *,
    start: datetime = MONDAY,
    seconds: int = 3600,
    times: Sequence[datetime] = (),
    rules: PaperRules | None = None,
    spread: str = "0",
    slippage: str = "0",
    commission: str = "0",
    leverage: str = "1000",
    **command: Any,
) -> Plan:
    """A checked deployment over handmade bars, at no cost unless told; `kind` replaces the strategy."""
    given = rows if isinstance(rows, Mapping) else {command.pop("instrument", "EURUSD"): rows}
    files = {
        name: price_file(each, start=start, seconds=seconds, times=times) for name, each in given.items()
    }
    try:
        asked = {
            "strategy": "signals",
            "instruments": tuple(given),
            "costs": {
                "spread": spread,
                "slippage": slippage,
                "commission": commission,
                "leverage": leverage,
            },
            **command,
        }
        plan = make_plan(
            Deploy.model_validate(asked),
            feed="replay:" + ",".join(f"{name}={path}" for name, path in files.items()),
            mode="lockstep",
            bar_seconds=seconds,
            rules=rules,
        )
    finally:
        for path in files.values():
            path.unlink()
    return plan if kind is None else replace(plan, kind=kind)


@dataclass
class Record:
    """A run as it went: every fact with its step, and the loop at its end."""

    loop: TradingLoop
    facts: list[tuple[int, Body]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    _carried: int = 0

    def hear(self, report: StepReport, answer: Answer) -> None:
        """Keep what a step said, once."""
        fresh = [*report.facts[self._carried :], *self.loop.carried]
        self._carried = len(self.loop.carried)
        self.facts += [(report.step, fact) for fact in fresh]
        self.answers.append(answer)

    def of(self, kind: type[F]) -> list[F]:
        """All facts of a kind, in order."""
        return [fact for _, fact in self.facts if isinstance(fact, kind)]

    @property
    def trades(self) -> list[TradeClosed]:
        """The finished round trips."""
        return self.of(TradeClosed)

    @property
    def fills(self) -> list[OrderFilled]:
        """All fills."""
        return self.of(OrderFilled)

    @property
    def opened(self) -> list[TradeOpened]:
        """Positions that came into being."""
        return self.of(TradeOpened)

    @property
    def marks(self) -> list[EquityMarked]:
        """Equity, step by step."""
        return self.of(EquityMarked)

    @property
    def engine(self) -> Engine:
        """The engine at the end."""
        return self.loop.engine

    @property
    def paper(self) -> PaperBroker:
        """The broker at the end."""
        assert isinstance(self.loop.broker, PaperBroker)
        return self.loop.broker


def run(
    plan: Plan,
    *,
    guard: RiskGuard | None = None,
    limits: Limits = WIDE,
    inputs: Mapping[int, Sequence[Input]] | None = None,
    to_the_end: bool = True,
) -> Record:
    """Drive a plan; `inputs[n]` come after the n-th bar's step (0: before the first)."""
    loop = plan.loop("run-1")
    record = Record(loop)
    asked = guard or Guard(limits)
    loop.start("test", None)

    def take(given: Input | None) -> None:
        report = loop.advance(given)
        answer = asked.answer(report)
        loop.conclude(answer)
        record.hear(report, answer)

    extra = inputs or {}
    for given in extra.get(0, ()):
        take(given)
    for number, step in enumerate(plan.feed.steps(), 1):
        take(step)
        for given in extra.get(number, ()):
            take(given)
        if loop.finished:
            break
    if to_the_end:
        for _ in range(60):
            if loop.finished:
                break
            take(EndOfData())
        assert loop.finished, "the run does not come to its end"
    return record

"""From a deploy command to a run that can be driven: checks everything first, then builds engine and broker.

The backtest and the desk build their runs here, so that the same command gives the same run. Reads the
price files; everything else is pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Literal

from services.shared import instruments
from services.shared.commands import Deploy
from services.shared.errors import InvalidInput
from services.shared.events import DeploymentTerms
from services.shared.money import minor_unit, round_money
from services.trader.brokers.faulty import FaultRules, FaultyBroker
from services.trader.brokers.paper import PaperBroker
from services.trader.brokers.paper_account import PaperRules
from services.trader.engine import Engine
from services.trader.feeds.rate_files import parse_rates
from services.trader.feeds.replay import ReplayFeed, open_replay, parse_spec
from services.trader.history import bars_to_prime
from services.trader.loop import LoopState, TradingLoop
from services.trader.rates import Rates
from services.trader.strategies import catalogue
from services.trader.strategies.base import Strategy, make, timeframe_seconds


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that can begin: what was asked, with every file read and every name found. `faults` are for
    tests and drills alone: nothing a person deploys sets them."""

    command: Deploy
    terms: DeploymentTerms
    kind: type[Strategy[Any]]
    feed: ReplayFeed
    constants: dict[str, Decimal]
    rules: PaperRules
    faults: FaultRules | None = None

    def loop(self, run_id: str, state: LoopState | None = None, cursor: int = 0) -> TradingLoop:
        """A loop at the beginning, or as it was when `state` was taken with `cursor` steps behind it."""
        command, terms = self.command, self.terms
        strategy = make(self.kind, command.parameters)
        rates = Rates(terms.currency, terms.instruments, self.constants, self.feed.rate_pairs)
        engine = Engine(
            terms,
            strategy,
            rates,
            min_amount=command.min_amount,
            hours=command.hours,
            state=None if state is None else state.engine,
        )
        kind = PaperBroker if self.faults is None else partial(FaultyBroker, self.faults)
        paper = kind(
            self.rules,
            terms.currency,
            rates,
            engine.state.quotes,
            balance=terms.balance,
            state=None if state is None else state.paper,
        )
        if state is not None:
            longer = tuple(timeframe_seconds(text) for text in strategy.timeframes)
            count = bars_to_prime(strategy.look_back, terms.bar_seconds, longer)
            engine.prime(self.feed.history(cursor, count))
        return TradingLoop(run_id, engine, paper)


def make_plan(
    command: Deploy,
    *,
    feed: str,
    mode: Literal["lockstep", "live"],
    strategies: Path | None = None,
    rates: Path | None = None,
    bar_seconds: int | None = None,
    rules: PaperRules | None = None,
) -> Plan:
    """Check a deployment and read its prices. `strategies` and `rates` are the folders that names over the
    bus are looked up in; `rates` None takes file names as they are (a backtest's own command line).

    Raises InvalidInput (PriceFileError for a price file) saying what to change.
    """
    traded = command.traded()
    for symbol in traded:
        instruments.find(symbol)
    if len(set(traded)) < len(traded):
        raise InvalidInput(f"instruments: expected each once, was {', '.join(traded)}")
    if command.balance != round_money(command.balance, command.currency):
        unit = minor_unit(command.currency)
        raise InvalidInput(
            f"balance: expected a multiple of {unit} {command.currency}, was {command.balance}"
        )
    kind = catalogue.find(command.strategy, strategies)
    strategy = make(kind, command.parameters)
    missing = [name for name in kind.instruments if name not in traded]
    if missing:
        raise InvalidInput(
            f"strategy {kind.name} needs {', '.join(kind.instruments)}; not given: {', '.join(missing)}"
        )
    constants, files = parse_rates(command.rates)
    if rates is not None:
        files = {pair: _inside(rates, path) for pair, path in files.items()}
    source = open_replay(
        parse_spec(feed, traded), rate_files=files, spread=command.costs.spread, bar_seconds=bar_seconds
    )
    if not len(source):
        raise InvalidInput("feed: there is not one bar in it")
    Rates(command.currency, traded, constants, source.rate_pairs)
    _check_timeframes(strategy, source.bar_seconds)
    rules = replace(rules or PaperRules(costs=command.costs), costs=command.costs)
    return Plan(command, _terms(command, strategy, source, mode, rules), kind, source, constants, rules)


def _inside(folder: Path, path: Path) -> Path:
    if path.name != str(path):
        raise InvalidInput(f"rates: expected a file name in the desk's rates folder, was {str(path)[:60]!r}")
    return folder / path


def _check_timeframes(strategy: Strategy[Any], bar_seconds: int) -> None:
    for text in strategy.timeframes:
        seconds = timeframe_seconds(text)
        if seconds % bar_seconds:
            raise InvalidInput(
                f"strategy {strategy.name} needs bars of {text}; the feed's are {bar_seconds} s long"
            )


def _terms(
    command: Deploy,
    strategy: Strategy[Any],
    feed: ReplayFeed,
    mode: Literal["lockstep", "live"],
    rules: PaperRules,
) -> DeploymentTerms:
    costs = command.costs
    return DeploymentTerms(
        strategy=strategy.name,
        parameters={name: str(value) for name, value in strategy.parameters.model_dump().items()},
        instruments=command.traded(),
        currency=command.currency,
        balance=command.balance,
        risk_per_trade=command.risk_per_trade,
        mode=mode,
        broker="paper",
        feed=feed.name,
        bar_seconds=feed.bar_seconds,
        weekend=command.weekend,
        costs={
            "spread_pips": format(costs.spread, "f"),
            "slippage_pips": format(costs.slippage, "f"),
            "commission_per_million": format(costs.commission, "f"),
            "leverage": format(costs.leverage, "f"),
            "limit_through_ticks": str(rules.limit_through),
            "order_interval_seconds": format(Decimal(str(rules.order_interval / timedelta(seconds=1))), "f"),
        },
    )

"""Facts and steps as a trader would state them, for the guard's tests: in memory and on the wire."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from services.risk.guard import Guard
from services.shared.commands import RiskAnswer
from services.shared.events import (
    Body,
    CommandOutcome,
    DeploymentTerms,
    EquityMarked,
    OrderAccepted,
    OrderFilled,
    OrderIntended,
    Phase,
    Purpose,
    Side,
    StatusChanged,
    TradeClosed,
)
from services.shared.limits import Limits, parse
from services.shared.market import Quote
from services.shared.verdicts import Answer, StepReport
from services.shared.wire import encode, wire_time

D = Decimal
START = datetime(2024, 1, 8, 10, tzinfo=UTC)
"""A Monday morning."""


def terms(**changes: Any) -> DeploymentTerms:
    """A paper deployment of 10,000 USD that risks 10 on each trade, on hourly bars."""
    usual = DeploymentTerms(
        strategy="donchian",
        parameters={},
        instruments=("EURUSD", "GBPUSD", "AUDUSD", "NZDUSD", "USDJPY"),
        currency="USD",
        balance=D(10000),
        risk_per_trade=D(10),
        mode="lockstep",
        broker="paper",
        feed="test",
        bar_seconds=3600,
        weekend="flat",
        costs={},
    )
    return replace(usual, **changes)


def status(
    phase: Phase,
    previous: Phase = "MONITORING",
    holding: Literal["flat", "open", "unknown"] = "flat",
    command_id: str | None = None,
    with_terms: DeploymentTerms | None = None,
) -> StatusChanged:
    """A change of phase."""
    return StatusChanged(
        phase=phase,
        previous=previous,
        reason="test",
        holding=holding,
        command_id=command_id,
        terms=with_terms,
    )


def mark(step: int, balance: str | Decimal, unrealised: str | Decimal = "0") -> EquityMarked:
    """Equity at a step's end; what the trader calls peak and drawdown is not the guard's business."""
    booked, open_gain = D(balance), D(unrealised)
    return EquityMarked(
        step=step,
        balance=booked,
        unrealised=open_gain,
        equity=booked + open_gain,
        peak=booked,
        drawdown=D(0),
        max_drawdown=D(0),
        open_risk=D(0),
    )


def entry(order: int = 1, **changes: Any) -> OrderIntended:
    """An entry of 5,000 EURUSD at 1.1001 with a stop 20 pips away: risks 10 USD."""
    usual = OrderIntended(
        order=order,
        trade=order,
        instrument="EURUSD",
        purpose="entry",
        side="buy",
        kind="market",
        amount=D(5000),
        price=None,
        expected=D("1.1001"),
        stop=D("1.0981"),
        target=D("1.1041"),
        risk=D(10),
        strategy="donchian",
    )
    return replace(usual, **changes)


def fill(
    order: int,
    side: Side = "buy",
    price: str = "1.1001",
    amount: str = "5000",
    purpose: Purpose = "entry",
    instrument: str = "EURUSD",
    rate: str = "1",
    commission: str = "0",
) -> OrderFilled:
    """One fill."""
    return OrderFilled(
        order=order,
        fill=f"{order}-{side}-{price}-{amount}",
        trade=1,
        instrument=instrument,
        purpose=purpose,
        side=side,
        amount=D(amount),
        price=D(price),
        rate=D(rate),
        commission=D(commission),
        slippage=D(0),
        filled_at=START,
    )


def working_stop(order: int = 2, price: str = "1.0981", side: Side = "sell") -> OrderAccepted:
    """The broker works a stop."""
    return OrderAccepted(
        order=order,
        instrument="EURUSD",
        purpose="stop",
        side=side,
        kind="stop",
        amount=D(5000),
        price=D(price),
    )


def closed(pnl: str, equity: str, streak: int = -1) -> TradeClosed:
    """A round trip's end."""
    gain = D(pnl)
    return TradeClosed(
        trade=1,
        instrument="EURUSD",
        side="long",
        amount=D(5000),
        entry_time=START,
        entry_price=D("1.1001"),
        trade_time=START,
        exit_price=D("1.0981"),
        stop=D("1.0981"),
        target=None,
        initial_risk=D(10),
        pnl=gain,
        outcome="win" if gain > 0 else "loss" if gain < 0 else "breakeven",
        r_multiple=None,
        equity=D(equity),
        commission=D(0),
        slippage=D(0),
        exit_reason="stop",
        strategy="donchian",
        streak=streak,
    )


@dataclass
class Desk:
    """A guard with a run begun, and the steps of that run one after another."""

    guard: Guard = field(default_factory=Guard)
    run_id: str = "run-1"
    terms: DeploymentTerms = field(default_factory=terms)
    step: int = 0
    time: datetime = START
    prices: dict[str, tuple[float, float]] = field(default_factory=lambda: {"EURUSD": (1.1, 1.1001)})
    rates: dict[str, Decimal] = field(default_factory=dict)
    reports: list[StepReport] = field(default_factory=list)

    def begin(self) -> Desk:
        """Start the run, as the trader does: the deploy command's outcome comes first."""
        self.ask(
            CommandOutcome(command_id="deploy-1", verb="deploy", state="accepted"),
            status("STARTING", "NOT_DEPLOYED", with_terms=self.terms),
            status("MONITORING", "STARTING"),
            after=0,
        )
        return self

    def report(
        self,
        *facts: Body,
        judge: Sequence[OrderIntended] = (),
        opens: Sequence[Quote] = (),
        quote_age: float = 0,
    ) -> StepReport:
        """The step as it would be reported now."""
        at = self.time - timedelta(seconds=quote_age)
        quotes = {name: Quote(name, at, bid, ask) for name, (bid, ask) in self.prices.items()}
        return StepReport(
            run_id=self.run_id,
            step=self.step,
            time=self.time,
            mode=self.terms.mode,
            facts=[*facts, *judge],
            judge=list(judge),
            quotes=quotes,
            fresh=list(quotes.values()),
            opens=opens,
            rates=self.rates,
        )

    def ask(
        self,
        *facts: Body,
        judge: Sequence[OrderIntended] = (),
        opens: Sequence[Quote] = (),
        after: float = 3600,
        quote_age: float = 0,
    ) -> Answer:
        """The next step, `after` seconds later."""
        self.step += 1
        self.time += timedelta(seconds=after)
        report = self.report(*facts, judge=judge, opens=opens, quote_age=quote_age)
        self.reports.append(report)
        return self.guard.answer(report)

    def mark(
        self, balance: str | Decimal, unrealised: str | Decimal = "0", after: float = 3600, **more: Any
    ) -> Answer:
        """The next step, with nothing but its equity."""
        return self.ask(mark(self.step + 1, balance, unrealised), after=after, **more)

    def try_entry(self, order: OrderIntended | None = None, **more: Any) -> Answer:
        """The next step, with an order to be judged."""
        return self.ask(judge=[order or entry()], **more)

    def hold(self, order: OrderIntended | None = None) -> Desk:
        """Have an entry approved and filled, its stop at work."""
        intent = order or entry()
        assert self.try_entry(intent).verdicts[0].approved
        price = format(intent.expected, "f")
        self.ask(
            fill(intent.order, intent.side, price, format(intent.amount, "f"), instrument=intent.instrument)
        )
        return self


def desk(limits: dict[str, str] | None = None, **changes: Any) -> Desk:
    """A desk whose run has begun; `limits` as a person types them, `changes` to the terms."""
    guard = Guard(parse(limits or {}) if limits else Limits())
    return Desk(guard=guard, terms=terms(**changes)).begin()


def codes(answer: Answer) -> set[str]:
    """The codes of all reasons for which the first order was denied; empty when it was approved."""
    return {reason.code for reason in answer.verdicts[0].reasons}


@dataclass
class WireTrader:
    """The trader's side of the wire: numbered messages and requests, as bytes."""

    trader: str
    run_id: str = "run-1"
    seq: int = 0
    sent: list[tuple[str, bytes]] = field(default_factory=list)

    def messages(self, facts: Sequence[Body], time: datetime) -> list[bytes]:
        """The facts as messages, numbered on."""
        made = []
        for fact in facts:
            self.seq += 1
            made.append(
                encode(
                    fact,
                    trader=self.trader,
                    run_id=self.run_id,
                    emitter="trader",
                    seq=self.seq,
                    time=time,
                    recorded=datetime.now(UTC),
                )
            )
        return made

    def request(self, report: StepReport, messages: Sequence[bytes] | None = None) -> bytes:
        """The question of a step; `messages` when its facts were numbered before."""
        known = self.messages(report.facts, report.time) if messages is None else messages
        return json.dumps(
            {
                "version": 1,
                "trader": self.trader,
                "run_id": report.run_id,
                "step": report.step,
                "mode": report.mode,
                "time": wire_time(report.time),
                "events": [json.loads(data) for data in known],
                "judge": [order.order for order in report.judge],
                "quotes": {
                    name: {"bid": repr(quote.bid), "ask": repr(quote.ask), "time": wire_time(quote.time)}
                    for name, quote in report.quotes.items()
                },
                "rates": {name: format(rate, "f") for name, rate in report.rates.items()},
            }
        ).encode()


def answer_of(data: bytes) -> RiskAnswer:
    """The guard's reply."""
    return RiskAnswer.model_validate_json(data)

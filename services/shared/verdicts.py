"""What trader and guard say to each other at each step, as both hold it in memory.

A backtest hands these objects over directly; the desk carries them as `commands.RiskCheck` and
`commands.RiskAnswer`. Pure data, and the digest that binds a verdict to the order it was given for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol

from services.shared.commands import HaltOrder, Verdict
from services.shared.events import Body, OrderIntended
from services.shared.market import Quote


@dataclass(slots=True)
class StepReport:
    """One step of the trader: what happened in it (`facts`, in order, intents among them), which orders
    want a verdict (`judge`), the last quote of each instrument, and the rates from each quote currency
    to the account's. `prices` are the quotes that came in this very step, the opens of its bars before
    their closes (an open has its bar's start as time, so it is earlier than the step). `rates` counts only
    where the guard cannot work a rate out from the quotes. Times are the run's clock."""

    run_id: str
    step: int
    time: datetime
    mode: Literal["lockstep", "live"]
    facts: Sequence[Body]
    judge: Sequence[OrderIntended]
    quotes: Mapping[str, Quote]
    prices: Sequence[Quote]
    rates: Mapping[str, Decimal]


@dataclass(slots=True)
class Answer:
    """The guard's answer: a verdict for each order judged, a halt or none, whether resting entries must
    go, and the guard's own events (approvals, denials, limits, alerts) in order."""

    verdicts: Sequence[Verdict] = ()
    halt: HaltOrder | None = None
    cancel_entries: bool = False
    events: list[Body] = field(default_factory=list)

    @property
    def trivial(self) -> bool:
        """Whether the step may go on as if nobody had been asked."""
        return not (self.verdicts or self.halt or self.cancel_entries)


class RiskGuard(Protocol):
    """Whoever answers for a step: `guard.Guard` in a backtest, NATS and a process behind it on the desk."""

    def answer(self, report: StepReport) -> Answer:
        """The verdicts of this step; the same step asked again gets the same answer."""


def digest(order: OrderIntended) -> str:
    """What binds a verdict to an order: a hash of everything about it that risk depends on."""
    parts = (
        order.order,
        order.trade,
        order.instrument,
        order.purpose,
        order.side,
        order.kind,
        format(order.amount, "f"),
        None if order.price is None else format(order.price, "f"),
        None if order.stop is None else format(order.stop, "f"),
        None if order.target is None else format(order.target, "f"),
    )
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()

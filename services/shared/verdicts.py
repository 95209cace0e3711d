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
from services.shared.market import Bar, Quote


@dataclass(slots=True)
class StepReport:
    """One step of the trader: what happened in it (`facts`, in order, intents among them), which orders
    want a verdict (`judge`), the last quote of each instrument, and the rates from each quote currency
    to the account's. `fresh` is what came in this very step, and `opens` its bars when something was held
    as they opened: a breach is confirmed, or not, at `market.opening` of each (TRADING 6). `rates`
    counts only where the guard cannot work a rate out from the quotes. Times are the run's clock."""

    run_id: str
    step: int
    time: datetime
    mode: Literal["lockstep", "live"]
    facts: Sequence[Body]
    judge: Sequence[OrderIntended]
    quotes: Mapping[str, Quote]
    fresh: Sequence[Bar | Quote]
    opens: Sequence[Bar | Quote]
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


NOD = Answer()
"""The answer that says nothing: one for all, nobody may change it."""


class RiskGuard(Protocol):
    """Whoever answers for a step: `guard.Guard` in a backtest, NATS and a process behind it on the desk."""

    def answer(self, report: StepReport) -> Answer:
        """The verdicts of this step; the same step asked again gets the same answer."""


def digest(order: OrderIntended) -> str:
    """What binds a verdict to an order: a hash of everything about it that risk depends on."""
    text = (
        f"{order.order} {order.trade} {order.instrument} {order.purpose} {order.side} {order.kind} "
        f"{_plain(order.amount)} {_plain(order.price)} {_plain(order.stop)} {_plain(order.target)}"
    )
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _plain(number: Decimal | None) -> str:
    """As on the wire, without an exponent; `str` alone costs a third of `format`."""
    text = str(number)
    return format(number, "f") if number is not None and "E" in text else text

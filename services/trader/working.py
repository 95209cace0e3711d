"""Orders under way and what is asked of the broker: data only, as it goes into a snapshot.

What changes it is in `wishes` and `orders`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, TypeAlias

from services.shared.events import Body, OrderIntended
from services.shared.money import ZERO
from services.trader.brokers.base import Accepted, Cancelled, Filled, Ticket


@dataclass(slots=True)
class Submit:
    """Hand a ticket to the broker."""

    ticket: Ticket


@dataclass(slots=True)
class Cancel:
    """Have the broker stop working an order."""

    order: int


@dataclass(slots=True)
class Amend:
    """Have the broker move a working order's price."""

    order: int
    price: float


@dataclass(slots=True)
class Lookup:
    """Ask the broker what became of an order."""

    order: int


Action: TypeAlias = Submit | Cancel | Amend | Lookup


@dataclass(slots=True)
class Outputs:
    """What a step brought: facts in order, orders that want a verdict, actions for the broker."""

    facts: list[Body] = field(default_factory=list)
    judge: list[OrderIntended] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Working:
    """An order that is not finished. `asked`: waits for a verdict; `sent`: no news yet.

    `left` is what may still fill, as the broker last said.
    """

    intent: OrderIntended
    status: Literal["asked", "sent", "working", "unknown"]
    price: float | None
    reference_rate: Decimal = ZERO
    stop_order: int = 0
    target_order: int = 0
    filled: Decimal = ZERO
    left: Decimal
    urgent: bool = False


@dataclass(slots=True, kw_only=True)
class OrderState:
    """What of the orders has to survive a restart. `early` is news of related orders that came before the
    fill of their entry, `gone` the orders cancelled last: a fill may have crossed with the cancellation."""

    next_order: int = 1
    next_trade: int = 1
    working: dict[int, Working] = field(default_factory=dict)
    leaving: dict[str, str] = field(default_factory=dict)
    urgent: bool = False
    fills: list[str] = field(default_factory=list)
    early: list[Accepted | Filled | Cancelled] = field(default_factory=list)
    gone: dict[int, Working] = field(default_factory=dict)


def ticket_of(order: Working) -> Ticket:
    """What the broker gets of an order."""
    intent = order.intent
    return Ticket(
        order=intent.order,
        trade=intent.trade,
        instrument=intent.instrument,
        purpose=intent.purpose,
        side=intent.side,
        kind=intent.kind,
        amount=intent.amount,
        price=order.price,
        stop=None if intent.stop is None else float(intent.stop),
        target=None if intent.target is None else float(intent.target),
        stop_order=order.stop_order,
        target_order=order.target_order,
        urgent=order.urgent,
    )

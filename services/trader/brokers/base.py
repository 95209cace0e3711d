"""What the engine and a broker say to each other: tickets, and the broker's news of them.

The same words for paper and for a real broker. A broker decides nothing: it takes tickets, works them and
reports. Where it sends over a network, it sends only what has been committed (PROTOCOL 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol, TypeAlias

from services.shared.events import OrderKind, Purpose, Reason, Side
from services.trader.feeds.base import MarketStep


@dataclass(slots=True, kw_only=True)
class Ticket:
    """An order as handed to a broker. Prices are canonical floats at the tick, `amount` in base units.

    `stop` and `target` become related orders under the numbers `stop_order` and `target_order` as soon as
    the entry fills, with the amount that filled. An `urgent` exit takes the last known price when the
    broker has no newer one to offer.
    """

    order: int
    trade: int
    instrument: str
    purpose: Purpose
    side: Side
    kind: OrderKind
    amount: Decimal
    price: float | None = None
    stop: float | None = None
    target: float | None = None
    stop_order: int = 0
    target_order: int = 0
    urgent: bool = False


@dataclass(slots=True)
class Accepted:
    """The broker works the order; again after an amendment, with what it is now."""

    order: int
    price: float | None
    amount: Decimal


@dataclass(slots=True)
class Filled:
    """One fill. `price` is exact at the tick, costs are account currency, `fill` unique at the broker."""

    order: int
    fill: str
    amount: Decimal
    price: Decimal
    time: datetime
    commission: Decimal
    slippage: Decimal
    rate: Decimal
    reason: str


@dataclass(slots=True)
class Rejected:
    """The broker refuses the order."""

    order: int
    reason: Reason


@dataclass(slots=True)
class Cancelled:
    """The order works no more."""

    order: int
    reason: Reason


@dataclass(slots=True)
class Unknown:
    """No answer: the broker may or may not have the order. It must be looked up before anything else."""

    order: int


@dataclass(slots=True)
class NotFound:
    """The answer to a look-up: the broker never had this order."""

    order: int


Update: TypeAlias = Accepted | Filled | Rejected | Cancelled | Unknown | NotFound


class Broker(Protocol):
    """A venue. Every call answers with the news it has at once; more comes with `on_market`."""

    def submit(self, ticket: Ticket, now: datetime) -> Sequence[Update]:
        """Take an order on."""

    def cancel(self, order: int, now: datetime) -> Sequence[Update]:
        """Stop working an order; nothing happens when it is no longer worked."""

    def amend(self, order: int, now: datetime, *, price: float) -> Sequence[Update]:
        """Move a working order's price."""

    def lookup(self, order: int, now: datetime) -> Sequence[Update]:
        """What has become of an order: its news again from the start, or NotFound."""

    def on_market(self, step: MarketStep) -> Sequence[Update]:
        """What the newest prices did to the working orders."""

    def net_position(self, instrument: str) -> Decimal:
        """The confirmed net position: positive long, negative short."""

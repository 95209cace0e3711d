"""Seeded fault injection around the paper broker: what a real venue and the road to it do on a bad day.

For tests and drills only, never by default. Which fault falls on which order is a function of the seed and
the order's number, so nothing of it has to be remembered over a restart. Pure.

- `timeout`: the order arrives, its answer does not: `Unknown`, to be looked up.
- `lost`: the order never arrives: `Unknown`, and the look-up says `NotFound`.
- `duplicate`: every news of the order is said twice.
- `reorder`: news of the order comes in the opposite order.
- `disconnect`: a fill of the order is not heard of; on reconnection the order is `Unknown`.
- `partial`: an entry fills in part, and the rest is cancelled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Literal, TypeAlias, get_args

from services.shared import instruments
from services.shared.events import Reason
from services.shared.market import Quote
from services.shared.money import floor_to_step
from services.trader.brokers.base import Cancelled, Filled, Ticket, Unknown, Update
from services.trader.brokers.paper import PaperBroker
from services.trader.brokers.paper_account import PaperRules, PaperState
from services.trader.feeds.base import MarketStep
from services.trader.rates import Rates

Fault: TypeAlias = Literal["timeout", "lost", "duplicate", "reorder", "disconnect", "partial"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
_HALF = Decimal("0.5")


@dataclass(frozen=True, slots=True)
class FaultRules:
    """What may go wrong. `share` of orders, from 0 to 1, get one of `faults`."""

    seed: int
    share: float = 0.5
    faults: tuple[Fault, ...] = FAULTS

    def of(self, order: int) -> Fault | None:
        """The fault that falls on an order, or None."""
        dice = hashlib.blake2b(f"{self.seed}/{order}".encode(), digest_size=8).digest()
        if int.from_bytes(dice[:4], "big") >= self.share * 2**32 or not self.faults:
            return None
        return self.faults[int.from_bytes(dice[4:], "big") % len(self.faults)]


class FaultyBroker(PaperBroker):
    """A paper broker heard over a bad line."""

    def __init__(
        self,
        faults: FaultRules,
        rules: PaperRules,
        currency: str,
        rates: Rates,
        quotes: Mapping[str, Quote],
        *,
        balance: Decimal,
        state: PaperState | None = None,
    ) -> None:
        """As a paper broker, with `faults`."""
        super().__init__(rules, currency, rates, quotes, balance=balance, state=state)
        self._faults = faults

    def submit(self, ticket: Ticket, now: datetime) -> Sequence[Update]:
        """Take an order on, unless it is lost on the way."""
        fault = self._faults.of(ticket.order)
        if fault == "lost":
            return [Unknown(ticket.order)]
        if fault == "partial" and ticket.purpose == "entry":
            pair = instruments.find(ticket.instrument)
            ticket = replace(ticket, amount=floor_to_step(ticket.amount * _HALF, pair.amount_step))
        news = super().submit(ticket, now)
        if fault == "timeout":
            return _cut_off(news)
        return self._heard(news)

    def cancel(self, order: int, now: datetime) -> Sequence[Update]:
        """Stop working an order; its confirmation may come twice."""
        return self._heard(super().cancel(order, now))

    def lookup(self, order: int, now: datetime) -> Sequence[Update]:
        """What has become of an order; this the line always carries."""
        return [said for update in super().lookup(order, now) for said in self._with_rest(update)]

    def on_market(self, step: MarketStep) -> Sequence[Update]:
        """What the newest prices did, as far as it is heard."""
        news = super().on_market(step)
        return self._heard(news) if news else news

    def _heard(self, news: Sequence[Update]) -> list[Update]:
        """The news as it comes over the line."""
        heard: list[Update] = []
        turned: list[Update] = []
        cut_off = {
            update.order
            for update in news
            if isinstance(update, Filled) and self._faults.of(update.order) == "disconnect"
        }
        if cut_off:
            return _cut_off(news)
        for update in news:
            fault = self._faults.of(update.order)
            if fault == "reorder":
                turned.append(update)
            else:
                heard += [update, update] if fault == "duplicate" else self._with_rest(update)
        return [*heard, *reversed(turned)]

    def _with_rest(self, update: Update) -> list[Update]:
        """A fill of what filled in part is followed by the end of the rest."""
        partial = isinstance(update, Filled) and update.reason == "entry"
        if not partial or self._faults.of(update.order) != "partial":
            return [update]
        rest = Reason(code="unfilled", text="the rest was not to be had")
        return [update, Cancelled(update.order, rest)]


def _cut_off(news: Sequence[Update]) -> list[Update]:
    """All that was said is gone, of whatever order: the adapter knows which, and no more."""
    return [Unknown(order) for order in dict.fromkeys(update.order for update in news)]

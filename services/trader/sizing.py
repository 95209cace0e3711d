"""How much to trade: money at risk divided by the distance to the stop. Pure.

TRADING 2: in account currency, from the expected fill side, spread included, rounded down to the lot.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from typing import Protocol

from services.shared.events import Reason, Side
from services.shared.instruments import Instrument
from services.shared.money import floor_to_step, minor_unit

MIN_AMOUNT_RISK = 5
"""`--min-amount` trades the minimum as long as it risks at most this many times what was asked."""
NEAREST_STOP_SPREADS = 3


@dataclass(frozen=True, slots=True)
class Size:
    """The amount to trade and what it risks, or why there is nothing to trade."""

    amount: Decimal
    risk: Decimal
    refusal: Reason | None = None


class Sizing(Protocol):
    """How an entry is sized: `size_entry`, unless something else is handed to the engine."""

    def __call__(
        self,
        *,
        instrument: Instrument,
        side: Side,
        expected: Decimal,
        spread: Decimal,
        stop: Decimal,
        target: Decimal | None,
        risk: Decimal,
        rate: Decimal,
        currency: str,
        min_amount: bool,
    ) -> Size:
        """See `size_entry`."""


def size_entry(
    *,
    instrument: Instrument,
    side: Side,
    expected: Decimal,
    spread: Decimal,
    stop: Decimal,
    target: Decimal | None,
    risk: Decimal,
    rate: Decimal,
    currency: str,
    min_amount: bool,
) -> Size:
    """Size an entry expected to fill at `expected` (quote currency) with `risk` (account currency).

    `rate` converts the quote currency to the account's. Refusals: `stop_beyond`, `target_beyond`,
    `stop_too_near`, `undersized` (naming the smallest risk that would trade).
    """
    sign = 1 if side == "buy" else -1
    distance = sign * (expected - stop)
    zero = Decimal(0)
    if distance <= 0:
        return Size(zero, zero, Reason(code="stop_beyond", text=f"the stop {stop} is beyond {expected}"))
    if target is not None and sign * (target - expected) <= 0:
        return Size(
            zero, zero, Reason(code="target_beyond", text=f"the target {target} is beyond {expected}")
        )
    if distance < NEAREST_STOP_SPREADS * spread:
        text = f"the stop is {distance} away, nearer than {NEAREST_STOP_SPREADS} spreads of {spread}"
        return Size(zero, zero, Reason(code="stop_too_near", text=text))
    loss_per_unit = distance * rate
    amount = floor_to_step(risk / loss_per_unit, instrument.amount_step)
    if amount < instrument.min_amount:
        smallest = (instrument.min_amount * loss_per_unit).quantize(minor_unit(currency), rounding=ROUND_UP)
        if min_amount and smallest <= MIN_AMOUNT_RISK * risk:
            amount = instrument.min_amount
        else:
            text = (
                f"risking {risk} {currency} buys {amount} units, the minimum is {instrument.min_amount}: "
                f"the smallest risk that would trade is {smallest} {currency}"
            )
            return Size(amount, amount * loss_per_unit, Reason(code="undersized", text=text))
    return Size(amount, amount * loss_per_unit)

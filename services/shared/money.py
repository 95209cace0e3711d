"""Exact numbers: money, prices and amounts as decimals, and how each is rounded.

Prices travel the hot loop as floats that are the closest double to a decimal of few digits
(`canonical`); whatever is booked, sent or stored is a `Decimal`. On the wire all three are strings.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer

# ISO 4217 minor units; every currency not named here has two digits.
_MINOR_DIGITS = {"JPY": 0, "KRW": 0, "CLP": 0, "HUF": 2, "BHD": 3, "KWD": 3, "OMR": 3, "TND": 3, "JOD": 3}

_WIRE = PlainSerializer(lambda value: format(value, "f"), return_type=str, when_used="json")
_BOUND = Decimal(10) ** 15


def _writable(value: Decimal) -> Decimal:
    """Refuse a huge exponent: zero with one is within every bound, and endless when written out."""
    if not -40 < int(value.as_tuple().exponent) < 40:
        raise ValueError("expected a number of sensible length")
    return value


Exact = Annotated[Decimal, AfterValidator(_writable)]
"""Any decimal that can be written out."""
Money = Annotated[Exact, Field(ge=-_BOUND, le=_BOUND, decimal_places=12), _WIRE]
"""An amount of account currency."""
Price = Annotated[Exact, Field(ge=-_BOUND, le=_BOUND, decimal_places=12), _WIRE]
"""A price in the instrument's quote currency."""
Amount = Annotated[Exact, Field(ge=0, le=_BOUND, decimal_places=12), _WIRE]
"""Units of the instrument's base, never negative: the side says which way."""
Ratio = Annotated[Exact, Field(ge=-_BOUND, le=_BOUND, decimal_places=18), _WIRE]
"""A pure number, or a conversion rate."""

ZERO = Decimal(0)
_ONE = Decimal(1)


@lru_cache(maxsize=64)
def minor_unit(currency: str) -> Decimal:
    """The smallest amount `currency` is booked in, for example `Decimal("0.01")`."""
    return Decimal(1).scaleb(-_MINOR_DIGITS.get(currency, 2))


def round_money(value: Decimal, currency: str) -> Decimal:
    """`value` half-even to the minor unit of `currency`."""
    return value.quantize(minor_unit(currency), ROUND_HALF_EVEN)


@lru_cache(maxsize=256, typed=True)
def exact(price: float) -> Decimal:
    """The decimal a canonical float stands for: its shortest text. An order asks for the same two again and
    again, so the latest are remembered."""
    return Decimal(repr(price))


def canonical(price: float) -> float:
    """The double closest to `price` at ten decimals, so that sums of prices compare exactly."""
    return round(price, 10)


def round_to_step(value: Decimal, step: Decimal) -> Decimal:
    """`value` half-even to a multiple of `step`."""
    return (value / step).quantize(_ONE, ROUND_HALF_EVEN) * step


def floor_to_step(value: Decimal, step: Decimal) -> Decimal:
    """`value` down to a multiple of `step`."""
    return (value / step).quantize(_ONE, ROUND_DOWN) * step

"""Rates as a person gives them, `USDCHF=0.97` or `USDCHF=FILE`, sorted into numbers and files."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path

from services.shared import instruments
from services.shared.errors import InvalidInput


def parse_rates(given: Mapping[str, str]) -> tuple[dict[str, Decimal], dict[str, Path]]:
    """Constant rates, and the price files of pairs, by pair.

    Raises InvalidInput for what is no pair, and for a number that is not above 0; whether a file can be
    read shows when it is.
    """
    constants: dict[str, Decimal] = {}
    files: dict[str, Path] = {}
    for symbol, text in given.items():
        pair = instruments.find(symbol)
        try:
            number = Decimal(text.strip())
        except InvalidOperation:
            if not text.strip():
                raise InvalidInput(
                    f"rates: {pair.symbol}: expected a number or a file, was nothing"
                ) from None
            files[pair.symbol] = Path(text)
            continue
        if not number.is_finite() or not Decimal("1E-9") <= number <= Decimal("1E+9"):
            raise InvalidInput(f"rates: {pair.symbol}: expected a number above 0, was {text.strip()[:30]}")
        constants[pair.symbol] = number
    return constants, files

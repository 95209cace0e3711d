"""The parameters of the built-in strategies as a form knows them: type, range, default and help of each.

Read from `strategies.json`, which `make docs` writes from the strategies' own typed parameters, since this
service may not import the trader; a test fails when the two differ.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any

_SPELT = {"atr": "ATR", "r": "R", "rsi": "RSI", "ema": "EMA"}
FILE = Path(__file__).parent / "strategies.json"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. Bounds are None where there is none; `below` and `above` say that a bound itself is
    not allowed."""

    name: str
    help: str
    whole: bool
    default: str
    low: Decimal | None
    high: Decimal | None
    above: bool
    below: bool

    @property
    def label(self) -> str:
        """Its name as words."""
        words = [_SPELT.get(word, word) for word in self.name.split("_")]
        return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])

    @property
    def range(self) -> str:
        """What it may be, in a few words."""
        kind = "whole number" if self.whole else "number"
        if self.low is None or self.high is None:
            return kind
        least = f"above {self.low}" if self.above else f"{self.low}"
        most = f"below {self.high}" if self.below else f"{self.high}"
        return f"{kind}, {least} to {most}"

    def problem(self, text: str) -> str | None:
        """What is wrong with a value, or None."""
        value = _number(text)
        fits = value is not None and (not self.whole or value == value.to_integral_value())
        if fits and value is not None and self._within(value):
            return None
        return f"Expected a {self.range}"

    def _within(self, value: Decimal) -> bool:
        enough = self.low is None or (value > self.low if self.above else value >= self.low)
        small = self.high is None or (value < self.high if self.below else value <= self.high)
        return enough and small


@dataclass(frozen=True, slots=True)
class StrategyForm:
    """A strategy, what it does in a line, and its parameters."""

    name: str
    about: str
    parameters: tuple[Parameter, ...]


@cache
def strategy_forms() -> dict[str, StrategyForm]:
    """The built-in strategies by name."""
    found = json.loads(FILE.read_text(encoding="utf-8"))
    return {
        name: StrategyForm(
            name,
            entry["about"],
            tuple(_parameter(each, schema) for each, schema in entry["parameters"].items()),
        )
        for name, entry in found.items()
    }


def _parameter(name: str, schema: dict[str, Any]) -> Parameter:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    return Parameter(
        name=name,
        help=schema.get("description", ""),
        whole=schema.get("type") == "integer",
        default=_plain(schema["default"]),
        low=None if low is None else Decimal(_plain(low)),
        high=None if high is None else Decimal(_plain(high)),
        above="exclusiveMinimum" in schema,
        below="exclusiveMaximum" in schema,
    )


def _plain(value: float | str) -> str:
    return f"{Decimal(str(value)).normalize():f}"


def _number(text: str) -> Decimal | None:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return None
    return value if value.is_finite() else None

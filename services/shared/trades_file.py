"""The trades file: how a closed trade is written as a line of CSV, in one place.

Backtest, `desk trades` and the API's export all write through here and so agree to the byte, whether a
trade comes from an event or from PostgreSQL, whose numerics may carry other trailing zeros. Which rows,
and their order by seq, is the caller's business.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any, TextIO

from services.shared.errors import InvalidInput
from services.shared.events import TradeClosed
from services.shared.instruments import find
from services.shared.money import round_money
from services.shared.wire import wire_time

COLUMNS = (
    "trade_time",
    "entry_price",
    "exit_price",
    "pnl",
    "outcome",
    "r_multiple",
    "equity",
    "trade",
    "instrument",
    "side",
    "amount",
    "entry_time",
    "stop",
    "target",
    "initial_risk",
    "commission",
    "slippage",
    "exit_reason",
    "strategy",
)
HEADER = ",".join(COLUMNS) + "\n"
_R = Decimal("0.0001")
_NO_MINUS = Decimal(0)


@lru_cache(maxsize=512)
def _price_unit(symbol: str) -> Decimal | None:
    try:
        return Decimal(1).scaleb(-find(symbol).decimals)
    except InvalidInput:
        return None


def _plain(value: Decimal) -> str:
    """Without exponent and trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _price(value: Decimal | None, unit: Decimal | None) -> str:
    if value is None:
        return ""
    return _plain(value) if unit is None else format(value.quantize(unit, rounding=ROUND_HALF_EVEN), "f")


def _money(value: Decimal, currency: str) -> str:
    return format(round_money(value, currency) + _NO_MINUS, "f")


def _time(moment: datetime) -> str:
    return wire_time(moment.astimezone(UTC))


def cells(trade: TradeClosed | Mapping[str, Any], currency: str) -> tuple[str, ...]:
    """One trade's values as text, in the order of COLUMNS.

    `trade` is the event's body or any mapping with its fields (a database row). Times are UTC with Z,
    prices at the instrument's decimals, money at `currency`'s, r_multiple at four, all half-even; what
    is unknown is empty.
    """
    row: Mapping[str, Any] = (
        {name: getattr(trade, name) for name in COLUMNS} if isinstance(trade, TradeClosed) else trade
    )
    unit = _price_unit(row["instrument"])
    r_multiple: Decimal | None = row["r_multiple"]
    return (
        _time(row["trade_time"]),
        _price(row["entry_price"], unit),
        _price(row["exit_price"], unit),
        _money(row["pnl"], currency),
        row["outcome"],
        "" if r_multiple is None else format(r_multiple.quantize(_R, ROUND_HALF_EVEN) + _NO_MINUS, "f"),
        _money(row["equity"], currency),
        str(row["trade"]),
        row["instrument"],
        row["side"],
        _plain(row["amount"]),
        _time(row["entry_time"]),
        _price(row["stop"], unit),
        _price(row["target"], unit),
        _money(row["initial_risk"], currency),
        _money(row["commission"], currency),
        _money(row["slippage"], currency),
        row["exit_reason"],
        row["strategy"],
    )


def line(trade: TradeClosed | Mapping[str, Any], currency: str) -> str:
    """One trade as a line of the file, its line feed included."""
    values = cells(trade, currency)
    text = ",".join(values)
    if text.count(",") == len(COLUMNS) - 1 and not any(mark in text for mark in '"\r\n'):
        return text + "\n"
    quoted = io.StringIO()
    csv.writer(quoted, lineterminator="\n").writerow(values)
    return quoted.getvalue()


def lines(trades: Iterable[TradeClosed | Mapping[str, Any]], currency: str) -> Iterator[str]:
    """The whole file, header first, a line at a time and so in flat memory."""
    yield HEADER
    for trade in trades:
        yield line(trade, currency)


def write(trades: Iterable[TradeClosed | Mapping[str, Any]], currency: str, out: TextIO) -> int:
    """Write the file to `out`, opened with `newline=""`; returns the number of trades."""
    count = -1
    for text in lines(trades, currency):
        out.write(text)
        count += 1
    return count

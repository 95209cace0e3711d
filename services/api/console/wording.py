"""How the console words values: money, signs, times, rows. Pure; what is not known is a dash, never a zero."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from services.api.answers.records import AlertRow, PositionRow, TradeRow
from services.shared.statistics import Statistics, explanations

UNKNOWN = "–"
_MINUS = "−"
_CENT = Decimal("0.01")

TILES: tuple[tuple[str, str], ...] = (
    ("trades", "Trades"),
    ("win_rate", "Win rate"),
    ("profit_factor", "Profit factor"),
    ("expectancy_r", "Expectancy"),
    ("expectancy_r_error", "Standard error"),
    ("total_return", "Return"),
    ("max_drawdown", "Max drawdown"),
    ("sharpe", "Sharpe"),
    ("average_win", "Average win"),
    ("average_loss", "Average loss"),
    ("streak", "Streak"),
    ("exposure", "Exposure"),
    ("payoff", "Payoff"),
    ("days", "Trading days"),
)
"""The statistics shown as tiles, and their labels."""


def money(value: Decimal | None, *, signed: bool = False) -> str:
    """`10,009.85`, or `+9.85` where the sign is the point."""
    if value is None:
        return UNKNOWN
    exact = value.quantize(_CENT)
    text = f"{abs(exact):,.2f}"
    if exact < 0:
        return _MINUS + text
    return f"+{text}" if signed and exact > 0 else text


def number(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """A ratio with a fixed number of decimals."""
    if value is None:
        return UNKNOWN
    text = f"{abs(value):,.{digits}f}"
    if round(value, digits) < 0:
        return _MINUS + text
    return f"+{text}" if signed and round(value, digits) > 0 else text


def percent(share: float | None, digits: int = 1, *, signed: bool = False) -> str:
    """A share of one as a percentage."""
    return UNKNOWN if share is None else f"{number(share * 100, digits, signed=signed)} %"


def sign(value: Decimal | float | None) -> str:
    """`up`, `down` or `even`, for colour."""
    if not value:
        return "even"
    return "up" if value > 0 else "down"


def moment(value: datetime | None, *, seconds: bool = False) -> str:
    """A time in UTC, to the minute."""
    if value is None:
        return UNKNOWN
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def span(seconds: float | None) -> str:
    """A stretch of time in its two largest units."""
    if seconds is None:
        return UNKNOWN
    minutes = round(seconds / 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def milliseconds(value: datetime) -> int:
    """A time as browsers count it."""
    return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


_TILE_TEXTS: dict[str, Callable[[Statistics], str]] = {
    "trades": lambda known: f"{known.trades:,}",
    "win_rate": lambda known: percent(known.win_rate),
    "profit_factor": lambda known: number(known.profit_factor),
    "expectancy_r": lambda known: _in_r(known.expectancy_r, signed=True),
    "expectancy_r_error": lambda known: _in_r(known.expectancy_r_error),
    "payoff": lambda known: number(known.payoff),
    "total_return": lambda known: percent(known.total_return, 2, signed=True),
    "max_drawdown": lambda known: money(known.max_drawdown),
    "sharpe": lambda known: number(known.sharpe),
    "average_win": lambda known: money(known.average_win, signed=True),
    "average_loss": lambda known: money(known.average_loss, signed=True),
    "streak": lambda known: UNKNOWN if known.streak is None else number(known.streak, 0, signed=True),
    "exposure": lambda known: percent(known.exposure),
    "days": lambda known: f"{known.days:,}",
}


def _in_r(value: float | None, *, signed: bool = False) -> str:
    return UNKNOWN if value is None else f"{number(value, 2, signed=signed)} R"


def tile_texts(known: Statistics | None) -> dict[str, str]:
    """Every tile's value by its name."""
    return {name: UNKNOWN if known is None else _TILE_TEXTS[name](known) for name, _ in TILES}


def tile_help(name: str) -> str:
    """How a statistic is worked out."""
    return explanations()[name].replace("None", "Undefined")


def trade(row: TradeRow) -> dict[str, Any]:
    """A closed trade for the table of the last ones and the markers on the curve."""
    r = None if row.r_multiple is None else float(row.r_multiple)
    return {
        "run": row.run_id,
        "seq": row.seq,
        "at": milliseconds(row.trade_time),
        "balance": float(row.equity),
        "pnl": float(row.pnl),
        "cells": [
            moment(row.trade_time),
            row.instrument,
            row.side,
            f"{row.amount:,f}",
            f"{row.entry_price:f}",
            f"{row.exit_price:f}",
            money(row.pnl, signed=True),
            UNKNOWN if r is None else number(r, 2, signed=True),
            row.exit_reason.replace("_", " "),
        ],
        "sign": sign(row.pnl),
    }


def alert(row: AlertRow) -> dict[str, Any]:
    """An alert for the list of the last ones."""
    return {
        "severity": row.severity,
        "when": moment(row.recorded, seconds=True),
        "text": row.text,
        "action": row.action,
    }


def position(row: PositionRow) -> str:
    """An open position in a line."""
    stop = UNKNOWN if row.stop is None else f"{row.stop:f}"
    target = "" if row.target is None else f" · target {row.target:f}"
    return (
        f"{row.side} {row.open_amount:,f} {row.instrument} from {row.entry_price:f} · stop {stop}{target}"
        f" · risk {money(row.initial_risk)}"
    )

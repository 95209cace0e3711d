"""The trades file: the same bytes from an event and from a database row."""

from __future__ import annotations

import csv
import dataclasses
import io
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.shared.events import TradeClosed
from services.shared.trades_file import COLUMNS, HEADER, line, lines, write

TRADE = TradeClosed(
    trade=1,
    instrument="EURUSD",
    side="long",
    amount=Decimal("1E+3"),
    entry_time=datetime(2024, 1, 2, 12, tzinfo=UTC),
    entry_price=Decimal("1.1"),
    trade_time=datetime(2024, 1, 2, 13, 0, 0, 250000, tzinfo=UTC),
    exit_price=Decimal("1.123455"),
    stop=Decimal("1.0900"),
    target=None,
    initial_risk=Decimal("10"),
    pnl=Decimal("23.455"),
    outcome="win",
    r_multiple=Decimal("2.34565"),
    equity=Decimal("10023.46"),
    commission=Decimal(0),
    slippage=Decimal("0.005"),
    exit_reason="target",
    strategy="donchian",
    streak=1,
)


def test_the_file_begins_with_the_promised_columns() -> None:
    assert HEADER.startswith("trade_time,entry_price,exit_price,pnl,outcome,r_multiple,equity,")
    assert HEADER.endswith("\n")
    assert "run_id" not in COLUMNS
    assert "recorded" not in COLUMNS


def test_a_trade_is_written_at_its_instruments_and_currencys_decimals_half_even() -> None:
    assert line(TRADE, "USD") == (
        "2024-01-02T13:00:00.250000Z,1.10000,1.12346,23.46,win,2.3456,10023.46,1,EURUSD,long,1000,"
        "2024-01-02T12:00:00Z,1.09000,,10.00,0.00,0.00,target,donchian\n"
    )
    yen = dataclasses.replace(TRADE, instrument="USDJPY", entry_price=Decimal("110.1"), pnl=Decimal("23.5"))
    assert line(yen, "JPY").split(",")[1:4] == ["110.100", "1.123", "24"]


def test_a_loss_too_small_to_show_is_zero_without_a_minus() -> None:
    tiny = dataclasses.replace(TRADE, pnl=Decimal("-0.001"), r_multiple=Decimal("-0.00001"))
    assert line(tiny, "USD").split(",")[3:6:2] == ["0.00", "0.0000"]


def test_a_trade_without_r_leaves_its_cell_empty() -> None:
    assert line(dataclasses.replace(TRADE, r_multiple=None), "USD").split(",")[5] == ""


def test_a_name_with_a_comma_stays_one_cell() -> None:
    odd = dataclasses.replace(TRADE, strategy='my,"strategy"')
    assert next(csv.reader(io.StringIO(line(odd, "USD"))))[-1] == 'my,"strategy"'


NUMBERS = ("amount", "entry_price", "exit_price", "initial_risk", "pnl", "r_multiple", "equity", "slippage")


@given(
    st.fixed_dictionaries(
        {name: st.decimals(0, 10**9, places=8, allow_nan=False) for name in NUMBERS},
    ),
    st.integers(0, 4),
    st.integers(-12, 12),
)
def test_a_database_row_gives_the_same_bytes_as_the_event(
    values: dict[str, Decimal], zeros: int, zone: int
) -> None:
    trade = dataclasses.replace(TRADE, **values)  # type: ignore[arg-type]
    row: dict[str, Any] = dataclasses.asdict(trade)
    for name in NUMBERS:  # PostgreSQL keeps the scale it was given, not always ours
        row[name] = row[name].quantize(Decimal(1).scaleb(-8 - zeros))
    for name in ("trade_time", "entry_time"):
        row[name] = row[name].astimezone(timezone(timedelta(hours=zone)))
    assert line(row, "USD") == line(trade, "USD")


def test_a_file_is_its_header_and_its_rows_in_the_order_given_with_line_feeds() -> None:
    second = dataclasses.replace(TRADE, trade=2)
    out = io.StringIO(newline="")
    assert write([TRADE, second], "USD", out) == 2
    assert out.getvalue() == HEADER + line(TRADE, "USD") + line(second, "USD")
    assert "\r" not in out.getvalue()
    assert list(lines([], "USD")) == [HEADER]

"""The quick way to value what is open says, to the digit, what the exact way says."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shared.market import Quote
from services.shared.money import exact, round_money
from services.trader.book import Book, Position
from services.trader.rates import Rates
from services.trader.valuation import Valuation

D = Decimal
NOW = datetime(2024, 1, 8, tzinfo=UTC)


def _position(name: str, side: str, amount: int, price: Decimal, stop: float | None) -> Position:
    return Position(
        trade=1,
        instrument=name,
        side=side,  # type: ignore[arg-type]
        strategy="test",
        entry_time=NOW,
        reference=price,
        reference_rate=D(1),
        first_stop=None,
        stop=stop,
        target=None,
    )


@settings(deadline=None, max_examples=400)
@pytest.mark.parametrize(
    ("currency", "names", "constants"),
    [
        ("USD", ("EURUSD", "USDJPY"), {}),
        ("JPY", ("USDJPY", "EURUSD"), {"USDJPY": D("151.237")}),
        ("CHF", ("EURCHF", "GBPUSD"), {"USDCHF": D("0.8837")}),
    ],
)
@given(
    held=st.lists(
        st.tuples(
            st.sampled_from(["long", "short"]),
            st.integers(1, 5_000_000),
            st.integers(-3000, 3000),
            st.integers(-500, 3000),
        ),
        min_size=1,
        max_size=2,
    )
)
def test_unrealised_and_open_risk_are_the_exact_ones_to_the_digit(
    currency: str,
    names: tuple[str, ...],
    constants: dict[str, Decimal],
    held: list[tuple[str, int, int, int]],
) -> None:
    rates = Rates(currency, names, constants)
    book = Book(currency=currency, balance=D(10000), peak=D(10000))
    quotes: dict[str, Quote] = {}
    gain = risk = D(0)
    for name, (side, amount, moved, stopped) in zip(names, held, strict=False):
        tick = D("0.001") if name.endswith("JPY") else D("0.00001")
        entry = 110_000 * tick
        sign = 1 if side == "long" else -1
        now, stop = entry + moved * tick, entry - sign * stopped * tick
        position = _position(name, side, amount, entry, float(stop))
        book.open(position)
        book.book_entry(position, D(amount), entry, D(0), D(0))
        quotes[name] = Quote(name, NOW, float(now), float(now))
        rate = rates.rate(name, exact(float(now)))
        gain += sign * (now - entry) * amount * rate
        risk += max(D(0), sign * (entry - stop) * amount * rate)
    found = Valuation(book, rates).of(quotes)
    expected = (round_money(gain, currency) + 0, round_money(risk, currency) + 0)
    assert found == expected
    assert [str(value) for value in found] == [str(value) for value in expected]


def test_the_middle_between_two_cents_goes_to_the_even_one() -> None:
    book = Book(currency="USD", balance=D(10000), peak=D(10000))
    position = _position("EURUSD", "long", 1500, D("1.1"), None)
    book.open(position)
    book.book_entry(position, D(1500), D("1.10000"), D(0), D(0))
    valuation = Valuation(book, Rates("USD", ["EURUSD"]))
    found = [valuation.of({"EURUSD": Quote("EURUSD", NOW, price, price)})[0] for price in (1.10001, 1.10003)]
    assert [str(value) for value in found] == ["0.02", "0.04"]  # 0.015 and 0.045

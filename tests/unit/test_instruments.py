"""Instruments: which pairs are known, and how prices are rounded to their ticks."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.errors import InvalidInput
from services.shared.instruments import find, level, price
from services.shared.money import canonical


def test_eurusd_has_the_documented_tick_pip_and_lot() -> None:
    eurusd = find("EURUSD")
    assert (eurusd.base, eurusd.quote, eurusd.decimals) == ("EUR", "USD", 5)
    assert (eurusd.tick, eurusd.pip) == (Decimal("0.00001"), Decimal("0.0001"))
    assert (eurusd.min_amount, eurusd.amount_step) == (Decimal(1000), Decimal(1))


def test_a_pair_quoted_in_yen_has_coarser_ticks() -> None:
    usdjpy = find("USDJPY")
    assert (usdjpy.tick, usdjpy.pip, usdjpy.decimals) == (Decimal("0.001"), Decimal("0.01"), 3)


@pytest.mark.parametrize("symbol", ["", "EUR", "eurusd", "EURUSDX", "EUREUR", "ABCDEF", "EURXXX", "AAPL.O"])
def test_what_is_no_currency_pair_is_refused_with_what_is_expected(symbol: str) -> None:
    with pytest.raises(InvalidInput, match="expected a currency pair"):
        find(symbol)


def test_a_price_halfway_between_ticks_goes_to_the_even_one() -> None:
    eurusd = find("EURUSD")
    assert str(price(Decimal("1.100005"), eurusd)) == "1.10000"
    assert str(price(Decimal("1.100015"), eurusd)) == "1.10002"
    assert str(price(1.1, eurusd)) == "1.10000"


@given(
    st.one_of(st.floats(0.0001, 100_000), st.integers(1, 10**10).map(lambda half: half / 2 * 0.00001)),
    st.sampled_from(["EURUSD", "USDJPY"]),
)
def test_a_float_has_the_exact_price_of_its_decimal(value: float, symbol: str) -> None:
    pair = find(symbol)
    assert str(price(value, pair)) == str(price(Decimal(repr(value)), pair))


@given(st.integers(1, 500_000))
def test_a_level_on_the_grid_is_the_canonical_float_of_its_price(ticks: int) -> None:
    exact = Decimal(ticks) * Decimal("0.00001")
    noisy = float(exact) + 3e-12
    assert level(noisy, Decimal("0.00001")) == float(exact) == canonical(float(exact))


@given(st.floats(0.0001, 500), st.sampled_from(["0.00001", "0.001", "0.00005", "0.25"]))
def test_a_level_is_a_multiple_of_its_tick_and_no_farther_than_half_of_it(value: float, tick: str) -> None:
    rounded = Decimal(repr(level(value, Decimal(tick))))
    assert rounded % Decimal(tick) == 0
    assert abs(rounded - Decimal(value)) <= Decimal(tick) / 2 + Decimal("1e-12")


def test_an_impossible_tick_is_refused() -> None:
    with pytest.raises(InvalidInput, match="expected a positive number"):
        level(1.0, Decimal(0))

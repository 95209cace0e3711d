"""Conversion to the account's currency, by each of the ways TRADING 2 knows."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from services.shared.errors import InvalidInput
from services.shared.market import Quote
from services.trader.feeds.rate_files import parse_rates
from services.trader.rates import Rates

NOW = datetime(2024, 1, 2, tzinfo=UTC)


def test_a_quote_currency_that_is_the_accounts_converts_at_one() -> None:
    assert Rates("USD", ["EURUSD"]).rate("EURUSD", Decimal("1.1")) == 1


def test_a_base_that_is_the_accounts_converts_by_the_instruments_own_price() -> None:
    assert Rates("USD", ["USDCHF"]).rate("USDCHF", Decimal("0.8")) == Decimal("1.25")


def test_an_inverse_is_rounded_half_even_at_twelve_decimals() -> None:
    assert str(Rates("USD", ["USDJPY"]).rate("USDJPY", Decimal(150))) == "0.006666666667"


@pytest.mark.parametrize(("pair", "number"), [("USDGBP", "0.8"), ("GBPUSD", "1.25")])
def test_a_given_number_converts_in_either_direction(pair: str, number: str) -> None:
    rates = Rates("USD", ["EURGBP"], {pair: Decimal(number)})
    assert rates.rate("EURGBP", Decimal("0.85")) == Decimal("1.25")
    assert rates.known == {"GBP": Decimal("1.25")}


def test_given_prices_convert_by_the_middle_of_the_latest() -> None:
    rates = Rates("USD", ["EURCHF"], {}, ["USDCHF"])
    with pytest.raises(InvalidInput, match="no price of CHF known yet"):
        rates.rate("EURCHF", Decimal("0.95"))
    rates.on_quote(Quote("USDCHF", NOW, 0.79, 0.81))
    assert rates.rate("EURCHF", Decimal("0.95")) == Decimal("1.25")
    rates.on_quote(Quote("USDCHF", NOW, 0.99, 1.01))
    rates.on_quote(Quote("EURCHF", NOW, 0.1, 0.2))
    assert rates.rate("EURCHF", Decimal("0.95")) == 1


def test_without_a_rate_it_is_refused_with_the_option_to_give() -> None:
    with pytest.raises(InvalidInput, match="--rates USDCHF=FILE or --rates USDCHF=NUMBER"):
        Rates("USD", ["EURUSD", "EURCHF"], {"EURCHF": Decimal(1)})


def test_given_rates_are_told_apart_into_numbers_and_files() -> None:
    assert parse_rates({"USDCHF": "0.97", "USDJPY": "rates/jpy.csv"}) == (
        {"USDCHF": Decimal("0.97")},
        {"USDJPY": Path("rates/jpy.csv")},
    )


@pytest.mark.parametrize(
    ("pair", "text", "complaint"),
    [
        ("USDCHF", "0", "above 0"),
        ("USDCHF", "-1", "above 0"),
        ("USDCHF", "NaN", "above 0"),
        ("USDCHF", "1e99", "above 0"),
        ("USDCHF", " ", "a number or a file"),
        ("FRANCS", "1", "a currency pair"),
    ],
)
def test_a_rate_that_cannot_be_is_refused(pair: str, text: str, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        parse_rates({pair: text})

"""The limits' names, defaults and text, and which change is which."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.errors import InvalidInput
from services.shared.limits import (
    MEANING,
    NAMES,
    Bound,
    Limits,
    changes,
    deploy_check,
    parse,
    parse_assignments,
    tightens,
)

D = Decimal


def test_the_defaults_are_those_of_trading_6() -> None:
    assert Limits().as_text() == {
        "drawdown": "3000",
        "drawdown_percent": "off",
        "daily_loss": "10x",
        "losing_streak": "off",
        "trade_risk": "2x",
        "open_risk": "3x",
        "positions_per_instrument": "1",
        "positions": "3",
        "notional": "5x",
        "entries_per_minute": "10",
        "price_collar": "0.5",
        "quote_age": "30",
        "bar_age": "2",
        "spread": "5",
        "silence_alert": "15",
        "silence_halt": "120",
        "equity_difference": "0.5",
        "equity_difference_seconds": "60",
    }


def test_every_limit_says_what_it_does() -> None:
    assert set(MEANING) == set(NAMES)


def test_amounts_are_resolved_by_the_deployed_risk() -> None:
    amounts = Limits().amounts(D("12.50"))
    assert (amounts.daily_loss, amounts.trade_risk, amounts.open_risk) == (D(125), D(25), D("37.5"))
    assert Limits(daily_loss=Bound(D(80), times=False)).amounts(D(10)).daily_loss == D(80)


def test_people_may_type_units_spaces_and_dashes() -> None:
    typed = parse({" Losing-Streak ": " 4 ", "price_collar": "1%", "quote_age": "20s", "daily_loss": "75.5"})
    assert typed.losing_streak == 4
    assert typed.price_collar == D(1)
    assert typed.quote_age == D(20)
    assert typed.daily_loss == Bound(D("75.5"), times=False)


@pytest.mark.parametrize("name", ["drawdown_percent", "daily_loss", "losing_streak"])
def test_some_limits_may_be_switched_off(name: str) -> None:
    assert parse({name: "off"}).as_text()[name] == "off"


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n not in ("drawdown_percent", "daily_loss", "losing_streak")]
)
def test_the_other_limits_may_not(name: str) -> None:
    with pytest.raises(InvalidInput, match=name):
        parse({name: "off"})


@pytest.mark.parametrize(
    "value", ["", "0", "-1", "nan", "inf", "1e9", "１", "1_000", "0x10", "{text}", "1" * 30]
)
def test_what_is_no_amount_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidInput, match="drawdown: expected"):
        parse({"drawdown": value})


@pytest.mark.parametrize("text", ["drawdown", "=5", "drawdown=", ""])
def test_an_assignment_has_a_name_and_a_value(text: str) -> None:
    with pytest.raises(InvalidInput, match="name=value"):
        parse_assignments([text])


def test_assignments_are_read_in_order() -> None:
    assert parse_assignments(["drawdown=2500", "drawdown=2600"]) == {"drawdown": "2600"}


def test_off_is_loosest() -> None:
    assert changes(Limits(), parse({"daily_loss": "off"})) == {"daily_loss": "looser"}
    assert changes(Limits(), parse({"losing_streak": "3"})) == {"losing_streak": "tighter"}


def test_money_and_a_multiple_compare_at_the_deployed_risk_and_otherwise_count_as_looser() -> None:
    new = parse({"daily_loss": "90"})
    assert tightens(Limits(), new, D(10))
    assert not tightens(Limits(), new, D(8))
    assert not tightens(Limits(), new)


@given(
    st.dictionaries(
        st.sampled_from(["drawdown", "notional", "open_risk", "spread", "silence_halt"]),
        st.integers(1, 10**9).map(str),
    )
)
def test_text_comes_back_as_the_same_limits(values: dict[str, str]) -> None:
    limits = parse(values)
    assert parse(limits.as_text()) == limits


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_change_is_tighter_one_way_and_looser_the_other(one: int, other: int) -> None:
    first, second = parse({"drawdown": str(one)}), parse({"drawdown": str(other)})
    assert tightens(first, second) == (other <= one)
    assert tightens(first, first)


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_is_typed_is_taken_or_refused_by_name(name: str, value: str) -> None:
    try:
        known = parse({name: value})
    except InvalidInput:
        return
    assert name.strip().lower().replace("-", "_") in known.as_text()


def test_the_deploy_check_is_amber_above_fifty_r_or_ten_percent_and_proposes_thirty_r() -> None:
    lines = {line.name: line for line in deploy_check(Limits(), D(10), D(10000))}
    assert (lines["drawdown"].in_r, lines["drawdown"].percent, lines["drawdown"].amber) == (
        D(300),
        D(30),
        True,
    )
    assert lines["drawdown"].proposed == D(300)
    assert not lines["daily_loss"].amber

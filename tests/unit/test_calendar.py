"""The calendar: days and weeks end at 17:00 New York, on both sides of the clock's changes."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.calendar import (
    NEW_YORK,
    in_session,
    next_session,
    trading_day,
    trading_day_end,
    week_close,
)

SAMPLE = Path(__file__).parents[2] / "services/trader/feeds/sample/EURUSD-1h.csv"
MOMENTS = st.datetimes(datetime(2015, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2017-07-05T21:00:00", date(2017, 7, 5)),  # 17:00 in summer, to the second
        ("2017-07-05T21:00:01", date(2017, 7, 6)),
        ("2017-12-05T22:00:00", date(2017, 12, 5)),  # 17:00 in winter
        ("2017-12-05T21:30:00", date(2017, 12, 5)),
        ("2017-12-05T22:00:00.000001", date(2017, 12, 6)),
    ],
)
def test_a_trading_day_ends_at_17_new_york_in_summer_and_winter(moment: str, day: date) -> None:
    assert trading_day(utc(moment)) == day


def test_the_sample_has_211_trading_days() -> None:
    with SAMPLE.open() as lines:
        ends = [datetime.fromisoformat(row["time"]) + timedelta(hours=1) for row in csv.DictReader(lines)]
    assert len({trading_day(end) for end in ends}) == 211


@given(MOMENTS)
def test_a_day_holds_its_moments_and_ends_at_17_new_york(moment: datetime) -> None:
    end = trading_day_end(moment)
    assert end.astimezone(NEW_YORK).hour == 17
    assert moment <= end
    assert end.astimezone(NEW_YORK).date() == trading_day(moment) == trading_day(end)
    assert trading_day(end + timedelta(microseconds=1)) == trading_day(moment) + timedelta(days=1)


@given(st.lists(MOMENTS, min_size=2, max_size=20))
def test_what_was_asked_before_does_not_change_the_answer(moments: list[datetime]) -> None:
    def ask(moment: datetime) -> tuple[date, datetime, bool]:
        return trading_day(moment), week_close(moment), in_session(moment)

    first = [ask(moment) for moment in moments]
    assert [ask(moment) for moment in reversed(moments)] == first[::-1]


@pytest.mark.parametrize(
    ("moment", "close"),
    [
        ("2017-03-10T21:00:00", "2017-03-10T22:00:00"),
        ("2017-03-10T22:00:00", "2017-03-10T22:00:00"),
        ("2017-03-10T22:00:01", "2017-03-17T21:00:00"),  # New York went to summer time in between
        ("2017-11-05T12:00:00", "2017-11-10T22:00:00"),
    ],
)
def test_a_week_closes_on_friday_17_new_york(moment: str, close: str) -> None:
    assert week_close(utc(moment)) == utc(close)


@pytest.mark.parametrize(
    ("moment", "trades"),
    [
        ("2017-07-07T20:59:59", True),
        ("2017-07-07T21:00:00", False),
        ("2017-07-08T12:00:00", False),
        ("2017-07-09T20:59:59", False),
        ("2017-07-09T21:00:00", True),
        ("2017-03-12T20:59:59", False),  # the Sunday of the change
        ("2017-03-12T21:00:00", True),
    ],
)
def test_the_market_trades_from_sunday_to_friday_17_new_york(moment: str, trades: bool) -> None:
    assert in_session(utc(moment)) is trades


@given(MOMENTS)
def test_the_next_session_is_now_or_the_first_moment_that_trades(moment: datetime) -> None:
    opens = next_session(moment)
    assert in_session(opens)
    assert (opens == moment) is in_session(moment)
    if opens != moment:
        assert not in_session(opens - timedelta(microseconds=1))
        assert opens - moment <= timedelta(hours=49)  # the weekend the clock goes back is an hour longer
    assert moment <= week_close(moment) <= moment + timedelta(days=7, hours=1)


def test_other_time_zones_mean_the_same_moment() -> None:
    moment = utc("2017-07-05T21:00:01")
    assert trading_day(moment.astimezone(NEW_YORK)) == trading_day(moment)

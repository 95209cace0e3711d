"""When markets trade: trading days, weekly sessions and their ends, by the clock of New York.

A trading day ends at 17:00 New York, and that very moment still belongs to it, because a bar is known
at its end. Trading goes from Sunday to Friday 17:00. Holidays are not known here: a closed market shows
as a gap in prices. In SQL a moment's trading day is
`((time - interval '1 microsecond') AT TIME ZONE 'America/New_York' + interval '7 hours')::date`.

Day and week of the last question are remembered, so that asking at every bar costs a comparison.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
DAY_END = time(17)
_FRIDAY = 4


@lru_cache(maxsize=32)
def day_end(day: date) -> datetime:
    """17:00 New York on `day`, in UTC."""
    return datetime.combine(day, DAY_END, NEW_YORK).astimezone(UTC)


class _Day(NamedTuple):
    """(after, until] in UTC, and the trading day it is."""

    after: datetime
    until: datetime
    day: date


class _Week(NamedTuple):
    """From one Friday's close (excluded) over Sunday's opening to the next close (included), in UTC."""

    after: datetime
    opens: datetime
    close: datetime


_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
_day = _Day(_LONG_AGO, _LONG_AGO, date(1, 1, 1))
_week = _Week(_LONG_AGO, _LONG_AGO, _LONG_AGO)


def _find_day(moment: datetime) -> _Day:
    # Nearly always it is the day after the last one asked for.
    last = _day
    if last.until < moment:
        tomorrow = last.day + timedelta(days=1)
        end = day_end(tomorrow)
        if moment <= end:
            return _Day(last.until, end, tomorrow)
    day = moment.astimezone(NEW_YORK).date()
    if moment > day_end(day):
        day += timedelta(days=1)
    return _Day(day_end(day - timedelta(days=1)), day_end(day), day)


def _find_week(moment: datetime) -> _Week:
    day = moment.astimezone(NEW_YORK).date()
    friday = day + timedelta(days=(_FRIDAY - day.weekday()) % 7)
    if moment > day_end(friday):
        friday += timedelta(days=7)
    return _Week(day_end(friday - timedelta(days=7)), day_end(friday - timedelta(days=5)), day_end(friday))


def trading_day(moment: datetime) -> date:
    """The trading day an aware `moment` belongs to, named by the date it ends on."""
    global _day
    known = _day
    if not known.after < moment <= known.until:
        _day = known = _find_day(moment)
    return known.day


def trading_day_end(moment: datetime) -> datetime:
    """When the trading day of `moment` ends, in UTC."""
    global _day
    known = _day
    if not known.after < moment <= known.until:
        _day = known = _find_day(moment)
    return known.until


def _week_of(moment: datetime) -> _Week:
    global _week
    known = _week
    if not known.after < moment <= known.close:
        _week = known = _find_week(moment)
    return known


def week_close(moment: datetime) -> datetime:
    """The next Friday 17:00 New York at or after `moment`, in UTC."""
    return _week_of(moment).close


def in_session(moment: datetime) -> bool:
    """Whether the market trades at `moment`: Sunday 17:00 (included) to Friday 17:00 (excluded)."""
    week = _week_of(moment)
    return week.opens <= moment < week.close


def next_session(moment: datetime) -> datetime:
    """`moment` itself in session, otherwise when the market opens next, in UTC."""
    week = _week_of(moment)
    if moment == week.close:
        week = _week_of(moment + timedelta(microseconds=1))
    return moment if moment >= week.opens else week.opens

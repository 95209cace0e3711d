"""Which archives there are to be: when one is due, how it is called, and which are thrown away. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

LATE: Final = timedelta(hours=26)
"""Without a backup for so long something is wrong: a day, and time to make one."""
DAYS, WEEKS, MONTHS = 7, 4, 6
"""Of so many days, weeks and months that have an archive the newest is kept."""
_ALL_OF: Final = timedelta(days=1)
_NAME = re.compile(r"desk-(\d{4}-\d\d-\d\dT\d{4}(?:\d\d)?)Z\.tar")


def name_of(made: datetime, taken: Iterable[str] = ()) -> str:
    """An archive's name, to the minute; to the second where there is one of that minute."""
    name = f"desk-{made:%Y-%m-%dT%H%M}Z.tar"
    return name if name not in set(taken) else f"desk-{made:%Y-%m-%dT%H%M%S}Z.tar"


def made_at(name: str) -> datetime | None:
    """When an archive was begun, by its name; None for what is no archive's name."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    form = "%Y-%m-%dT%H%M" if len(found[1]) == 15 else "%Y-%m-%dT%H%M%S"
    try:
        return datetime.strptime(found[1], form).replace(tzinfo=UTC)
    except ValueError:
        return None


def archives(names: Iterable[str]) -> dict[str, datetime]:
    """Those of the names that are archives', newest first."""
    found = [(moment, name) for name in names if (moment := made_at(name)) is not None]
    return {name: moment for moment, name in sorted(found, reverse=True)}


def due(newest: datetime | None, now: datetime, hour: int) -> datetime:
    """When the next one is due, `hour` being the hour of the day in UTC; in the past where one was missed."""
    today = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    last = today if today <= now else today - timedelta(days=1)
    return last if newest is None or newest < last else last + timedelta(days=1)


def late(newest: datetime | None, began: datetime, now: datetime) -> bool:
    """Whether the last one is too long ago; a process that `began` a while ago had its chance."""
    return now - max(newest or began, began) > LATE


def to_prune(names: Iterable[str], now: datetime) -> list[str]:
    """The archives that nobody needs any more.

    Kept are all of the last 24 hours and the newest of each of the last 7 days, 4 weeks and 6 months that
    have one.
    """
    found = archives(names)
    kept = {name for name, moment in found.items() if now - moment <= _ALL_OF}
    spans: tuple[tuple[int, Callable[[datetime], tuple[int, ...]]], ...] = (
        (DAYS, lambda moment: (moment.toordinal(),)),
        (WEEKS, lambda moment: moment.isocalendar()[:2]),
        (MONTHS, lambda moment: (moment.year, moment.month)),
    )
    for count, span in spans:
        newest: dict[tuple[int, ...], str] = {}
        for name, moment in found.items():
            newest.setdefault(span(moment), name)
        kept |= set(list(newest.values())[:count])
    return [name for name in found if name not in kept]


__all__ = ["DAYS", "LATE", "MONTHS", "WEEKS", "archives", "due", "late", "made_at", "name_of", "to_prune"]

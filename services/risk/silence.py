"""Who has been heard when, and since when silence counts: the guard's watch over heartbeats. Pure.

Times are a monotonic clock's seconds, handed in. Silence counts from the later of the last sign of life and
the guard's own start, a reconnection, or the end of a time in which the guard itself stood still: none of
these may sell out a position whose stop is at the broker (TRADING 6).

A service that dies at each start, or hangs, is heard now and then for a moment. It is back once one process of it has
been heard for as long as silence has to last to be told. Until then the time since the process before it goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

WATCHED = ("trader", "recorder", "api")
OTHERS_ALERT = 15.0
_STOOD_STILL = 3.0


@dataclass(frozen=True, slots=True)
class Silence:
    """A service fell silent or does not stay up, still does, or is back. `seconds` since it was heard, or, started so
    many times since, since it was well."""

    service: str
    state: Literal["fell", "lasts", "back"]
    seconds: float
    started: int = 0


@dataclass(slots=True)
class _Heard:
    """What is known of a service: its last sign of life, since when its process has been heard on end, how many
    processes it has had since one stayed up, and the last sign of that one."""

    last: float
    since: float
    well: float
    process: datetime | None = None
    started: int = 0
    told: bool = False


class Heartbeats:
    """The last signs of life of each service."""

    def __init__(self, now: float, services: Iterable[str] = WATCHED) -> None:
        self._from = now
        self._looked = now
        self._heard = {service: _Heard(last=now, since=now, well=now) for service in services}

    def heard(self, service: str, now: float, process: datetime | None = None) -> None:
        """A sign of life; of the process that began at `process`, where that is told."""
        found = self._heard.get(service)
        if found is None:
            return
        if process is not None and process != found.process:
            if found.process is not None:
                if not found.started:
                    found.well = found.last
                found.since = now
                found.started += 1
            found.process = process
        found.last = now

    def start_over(self, now: float) -> None:
        """Silence counts from now on at the earliest."""
        self._from = now
        for found in self._heard.values():
            found.since, found.started = now, 0

    def silent_for(self, service: str, now: float) -> float:
        """Seconds of silence that count."""
        return now - max(self._heard[service].last, self._from)

    def heard_since(self, service: str, moment: float) -> bool:
        """Whether there was a sign of life after `moment`."""
        return self._heard[service].last > moment

    def look(self, now: float, alert_after: dict[str, float]) -> list[Silence]:
        """What is to be said now; to be called about twice a second."""
        if now - self._looked > _STOOD_STILL:
            self.start_over(now)
        self._looked = now
        said = (
            self._look_at(service, now, alert_after.get(service, OTHERS_ALERT)) for service in self._heard
        )
        return [silence for silence in said if silence is not None]

    def _look_at(self, service: str, now: float, patience: float) -> Silence | None:
        found = self._heard[service]
        seconds = self.silent_for(service, now)
        silent = seconds >= patience
        if silent:
            found.since = now
        stays_up = found.last - found.since >= patience
        if stays_up:
            found.started = 0
        if found.started:
            seconds = now - max(found.well, self._from)
        # Started once is a restart. Started again before that has stayed up is one that does not.
        if silent or (found.started > 1 and seconds >= patience):
            state: Literal["fell", "lasts"] = "lasts" if found.told else "fell"
            found.told = True
            return Silence(service, state, seconds, found.started)
        if found.told and stays_up:
            found.told = False
            return Silence(service, "back", 0.0)
        return None

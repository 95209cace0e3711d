"""Who has been heard when, and since when silence counts: the guard's watch over heartbeats. Pure.

Times are a monotonic clock's seconds, handed in. Silence counts from the later of the last sign of life and
the guard's own start, a reconnection, or the end of a time in which the guard itself stood still: none of
these may sell out a position whose stop is at the broker (TRADING 6).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

WATCHED = ("trader", "recorder", "api")
OTHERS_ALERT = 15.0
_STOOD_STILL = 3.0


@dataclass(frozen=True, slots=True)
class Silence:
    """A service fell silent, is still silent, or is back."""

    service: str
    state: Literal["fell", "lasts", "back"]
    seconds: float


class Heartbeats:
    """The last sign of life of each service."""

    def __init__(self, now: float, services: Iterable[str] = WATCHED) -> None:
        self._from = now
        self._looked = now
        self._heard: dict[str, float] = dict.fromkeys(services, now)
        self._silent: dict[str, float] = {}

    def heard(self, service: str, now: float) -> None:
        """A sign of life."""
        if service in self._heard:
            self._heard[service] = now

    def start_over(self, now: float) -> None:
        """Silence counts from now on at the earliest."""
        self._from = now

    def silent_for(self, service: str, now: float) -> float:
        """Seconds of silence that count."""
        return now - max(self._heard[service], self._from)

    def heard_since(self, service: str, moment: float) -> bool:
        """Whether there was a sign of life after `moment`."""
        return self._heard[service] > moment

    def look(self, now: float, alert_after: dict[str, float]) -> list[Silence]:
        """What is to be said now; to be called about twice a second."""
        if now - self._looked > _STOOD_STILL:
            self._from = now
        self._looked = now
        found = []
        for service, heard in self._heard.items():
            seconds = now - max(heard, self._from)
            if seconds >= alert_after.get(service, OTHERS_ALERT):
                found.append(Silence(service, "lasts" if service in self._silent else "fell", seconds))
                self._silent.setdefault(service, now)
            elif service in self._silent and heard > self._silent[service]:
                del self._silent[service]
                found.append(Silence(service, "back", 0.0))
        return found

"""Heartbeats as one process has heard them: the last of every service and instance, and how long ago.

What silence means is for whoever listens to decide.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from nats.aio.msg import Msg
from pydantic import ValidationError

from services.shared import subjects
from services.shared.commands import HEARTBEAT, Heartbeat

_MOST_INSTANCES = 64


@dataclass(frozen=True, slots=True)
class Pulse:
    """A service's last sign of life and how many seconds ago it came."""

    beat: Heartbeat
    age: float


class Watch:
    """The last heartbeat of every service and instance. Ages are by this process's own clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._heard: dict[tuple[str, str], tuple[Heartbeat, float]] = {}

    async def hear(self, message: Msg) -> None:
        """Take in a heartbeat; anything else on its subject is passed over."""
        try:
            beat = HEARTBEAT.validate_json(message.data)
        except ValidationError:
            return
        # The subject says who may speak for a service; the payload could name anybody.
        if message.subject != subjects.heartbeat(beat.service, beat.instance):
            return
        if (beat.service, beat.instance) in self._heard or len(self._heard) < _MOST_INSTANCES:
            self._heard[beat.service, beat.instance] = (beat, self._clock())

    def pulses(self) -> list[Pulse]:
        """Every service heard of, by name and instance."""
        now = self._clock()
        return [Pulse(beat, now - when) for _, (beat, when) in sorted(self._heard.items())]

    def silence(self, service: str) -> float:
        """Seconds since any instance of `service` was heard, counted from our own start at the earliest."""
        heard = [when for (name, _), (_, when) in self._heard.items() if name == service]
        return self._clock() - max([self._since, *heard])

    def restart(self) -> None:
        """Count silence from now: while NATS was away nobody could be heard."""
        self._since = self._clock()


__all__ = ["Pulse", "Watch"]

"""When the next step of a paced replay is due on the wall's clock. Pure.

Data time passes `speed` times as fast as the wall's; time without prices (nights, weekends) is passed over,
so that a replay never seems dead.
"""

from __future__ import annotations

from datetime import datetime, timedelta

_LATE = 1.0


class Pace:
    """Turns data times into moments of a monotonic clock, in seconds. Speed 0: everything is due at once."""

    def __init__(self, speed: float, bar_seconds: int) -> None:
        self._speed = speed
        self._bar = timedelta(seconds=bar_seconds)
        self._before: datetime | None = None
        self._due = 0.0

    def due(self, time: datetime, now: float) -> float:
        """The moment for the step of `time`; `now` is the clock's. A step that is late delays the rest."""
        if not self._speed:
            return now
        if self._before is None:
            self._due = now
        else:
            passed = time - self._before
            if passed > 2 * self._bar:
                passed = self._bar
            self._due = max(self._due + passed.total_seconds() / self._speed, now - _LATE)
        self._before = time
        return self._due

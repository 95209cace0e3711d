"""How long to wait before a dead process is started again."""

from __future__ import annotations

SHORTEST = 0.1
LONGEST = 5.0
HEALTHY_AFTER = 10.0


class Backoff:
    """Doubles from 0.1 s to 5 s with each death, and starts over after 10 s of health. Never gives up."""

    def __init__(self) -> None:
        self._next = SHORTEST

    def after(self, healthy_for: float) -> float:
        """Seconds to wait after a death, when the process had been healthy for so many seconds."""
        if healthy_for >= HEALTHY_AFTER:
            self._next = SHORTEST
        wait, self._next = self._next, min(self._next * 2, LONGEST)
        return wait


__all__ = ["HEALTHY_AFTER", "LONGEST", "SHORTEST", "Backoff"]

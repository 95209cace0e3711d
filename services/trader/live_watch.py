"""What a live run must notice by the wall's clock: a guard fallen silent, a stop that was never stored.

Pure: the clock comes in, what the engine is to be given comes out. Each is said once, and when it is over.
"""

from __future__ import annotations

from services.trader.inputs import GuardSilent, Notice

_GUARD_SILENT_AFTER = 5.0
_STORED_WITHIN = 5.0


class LiveWatch:
    """Watches for one trader. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._guard_heard = 0.0
        self._guard_lost = False
        self._block_told = False

    def heard_guard(self, now: float) -> None:
        """The guard is alive."""
        self._guard_heard = now

    def look(self, now: float, *, heard: str | None, since: float) -> list[GuardSilent | Notice]:
        """All that there is to notice. `heard` is what was heard `since` and has not been stored."""
        noticed = (self._look_at_guard(now), self._look_at_block(now, heard=heard, since=since))
        return [given for given in noticed if given is not None]

    def _look_at_guard(self, now: float) -> GuardSilent | Notice | None:
        """Resting entries go when the guard has fallen silent; a person hears when it is back."""
        silent = now - self._guard_heard > _GUARD_SILENT_AFTER
        if silent is self._guard_lost:
            return None
        self._guard_lost = silent
        if silent:
            return GuardSilent()
        return Notice("INFO", "guard_back", "The guard answers again: entries may leave.", "Nothing to do.")

    def _look_at_block(self, now: float, *, heard: str | None, since: float) -> Notice | None:
        """A `heard` stop that nothing stored has followed: nothing enters meanwhile, and a person must know."""
        late = heard is not None and now - since > _STORED_WITHIN
        told, self._block_told = self._block_told, late
        if not late or told:
            return None
        return Notice(
            "CRITICAL",
            "stop_not_stored",
            f"A {heard} was heard and has not been stored: entries are blocked, nothing is closed.",
            "Say it again with `desk stop` or `desk halt`; if that is refused, `desk doctor` says why.",
        )


__all__ = ["LiveWatch"]

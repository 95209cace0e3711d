"""The strategy's window on the engine: one context an instrument, reused at every bar.

It only lets through what is allowed now; what becomes of a wish is in `orders`. Implements
`strategies.base.Context`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from services.shared.errors import InvalidInput
from services.shared.events import Side
from services.shared.market import Quote
from services.trader.history import History
from services.trader.strategies.base import Holding, timeframe_seconds

if TYPE_CHECKING:
    from services.trader.engine import Engine

_SHARED = "*"


class InstrumentContext:
    """What a strategy sees and may do with one instrument."""

    __slots__ = ("_base", "_engine", "_known", "_seconds", "instrument", "time")

    def __init__(self, engine: Engine, instrument: str) -> None:
        self._engine = engine
        self._base = engine.timeframes[instrument].base
        self._known = engine.holdings
        self._seconds: dict[str, int] = {}
        self.instrument = instrument
        self.time: datetime = datetime.min.replace(tzinfo=UTC)

    @property
    def state(self) -> dict[str, Any]:
        """This instrument's memory."""
        return self._engine.state.memory.setdefault(self.instrument, {})

    @property
    def shared(self) -> dict[str, Any]:
        """The memory of all instruments together."""
        return self._engine.state.memory.setdefault(_SHARED, {})

    @property
    def quote(self) -> Quote:
        """The last two sides; raises InvalidInput before the first price."""
        quote = self._engine.state.quotes.get(self.instrument)
        if quote is None:
            raise InvalidInput(f"there is no price of {self.instrument} yet")
        return quote

    def history(self, instrument: str | None = None, timeframe: str | None = None) -> History:
        """Closed bars; KeyError for an instrument or timeframe that was not declared."""
        if instrument is None and timeframe is None:
            return self._base
        frames = self._engine.timeframes[instrument or self.instrument]
        if timeframe is None:
            return frames.base
        seconds = self._seconds.get(timeframe)
        if seconds is None:
            seconds = self._seconds[timeframe] = timeframe_seconds(timeframe)
        return frames.by_seconds[seconds]

    def position(self, instrument: str | None = None) -> Holding | None:
        """The true position, or None when flat."""
        name = instrument or self.instrument
        known = self._known
        if name not in known:
            held = self._engine.state.book.positions.get(name)
            known[name] = (
                None
                if held is None
                else Holding(held.side, held.amount, held.average, held.stop, held.target)
            )
        return known[name]

    def enter(
        self,
        side: Side,
        stop: float,
        target: float | None = None,
        *,
        instrument: str | None = None,
        limit: float | None = None,
        breakout: float | None = None,
        reason: str = "",
    ) -> None:
        """Open a position from flat, or do nothing when that is not possible now."""
        name = instrument or self.instrument
        if self._why_no_entry(name) is None:
            refusal = self._engine.orders.enter(
                name,
                side,
                stop,
                target,
                limit=limit,
                breakout=breakout,
                step=self._engine.state.step,
                reason=reason,
            )
            if refusal is not None:
                self._engine.on_refusal(refusal)

    def require_entry(self) -> None:
        """Raise InvalidInput with the reason when nothing can be opened now."""
        why_not = self._why_no_entry(self.instrument)
        if why_not is not None:
            raise InvalidInput(why_not)

    def _why_no_entry(self, instrument: str) -> str | None:
        engine = self._engine
        state = engine.state
        if not engine.accepts_entries:
            return "the deployment takes no entries now (paused, or ending)"
        if instrument in state.book.positions or engine.orders.entry_of(instrument) is not None:
            return f"a position or an order in {instrument} is open already"
        if state.seen.get(instrument, 0) < engine.strategy.warmup:
            return f"warming up: {state.seen.get(instrument, 0)} of {engine.strategy.warmup} bars"
        if instrument not in state.quotes:
            return f"there is no price of {instrument} yet"
        if state.time is None or not engine.entry_window(state.time):
            return "the market is closed or about to close for the weekend"
        return None

    def exit(self, fraction: float = 1.0, *, instrument: str | None = None, reason: str = "signal") -> None:
        """Leave the position, or a fraction of it, at market."""
        if fraction <= 0:
            raise InvalidInput(f"exit: expected a fraction above 0 and up to 1, was {fraction}")
        self._engine.orders.leave(
            instrument or self.instrument, fraction=fraction, reason=reason, urgent=False
        )

    def move_stop(self, price: float, *, instrument: str | None = None) -> None:
        """Move the stop closer."""
        self._engine.orders.move_stop(instrument or self.instrument, price)

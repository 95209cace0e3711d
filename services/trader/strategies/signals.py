"""Decisions from outside: a script or an alert service says buy, sell or close, the desk does the rest.

Each signal brings its stop; the desk sizes, guards, protects and records.
"""

from __future__ import annotations

from services.shared.commands import Signal
from services.shared.errors import InvalidInput
from services.trader.strategies.base import Context, Parameters, Strategy


class SignalsParameters(Parameters):
    """There is nothing to set: the signals say it all."""


class Signals(Strategy[SignalsParameters]):
    """Trades what `signal.<trader>` or POST /api/signals says."""

    name = "signals"
    Parameters = SignalsParameters

    @property
    def look_back(self) -> int:
        """None to speak of."""
        return 1

    def on_bar(self, ctx: Context) -> None:
        """Bars only carry the prices."""

    def on_signal(self, ctx: Context, signal: Signal) -> None:
        """Enter or leave as told; raises InvalidInput when it cannot be done now."""
        position = ctx.position()
        if signal.side == "close":
            if position is None:
                raise InvalidInput(f"there is no position in {signal.instrument} to close")
            ctx.exit(reason="signal")
            return
        if position is not None:
            raise InvalidInput(f"a position in {signal.instrument} is open already; close it first")
        assert signal.stop is not None  # the model demands it of an entry
        stop = float(signal.stop)
        target = None if signal.target is None else float(signal.target)
        if signal.r is not None:
            price = ctx.quote.ask if signal.side == "buy" else ctx.quote.bid
            target = price + float(signal.r) * (price - stop)
        ctx.enter(signal.side, stop, target, reason=f"signal {signal.id}")

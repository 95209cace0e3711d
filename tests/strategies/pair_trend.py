"""A test's strategy: two instruments, two timeframes, a trailing stop and a half exit.

It follows the longer timeframe in both instruments, takes half off at one R, lets the other half trail, and
remembers in its state what a restored run must still know.
"""

from __future__ import annotations

from pydantic import Field

from services.shared.events import Side
from services.trader.strategies.base import Context, Fill, Parameters, Strategy


class PairTrendParameters(Parameters):
    """Settings of the pair."""

    fast: int = Field(3, ge=2, le=50, description="Bars of the feed a close must exceed")
    slow: int = Field(2, ge=2, le=50, description="Longer bars that must rise or fall")
    stop_ranges: float = Field(1.5, gt=0, le=20, description="Distance of the stop, in average ranges")


class PairTrend(Strategy[PairTrendParameters]):
    """Trend in two pairs that do not trade the same way at once."""

    name = "pair_trend"
    Parameters = PairTrendParameters
    timeframes = ("4h",)
    instruments = ("EURUSD", "USDJPY")

    @property
    def look_back(self) -> int:
        """The longer of the two windows, and a close before."""
        return max(self.parameters.fast, self.parameters.slow) + 3

    def on_bar(self, ctx: Context) -> None:
        """Manage what is open, or look for a break in the direction of the longer bars."""
        bars, longer = ctx.history(), ctx.history(timeframe="4h")
        if len(bars) < self.look_back or len(longer) < self.parameters.slow:
            return
        close = bars.close[-1]
        reach = (
            self.parameters.stop_ranges * sum(bars.true_range[-self.look_back + 1 :]) / (self.look_back - 1)
        )
        position = ctx.position()
        if position is not None:
            self._manage(ctx, close, reach)
            return
        rising = longer.close[-1] > longer.close[-self.parameters.slow]
        window = slice(-self.parameters.fast - 1, -1)
        side: Side | None = None
        if rising and close > max(bars.high[window]):
            side = "buy"
        elif not rising and close < min(bars.low[window]):
            side = "sell"
        if side is not None and ctx.shared.get("last_side") != f"{ctx.instrument} {side}":
            sign = 1 if side == "buy" else -1
            ctx.state.update(reach=reach, halved=False)
            ctx.enter(side, close - sign * reach, reason=f"break, {len(longer)} longer bars")

    def _manage(self, ctx: Context, close: float, reach: float) -> None:
        position = ctx.position()
        assert position is not None
        sign = 1 if position.side == "long" else -1
        if not ctx.state["halved"] and sign * (close - position.entry_price) > ctx.state["reach"]:
            ctx.state["halved"] = True
            ctx.exit(0.5, reason="half")
        ctx.move_stop(close - sign * reach)

    def on_fill(self, ctx: Context, fill: Fill) -> None:
        """Remember the way of the last entry, and when anything was filled last."""
        ctx.state["filled"] = [fill.purpose, str(fill.price), ctx.time.isoformat()]
        if fill.purpose == "entry":
            ctx.shared["last_side"] = f"{fill.instrument} {fill.side}"
        elif ctx.position() is None:
            ctx.shared.pop("last_side", None)

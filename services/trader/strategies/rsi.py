"""RSI mean reversion: buy what has fallen too far, sell what has risen too far, leave in the middle.

Wilder's relative strength index; a stop some average true ranges away.
"""

from __future__ import annotations

from pydantic import Field

from services.trader.strategies.base import Context, Parameters, Strategy


class RsiParameters(Parameters):
    """Settings of the reversion."""

    period: int = Field(14, ge=2, le=500, description="Bars of the index (Wilder's smoothing)")
    oversold: float = Field(30.0, gt=0, lt=50, description="Buy when the index falls below this")
    overbought: float = Field(70.0, gt=50, lt=100, description="Sell when the index rises above this")
    leave: float = Field(50.0, ge=30, le=70, description="Leave when the index comes back to this")
    atr_period: int = Field(14, ge=2, le=500, description="Bars in the average true range")
    stop_atr: float = Field(2.5, gt=0, le=50, description="Distance of the stop, in average true ranges")


class RsiReversion(Strategy[RsiParameters]):
    """Reversion to the mean by the relative strength index."""

    name = "rsi"
    Parameters = RsiParameters

    @property
    def look_back(self) -> int:
        """The true ranges, and a close before."""
        return self.parameters.atr_period + 1

    @property
    def warmup(self) -> int:
        """Five periods, after which the smoothing has forgotten its beginning."""
        return 5 * self.parameters.period

    def on_bar(self, ctx: Context) -> None:
        """Enter at the extremes, leave in the middle."""
        bars = ctx.history()
        if len(bars) < 2:
            return
        before, index = ctx.state.get("rsi", 50.0), self._index(ctx, bars.close[-1] - bars.close[-2])
        ctx.state["rsi"] = index
        settings = self.parameters
        position = ctx.position()
        if position is not None:
            if (position.side == "long") == (index >= settings.leave):
                ctx.exit(reason="reverted")
            return
        if len(bars) < self.look_back:
            return
        distance = settings.stop_atr * sum(bars.true_range[-settings.atr_period :]) / settings.atr_period
        close = bars.close[-1]
        if index < settings.oversold <= before:
            ctx.enter("buy", close - distance, reason="oversold")
        elif index > settings.overbought >= before:
            ctx.enter("sell", close + distance, reason="overbought")

    def _index(self, ctx: Context, change: float) -> float:
        """Wilder's RSI: 100 - 100 / (1 + average gain / average loss), both smoothed by 1/period."""
        state, period = ctx.state, self.parameters.period
        up = state["up"] = state.get("up", 0.0) + (max(change, 0.0) - state.get("up", 0.0)) / period
        down = state["down"] = state.get("down", 0.0) + (max(-change, 0.0) - state.get("down", 0.0)) / period
        if up + down == 0:
            return 50.0
        return 100.0 * float(up) / float(up + down)

"""Donchian breakout: buy a close above the highest high of the last bars, sell one below the lowest low.

The stop lies some average true ranges away and trails the close; the target is a multiple of the risk.
"""

from __future__ import annotations

from functools import cached_property

from pydantic import Field

from services.shared.events import Side
from services.trader.history import History
from services.trader.strategies.base import Context, Parameters, Strategy


class DonchianParameters(Parameters):
    """Settings of the breakout."""

    period: int = Field(20, ge=2, le=500, description="Bars in the channel")
    atr_period: int = Field(14, ge=2, le=500, description="Bars in the average true range")
    stop_atr: float = Field(
        2.0, gt=0, le=50, description="Distance of the first stop, in average true ranges"
    )
    target_r: float = Field(2.0, ge=0, le=100, description="Target in multiples of the risk; 0 for none")
    trail_atr: float = Field(
        3.0,
        ge=0,
        le=50,
        description="Distance of the trailing stop from the close, in ATR; 0 for a fixed stop",
    )


class Donchian(Strategy[DonchianParameters]):
    """Breakout of a price channel, with a trailing stop."""

    name = "donchian"
    Parameters = DonchianParameters

    @cached_property
    def look_back(self) -> int:
        """The channel before the newest bar, and a close before the first true range."""
        return max(self.parameters.period, self.parameters.atr_period) + 1

    def on_bar(self, ctx: Context) -> None:
        """Enter on a breakout; trail the stop of an open trade."""
        bars = ctx.history()
        closes = bars.close
        if len(closes) < self.look_back:
            return
        settings, close = self.parameters, closes[-1]
        position = ctx.position()
        if position is not None:
            if settings.trail_atr:
                trail = settings.trail_atr * self._average_range(bars)
                ctx.move_stop(close - trail if position.side == "long" else close + trail)
            return
        # Beyond the bar before, or not beyond the channel: that spares looking through it at most bars.
        before = slice(-settings.period - 1, -1)
        if close > bars.high[-2] and close > max(bars.high[before]):
            self._enter(ctx, "buy", close)
        elif close < bars.low[-2] and close < min(bars.low[before]):
            self._enter(ctx, "sell", close)

    def _average_range(self, bars: History) -> float:
        period = self.parameters.atr_period
        return sum(bars.true_range[-period:]) / period

    def _enter(self, ctx: Context, side: Side, close: float) -> None:
        sign = 1 if side == "buy" else -1
        distance = self.parameters.stop_atr * self._average_range(ctx.history())
        target_r = self.parameters.target_r
        target = close + sign * target_r * distance if target_r else None
        ctx.enter(side, close - sign * distance, target, reason=f"close beyond {self.parameters.period} bars")

"""EMA crossover: long while the fast average is above the slow one, short while below.

Enters on the cross, leaves on the opposite cross, with a stop some average true ranges away.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from services.shared.events import Side
from services.trader.strategies.base import Context, Parameters, Strategy


class EmaParameters(Parameters):
    """Settings of the crossover."""

    fast: int = Field(12, ge=2, le=500, description="Bars of the fast average")
    slow: int = Field(26, ge=3, le=1000, description="Bars of the slow average")
    atr_period: int = Field(14, ge=2, le=500, description="Bars in the average true range")
    stop_atr: float = Field(2.5, gt=0, le=50, description="Distance of the stop, in average true ranges")
    target_r: float = Field(0.0, ge=0, le=100, description="Target in multiples of the risk; 0 for none")

    @model_validator(mode="after")
    def _fast_below_slow(self) -> Self:
        if self.fast >= self.slow:
            raise ValueError(f"expected fast below slow, was {self.fast} and {self.slow}")
        return self


class EmaCrossover(Strategy[EmaParameters]):
    """Crossing of two exponential averages."""

    name = "ema"
    Parameters = EmaParameters

    @property
    def look_back(self) -> int:
        """The true ranges; the averages remember themselves."""
        return self.parameters.atr_period + 1

    @property
    def warmup(self) -> int:
        """Three lengths of the slow average, after which its beginning hardly counts."""
        return 3 * self.parameters.slow

    def on_bar(self, ctx: Context) -> None:
        """Update the averages; act on a cross."""
        bars = ctx.history()
        close, state, settings = bars.close[-1], ctx.state, self.parameters
        fast = state["fast"] = _next(state.get("fast", close), close, settings.fast)
        slow = state["slow"] = _next(state.get("slow", close), close, settings.slow)
        above = fast > slow
        crossed = state.get("above", above) is not above
        state["above"] = above
        if not crossed or len(bars) < self.look_back:
            return
        position = ctx.position()
        if position is not None:
            ctx.exit(reason="cross")
            return
        atr = sum(bars.true_range[-settings.atr_period :]) / settings.atr_period
        side: Side = "buy" if above else "sell"
        sign = 1 if above else -1
        distance = settings.stop_atr * atr
        target = close + sign * settings.target_r * distance if settings.target_r else None
        ctx.enter(side, close - sign * distance, target, reason="cross")


def _next(average: float, close: float, period: int) -> float:
    return average + (close - average) * 2 / (period + 1)

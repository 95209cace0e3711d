"""Equity curves as inline SVG: no script, coloured by whoever shows them through classes.

`draw` is pure and takes lines of any unit; `drawn` reads a run's curve, thinned as the API's chart is. A
line's times are seconds, since 1970 or since the run's beginning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Literal, TypeAlias

from services.api.chart import chart

if TYPE_CHECKING:
    from services.api.ledger import Proxy
    from services.api.results import Run

Unit: TypeAlias = Literal["money", "percent", "r"]
POINTS = 800
_WIDTH, _LEFT, _RIGHT, _FOOT = 880, 72, 10, 22
_TICKS = 5
_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Curve:
    """A run's equity and drawdown in money at `times` (seconds since 1970), and what they are measured by."""

    times: list[float]
    equities: list[float]
    drawdowns: list[float]
    opening: float | None
    risk: float | None

    def line(self, unit: Unit) -> list[tuple[float, float]] | None:
        """Points (seconds since the first, result since the beginning) in a unit: percent of the opening
        balance, or R, the money risked a trade. None when that is not known."""
        by = {"money": 1.0, "percent": (self.opening or 0) / 100, "r": self.risk or 0}[unit]
        if self.opening is None or not by or not self.times:
            return None
        start = self.times[0]
        return [
            (at - start, (equity - self.opening) / by)
            for at, equity in zip(self.times, self.equities, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a picture: its points and the class that colours it; `filled` from zero."""

    points: Sequence[tuple[float, float]]
    css: str
    filled: bool = False


async def drawn(connection: Proxy, run: Run) -> Curve:
    """The curve of a run."""
    found = await chart(connection, run, POINTS)
    opening, risk = run.opening_balance, run.risk_per_trade
    return Curve(
        [moment.timestamp() for moment in found.times],
        list(found.equities),
        list(found.drawdowns),
        None if opening is None else float(opening),
        None if risk is None else float(risk),
    )


def draw(
    lines: Sequence[Line], *, height: int, label: str, across: Literal["dates", "days"], zero: bool = False
) -> str:
    """The lines in one frame as an SVG that is as wide as its place; nothing for lines without points. With
    `zero` the value 0 is always in the picture."""
    points = [point for line in lines for point in line.points]
    if not points:
        return ""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    steps = ticks(min([*ys, 0.0] if zero else ys), max([*ys, 0.0] if zero else ys))
    low, high = min(steps[0], *ys), max(steps[-1], *ys)
    start, span = min(xs), (max(xs) - min(xs)) or 1.0
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, height - _FOOT - 8

    def place(x: float, y: float) -> tuple[float, float]:
        share = (y - low) / ((high - low) or 1.0)
        return round(_LEFT + (x - start) / span * inner_width, 1), round(8 + (1 - share) * inner_height, 1)

    digits = 0 if steps[1] - steps[0] >= 1 else min(4, math.ceil(-math.log10(steps[1] - steps[0])))
    parts = [_across(y, place(start, y)[1], digits) for y in steps]
    parts += [_below(start + span * share, share, start, place, height, across) for share in (0.0, 0.5, 1.0)]
    parts += [_path(line, place) for line in lines if line.points]
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label, quote=True)}"'
        f' xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def ticks(low: float, high: float) -> list[float]:
    """Round values from just below `low` to just above `high`, about five, at least two."""
    if not high - low > 1e-9 * max(1.0, abs(high)):
        low, high = low - 1, high + 1
    rough = (high - low) / (_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _across(value: float, height: float, digits: int) -> str:
    text = f"{value:,.{digits}f}".replace("-", "−")
    return (
        f'<path class="plot-grid" d="M{_LEFT} {height}H{_WIDTH - _RIGHT}"/>'
        f'<text class="plot-text" x="{_LEFT - 8}" y="{height + 4}" text-anchor="end">{text}</text>'
    )


def _below(
    x: float,
    share: float,
    start: float,
    place: Callable[[float, float], tuple[float, float]],
    height: int,
    across: Literal["dates", "days"],
) -> str:
    anchor = {0.0: "start", 1.0: "end"}.get(share, "middle")
    day = (x - start) / _DAY
    text = (
        datetime.fromtimestamp(x, UTC).strftime("%Y-%m-%d")
        if across == "dates"
        else f"day {day:.0f}"
        if day >= 2 or not share
        else f"{day * 24:.0f} h"
    )
    return (
        f'<text class="plot-text" x="{place(x, 0)[0]}" y="{height - 6}" text-anchor="{anchor}">{text}</text>'
    )


def _path(line: Line, place: Callable[[float, float], tuple[float, float]]) -> str:
    spots = [place(x, y) for x, y in line.points]
    way = "M" + "L".join(f"{x} {y}" for x, y in spots)
    if line.filled:
        floor = place(line.points[0][0], 0.0)[1]
        way += f"L{spots[-1][0]} {floor}L{spots[0][0]} {floor}Z"
    return f'<path class="{line.css}" d="{way}"/>'

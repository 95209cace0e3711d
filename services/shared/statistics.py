"""What a run's results are called and how each is worked out: one definition, used by all.

Pure. `Totals` are counts, sums, minima and maxima over closed trades, so that they can be kept in any
order and by several writers; `summarise` turns them, with the daily equities and what the book carried
in its last events, into `Statistics`. What is undefined is None, never zero or infinity. The pages'
table of statistics is made of the descriptions here (`explanations`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from services.shared.events import TradeClosed
from services.shared.money import ZERO

DAYS_A_YEAR = 252
FEWEST_DAYS = 20
FEWEST_DAYS_ANNUAL = 126
_MICROSECOND = timedelta(microseconds=1)
_FOUR = Decimal("0.0001")

Cash = Annotated[
    Decimal, PlainSerializer(lambda value: format(value, "f"), return_type=str, when_used="json")
]


@dataclass(slots=True)
class Totals:
    """Sums over closed trades, in account currency. `gross_loss` is positive; `largest_loss` is the pnl
    of the worst losing trade, so negative. `r_count`, `r_sum` and `r_squares` run over trades that have
    an r_multiple. Each field is a sum, or for the largest and longest a maximum or minimum: a streak depends on
    order, so the book counts it and each trade carries its own."""

    trades: int = 0
    wins: int = 0
    losses: int = 0
    breakevens: int = 0
    pnl: Decimal = ZERO
    gross_profit: Decimal = ZERO
    gross_loss: Decimal = ZERO
    r_count: int = 0
    r_sum: Decimal = ZERO
    r_squares: Decimal = ZERO
    largest_win: Decimal | None = None
    largest_loss: Decimal | None = None
    seconds_held: Decimal = ZERO
    commission: Decimal = ZERO
    slippage: Decimal = ZERO
    adjustments: Decimal = ZERO
    longest_win_streak: int = 0
    longest_loss_streak: int = 0

    def add(self, trade: TradeClosed) -> None:
        """Count one closed trade."""
        pnl = trade.pnl
        self.trades += 1
        self.pnl += pnl
        if trade.outcome == "win":
            self.wins += 1
            self.gross_profit += pnl
            self.largest_win = pnl if self.largest_win is None else max(self.largest_win, pnl)
        elif trade.outcome == "loss":
            self.losses += 1
            self.gross_loss -= pnl
            self.largest_loss = pnl if self.largest_loss is None else min(self.largest_loss, pnl)
        else:
            self.breakevens += 1
        if trade.r_multiple is not None:
            self.r_count += 1
            self.r_sum += trade.r_multiple
            self.r_squares += trade.r_multiple * trade.r_multiple
        self.seconds_held += Decimal((trade.trade_time - trade.entry_time) // _MICROSECOND).scaleb(-6)
        self.commission += trade.commission
        self.slippage += trade.slippage
        self.longest_win_streak = max(self.longest_win_streak, trade.streak)
        self.longest_loss_streak = max(self.longest_loss_streak, -trade.streak)

    def adjust(self, amount: Decimal) -> None:
        """Count a change in balance that is no trade."""
        self.adjustments += amount


class Statistics(BaseModel):
    """Results of a run. Money is in account currency and exact (averages: four decimals, half-even);
    ratios are plain numbers. None means undefined, or not known to whoever asked."""

    model_config = ConfigDict(frozen=True)

    trades: int = Field(description="Closed trades: round trips from flat to flat.")
    wins: int = Field(description="Trades with pnl > 0.")
    losses: int = Field(description="Trades with pnl < 0.")
    breakevens: int = Field(description="Trades with pnl = 0; they neither add to nor end a streak.")
    pnl: Cash = Field(description="Sum of the trades' pnl, net of spread, slippage and commission.")
    adjustments: Cash = Field(description="Sum of balance changes that are no trades: financing, fees.")
    gross_profit: Cash = Field(description="Sum of the pnl of wins.")
    gross_loss: Cash = Field(description="Minus the sum of the pnl of losses, so positive.")
    commission: Cash = Field(description="Sum of the trades' commission; already within pnl.")
    slippage: Cash = Field(description="Sum of the trades' slippage; already within pnl.")
    win_rate: float | None = Field(description="wins / trades. None without trades.")
    profit_factor: float | None = Field(description="gross_profit / gross_loss. None without losses.")
    expectancy: Cash | None = Field(description="pnl / trades: money a trade makes on average.")
    expectancy_r: float | None = Field(
        description="Mean r_multiple (pnl / initial risk, after Van Tharp) of trades that have one."
    )
    expectancy_r_error: float | None = Field(
        description="Standard error of expectancy_r: sample deviation (n - 1) of r_multiple / sqrt(n). "
        "None under two trades. An expectancy within two of these of zero says little."
    )
    average_win: Cash | None = Field(description="gross_profit / wins.")
    average_loss: Cash | None = Field(description="-gross_loss / losses, so negative.")
    payoff: float | None = Field(description="average_win / -average_loss.")
    largest_win: Cash | None = Field(description="Largest pnl of a win.")
    largest_loss: Cash | None = Field(description="Lowest pnl of a loss, so negative.")
    average_seconds_held: float | None = Field(description="Mean time from entry to exit, in seconds.")
    streak: int | None = Field(
        description="Wins (positive) or losses (negative) in a row up to the last trade, as the book counts."
    )
    longest_win_streak: int | None = Field(description="Most wins in a row. None without trades.")
    longest_loss_streak: int | None = Field(
        description="Most losses in a row, as a positive number. None without trades."
    )
    equity: Cash = Field(description="Balance and unrealised; the balance when no mark is known.")
    peak: Cash | None = Field(description="Highest equity, the unrealised included.")
    drawdown: Cash | None = Field(description="peak - equity, now.")
    max_drawdown: Cash | None = Field(description="Largest peak - equity so far, the unrealised included.")
    max_drawdown_percent: float | None = Field(
        description="100 * max_drawdown / opening balance. The peak is never below the opening balance, so "
        "the fall in percent of its peak is never more than this."
    )
    total_return: float | None = Field(description="(equity - opening balance) / opening balance.")
    days: int = Field(description="Trading days (17:00 New York) with an equity mark.")
    sharpe: float | None = Field(
        description="Mean / standard deviation (n - 1) of the daily returns of equity by trading day, "
        "* sqrt(252), no risk-free rate (Sharpe 1994). None under 20 days or without deviation."
    )
    sortino: float | None = Field(
        description="Mean of the daily returns / sqrt(sum of squared negative returns / (n - 1)), "
        "* sqrt(252), target 0 (Sortino 1994). None under 20 days or without a negative day."
    )
    annual_return: float | None = Field(
        description="(1 + total_return) ^ (252 / days) - 1, compounded (CAGR). None under 126 days, where a "
        "year's figure would be made up, and when nothing is left."
    )
    exposure: float | None = Field(
        description="Seconds in trades / seconds of the run; over 1 when positions overlapped. None when "
        "the run's span is not known."
    )


def explanations() -> dict[str, str]:
    """What each statistic is and how it is worked out, by name, for tables and pages."""
    return {name: field.description or "" for name, field in Statistics.model_fields.items()}


def daily_returns(opening: Decimal, daily_equity: Sequence[Decimal]) -> list[float] | None:
    """Returns from each trading day's last equity to the next's, the first from `opening`.

    None when an equity before a return was not positive: there is no return on nothing.
    """
    before = [opening, *daily_equity][:-1]
    if any(value <= 0 for value in before):
        return None
    return [float((now - then) / then) for then, now in zip(before, daily_equity, strict=True)]


def summarise(
    totals: Totals,
    *,
    opening_balance: Decimal,
    daily_equity: Sequence[Decimal] = (),
    returns: Sequence[float] | None = None,
    equity: Decimal | None = None,
    peak: Decimal | None = None,
    drawdown: Decimal | None = None,
    max_drawdown: Decimal | None = None,
    streak: int | None = None,
    span: timedelta | None = None,
) -> Statistics:
    """The statistics of a run.

    `daily_equity` is the last equity of each trading day that has one, in order; `returns` are their
    `daily_returns`, from a caller that keeps them. `equity`, `peak`,
    `drawdown` and `max_drawdown` come from the last equity event, `streak` from the last trade: they
    depend on order and are counted once, by the trader's book. `span` is the time from the run's first
    mark to its last.
    """
    now = opening_balance + totals.pnl + totals.adjustments if equity is None else equity
    whole = (now - opening_balance) / opening_balance if opening_balance > 0 else None
    mean, error = _expectancy_r(totals)
    average_win = _average(totals.gross_profit, totals.wins)
    average_loss = _average(-totals.gross_loss, totals.losses)
    sharpe, sortino = _risk_adjusted(opening_balance, daily_equity, returns)
    return Statistics(
        trades=totals.trades,
        wins=totals.wins,
        losses=totals.losses,
        breakevens=totals.breakevens,
        pnl=totals.pnl,
        adjustments=totals.adjustments,
        gross_profit=totals.gross_profit,
        gross_loss=totals.gross_loss,
        commission=totals.commission,
        slippage=totals.slippage,
        win_rate=totals.wins / totals.trades if totals.trades else None,
        profit_factor=_ratio(totals.gross_profit, totals.gross_loss),
        expectancy=_average(totals.pnl, totals.trades),
        expectancy_r=mean,
        expectancy_r_error=error,
        average_win=average_win,
        average_loss=average_loss,
        payoff=_ratio(average_win, None if average_loss is None else -average_loss),
        largest_win=totals.largest_win,
        largest_loss=totals.largest_loss,
        average_seconds_held=float(totals.seconds_held / totals.trades) if totals.trades else None,
        streak=streak,
        longest_win_streak=totals.longest_win_streak if totals.trades else None,
        longest_loss_streak=totals.longest_loss_streak if totals.trades else None,
        equity=now,
        peak=peak,
        drawdown=drawdown,
        max_drawdown=max_drawdown,
        max_drawdown_percent=_percent(max_drawdown, opening_balance),
        total_return=None if whole is None else float(whole),
        days=len(daily_equity),
        sharpe=sharpe,
        sortino=sortino,
        annual_return=_annual(whole, len(daily_equity)),
        exposure=_ratio(
            totals.seconds_held, None if span is None else Decimal(span // _MICROSECOND).scaleb(-6)
        ),
    )


def _average(total: Decimal, count: int) -> Decimal | None:
    return (total / count).quantize(_FOUR, rounding=ROUND_HALF_EVEN) if count else None


def _ratio(above: Decimal | None, below: Decimal | None) -> float | None:
    return None if above is None or below is None or below <= 0 else float(above / below)


def _percent(part: Decimal | None, whole: Decimal) -> float | None:
    ratio = _ratio(part, whole)
    return None if ratio is None else 100 * ratio


def _expectancy_r(totals: Totals) -> tuple[float | None, float | None]:
    count = totals.r_count
    if not count:
        return None, None
    mean = totals.r_sum / count
    if count < 2:
        return float(mean), None
    # Rounding of the mean can leave a speck below zero where all are alike.
    variance = max((totals.r_squares - totals.r_sum * mean) / (count - 1), ZERO)
    return float(mean), math.sqrt(variance / count)


def _risk_adjusted(
    opening: Decimal, daily_equity: Sequence[Decimal], returns: Sequence[float] | None
) -> tuple[float | None, float | None]:
    days = len(daily_equity)
    if days < FEWEST_DAYS:
        return None, None
    returns = daily_returns(opening, daily_equity) if returns is None else returns
    if returns is None:
        return None, None
    mean = math.fsum(returns) / days
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in returns) / (days - 1))
    downside = math.sqrt(math.fsum(value * value for value in returns if value < 0) / (days - 1))
    year = math.sqrt(DAYS_A_YEAR)
    # Equal returns differ by rounding only; a deviation that small is none.
    varied = deviation > 1e-12 * max(1.0, abs(mean))
    return (mean / deviation * year if varied else None), (mean / downside * year if downside > 0 else None)


def _annual(whole: Decimal | None, days: int) -> float | None:
    if whole is None or days < FEWEST_DAYS_ANNUAL or whole <= -1:
        return None
    return math.pow(1 + whole, DAYS_A_YEAR / days) - 1

"""What each of the guard's limits comes to for a run, and how much of it is used up.

One definition for whoever shows it: the API, and the recorder for Grafana. Shown, never enforced: the guard
decides by its own sums, in its own process. Pure; where the facts are read from is the reader's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from services.shared.limits import Bound, Limits
from services.shared.money import ZERO


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A run at its last mark, in account currency: `day_pnl` is the trading day's result up to now, `streak`
    the last trade's (None without one), `holding` the instrument of each open position."""

    risk_per_trade: Decimal | None
    equity: Decimal
    peak: Decimal
    drawdown: Decimal
    open_risk: Decimal
    day_pnl: Decimal | None
    streak: int | None
    holding: Sequence[str]


@dataclass(frozen=True, slots=True)
class Use:
    """A limit's bound and what of it is used, in the limit's own unit. None: off, or not known."""

    bound: Decimal | None
    used: Decimal | None

    @property
    def percent(self) -> float | None:
        """Percent of the bound, to a tenth; None where there is no bound, or 0."""
        if not self.bound or self.used is None:
            return None
        return round(float(self.used / self.bound * 100), 1)


UNKNOWN = Use(None, None)


def day_opening(first_mark: Decimal, day_before: Decimal | None, balance: Decimal | None) -> Decimal:
    """What a trading day opened with: the last equity of the day before, on a run's first day the balance it
    was deployed with, and where that is not known the day's first mark."""
    opening = balance if day_before is None else day_before
    return first_mark if opening is None else opening


def limit_use(limits: Limits, run: RunFacts) -> dict[str, Use]:
    """Bound and use by limit, of those that a run's marks tell."""
    most = max(Counter(run.holding).values(), default=0)
    percent = round(run.drawdown / run.peak * 100, 4) if run.peak > 0 else None
    return {
        "drawdown": Use(limits.drawdown, run.drawdown),
        "drawdown_percent": Use(limits.drawdown_percent, percent),
        "daily_loss": Use(
            _amount(limits.daily_loss, run.risk_per_trade),
            None if run.day_pnl is None else max(-run.day_pnl, ZERO),
        ),
        "losing_streak": Use(
            None if limits.losing_streak is None else Decimal(limits.losing_streak),
            Decimal(max(-(run.streak or 0), 0)),
        ),
        "trade_risk": Use(_amount(limits.trade_risk, run.risk_per_trade), None),
        "open_risk": Use(_amount(limits.open_risk, run.risk_per_trade), run.open_risk),
        "positions_per_instrument": Use(Decimal(limits.positions_per_instrument), Decimal(most)),
        "positions": Use(Decimal(limits.positions), Decimal(len(run.holding))),
        "notional": Use(_amount(limits.notional, run.equity), None),
    }


def _amount(bound: Bound | None, unit: Decimal | None) -> Decimal | None:
    if bound is None or (bound.times and unit is None):
        return None
    return bound.amount(unit or ZERO)


__all__ = ["UNKNOWN", "RunFacts", "Use", "day_opening", "limit_use"]

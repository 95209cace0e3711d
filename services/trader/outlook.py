"""Before a deployment: at how many bars its risk would buy less than an instrument's minimum (TRADING 2).

An estimate from the first bars of the feed, by the strategy's own stop distance where it declares one as
`stop_atr` and `atr_period`, by two average true ranges otherwise. Pure but for reading the feed.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_UP, Decimal

from services.shared import instruments
from services.shared.instruments import Instrument
from services.shared.market import Bar, Quote
from services.shared.money import exact, minor_unit
from services.trader.history import Timeframes
from services.trader.plan import Plan
from services.trader.rates import Rates
from services.trader.sizing import MIN_AMOUNT_RISK
from services.trader.strategies.base import make

FIRST_BARS = 2000
MENTIONED_FROM = Decimal("0.05")
"""The share of undersized entries from which a person is told."""
_SHARE_TO_TRADE = Decimal("0.95")
_STOP_ATR, _ATR_PERIOD = 2.0, 14
_TEN_THOUSANDTH = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class SizeOutlook:
    """What the deployed risk would buy. `undersized` is the share of `bars` (all instruments together) at
    which an entry would be refused as undersized, `risk_needed` the smallest risk per trade, in account
    currency, that would trade at 95 % of them; both None where there were too few bars to say."""

    bars: int
    stop: str
    risk: Decimal
    currency: str
    undersized: Decimal | None
    risk_needed: Decimal | None

    @property
    def warning(self) -> str | None:
        """A sentence for the alert `undersized_expected`, or None when there is nothing to warn of."""
        if self.undersized is None or self.undersized < MENTIONED_FROM:
            return None
        return (
            f"About {self.undersized * 100:.0f} % of entries would be under the minimum size at a risk of "
            f"{self.risk} {self.currency} and {self.stop}: {self.risk_needed} {self.currency} would trade at "
            f"95 % of the first {self.bars} bars"
        )


def size_outlook(plan: Plan, bars: int = FIRST_BARS) -> SizeOutlook:
    """Estimate from up to `bars` first bars of each instrument."""
    command, terms = plan.command, plan.terms
    parameters = make(plan.kind, command.parameters).parameters
    stop_atr = float(getattr(parameters, "stop_atr", _STOP_ATR))
    period = int(getattr(parameters, "atr_period", _ATR_PERIOD))
    smallest = _smallest_risks(plan, stop_atr, period, bars)
    stop = f"a stop of {stop_atr:g} ATR ({period} bars)"
    undersized = needed = None
    if smallest:
        enough = terms.risk_per_trade * (MIN_AMOUNT_RISK if command.min_amount else 1)
        share = Decimal(sum(risk > enough for risk in smallest)) / len(smallest)
        undersized = share.quantize(_TEN_THOUSANDTH)
        at = min(len(smallest) - 1, int(_SHARE_TO_TRADE * len(smallest)))
        needed = smallest[at].quantize(minor_unit(terms.currency), rounding=ROUND_UP)
    return SizeOutlook(len(smallest), stop, terms.risk_per_trade, terms.currency, undersized, needed)


def _smallest_risks(plan: Plan, stop_atr: float, period: int, bars: int) -> list[Decimal]:
    """For each bar the least risk that buys the minimum there, in rising order."""
    terms = plan.terms
    rates = Rates(terms.currency, terms.instruments, plan.constants, plan.feed.rate_pairs)
    pairs = {name: instruments.find(name) for name in terms.instruments}
    frames = {name: Timeframes(terms.bar_seconds, (), period + 1) for name in terms.instruments}
    seen = dict.fromkeys(terms.instruments, 0)
    found: list[Decimal] = []
    for step in plan.feed.steps():
        for quote in step.quotes:
            rates.on_quote(quote)
        for bar in step.bars:
            rates.on_quote(Quote(bar.instrument, bar.end, bar.bid_close, bar.ask_close))
            if bar.instrument not in frames or seen[bar.instrument] >= bars:
                continue
            seen[bar.instrument] += 1
            history = frames[bar.instrument]
            history.append(bar)
            if len(history.base) > period:
                average = sum(history.base.true_range[-period:]) / period
                found.append(_smallest_risk(bar, pairs[bar.instrument], stop_atr * average, rates))
        if min(seen.values()) >= bars:
            break
    return sorted(found)


def _smallest_risk(bar: Bar, pair: Instrument, distance: float, rates: Rates) -> Decimal:
    """A buy at the ask with its stop `distance` below the middle."""
    half_spread = abs(bar.ask_close - bar.bid_close) / 2
    price = exact(max(bar.bid_close, bar.ask_close))
    loss = Decimal(repr(round(distance + half_spread, 10))) * rates.rate(bar.instrument, price)
    return loss * pair.min_amount


__all__ = ["FIRST_BARS", "MENTIONED_FROM", "SizeOutlook", "size_outlook"]

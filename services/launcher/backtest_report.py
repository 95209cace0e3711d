"""The picture of a backtest: equity above, drawdown beneath, as a PNG and as a page that needs nothing else.

The page is one file with its styles and drawing inside: it asks for nothing over the network, and follows
the reader's light or dark setting. What the numbers are is `statistics`' business.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from services.launcher.backtest import Curve, Result
from services.shared.statistics import explanations
from services.trader.outlook import size_outlook

_POINTS = 2000
_WIDTH, _TOP, _BOTTOM = 960, 300, 120
_LEFT, _RIGHT = 64, 12
_LINE, _FALL, _GRID, _INK = "#1f6feb", "#d1495b", "#d0d7de", "#1f2328"


@dataclass(frozen=True, slots=True)
class Row:
    """A statistic as people read it."""

    name: str
    label: str
    value: str
    explanation: str


_LABELS = {
    "trades": "Trades",
    "wins": "Wins",
    "losses": "Losses",
    "breakevens": "Breakevens",
    "pnl": "PnL",
    "total_return": "Return",
    "equity": "Equity at the end",
    "win_rate": "Win rate",
    "profit_factor": "Profit factor",
    "expectancy": "Expectancy a trade",
    "expectancy_r": "Expectancy in R",
    "expectancy_r_error": "its standard error",
    "average_win": "Average win",
    "average_loss": "Average loss",
    "payoff": "Payoff",
    "largest_win": "Largest win",
    "largest_loss": "Largest loss",
    "longest_win_streak": "Longest run of wins",
    "longest_loss_streak": "Longest run of losses",
    "max_drawdown": "Max drawdown",
    "max_drawdown_percent": "Max drawdown, % of opening",
    "sharpe": "Sharpe",
    "sortino": "Sortino",
    "annual_return": "Return a year (CAGR)",
    "exposure": "Time in the market",
    "average_seconds_held": "Average time held",
    "days": "Trading days",
    "commission": "Commission",
    "slippage": "Slippage",
}
_PERCENT = {"win_rate", "total_return", "annual_return", "exposure"}


def rows(result: Result) -> list[Row]:
    """The statistics in the order they are shown; what is undefined shows as a dash."""
    values = result.statistics.model_dump()
    meanings = explanations()
    return [Row(name, label, _shown(name, values[name]), meanings[name]) for name, label in _LABELS.items()]


def _shown(name: str, value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, Decimal):
        return f"{value:,.2f}"
    if isinstance(value, float):
        if name == "average_seconds_held":
            return f"{value / 3600:,.1f} h"
        return f"{value:.1%}" if name in _PERCENT else f"{value:,.2f}"
    return str(value)


def assumptions(result: Result) -> list[tuple[str, str]]:
    """Costs and assumptions, to be shown before any result."""
    terms, plan = result.plan.terms, result.plan
    costs = terms.costs
    parameters = ", ".join(f"{name}={value}" for name, value in terms.parameters.items()) or "none"
    shown = [
        ("Strategy", f"{terms.strategy} ({parameters})"),
        ("Prices", "; ".join(str(report) for report in plan.feed.reports)),
        (
            "Account",
            f"{terms.balance:,.2f} {terms.currency} on paper, {terms.risk_per_trade} at risk a trade",
        ),
        (
            "Costs",
            (
                f"spread {costs['spread_pips']} pips where prices are mid, slippage {costs['slippage_pips']} pips "
                f"on market and stop fills, commission {costs['commission_per_million']} {terms.currency} a "
                f"million, leverage {costs['leverage']}"
            ),
        ),
        (
            "Fills",
            (
                "market orders at the next open, buy at ask, sell at bid; stop before target within a bar; a "
                f"limit needs {costs['limit_through_ticks']} tick through"
            ),
        ),
        ("Weekend", "flat before it" if terms.weekend == "flat" else "positions are held over it"),
    ]
    if plan.command.rates:
        rates = ", ".join(f"{pair}={Path(value).name}" for pair, value in plan.command.rates.items())
        shown.append(("Rates", rates))
    warning = size_outlook(plan).warning
    if warning is not None:
        shown.append(("Size", warning))
    return shown


def ambiguity(result: Result) -> str:
    """The sentence on bars that held stop and target both."""
    other = result.target_first
    if other is None:
        return "No bar held both the stop and the target of a trade."
    mine = result.statistics
    bars = "1 bar" if result.ambiguous == 1 else f"{result.ambiguous} bars"
    return (
        f"{bars} held stop and target both; the stop was taken: pnl {mine.pnl:,.2f}"
        f"{_in_r(mine.expectancy_r)}. With the target first: pnl {other.pnl:,.2f}{_in_r(other.expectancy_r)}."
    )


def _in_r(mean: float | None) -> str:
    return "" if mean is None else f", {mean:+.3f} R a trade"


def thinned(curve: Curve, points: int = _POINTS) -> tuple[list[float], list[float], list[float]]:
    """Times, equity and drawdown with at most about `points` marks; every slice keeps its first, lowest and
    highest equity and its last, so that peaks and troughs survive."""
    count = len(curve.times)
    if count <= points:
        chosen: Sequence[int] = range(count)
    else:
        width = math.ceil(count / (points // 4))
        keep: set[int] = set()
        for begin in range(0, count, width):
            part = range(begin, min(begin + width, count))
            keep |= {part[0], part[-1], min(part, key=curve.equity.__getitem__)}
            keep |= {max(part, key=curve.equity.__getitem__), max(part, key=curve.drawdown.__getitem__)}
        chosen = sorted(keep)
    return (
        [curve.times[row] for row in chosen],
        [curve.equity[row] for row in chosen],
        [curve.drawdown[row] for row in chosen],
    )


def write_png(result: Result, path: Path) -> None:
    """Draw equity with drawdown beneath."""
    # Imported here: it takes half a second that the other commands need not wait.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    times, equity, drawdown = thinned(result.ledger.curve)
    moments = [datetime.fromtimestamp(value, UTC) for value in times]
    figure = Figure(figsize=(11, 6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot(moments, equity, color=_LINE, linewidth=1.3, drawstyle="steps-post")
    above.axhline(
        float(result.plan.terms.balance), color=_INK, linewidth=0.8, linestyle=(0, (4, 4)), alpha=0.5
    )
    below.fill_between(
        moments,
        [-value for value in drawdown],
        0,
        step="post",
        color=_FALL,
        alpha=0.75,
        linewidth=0,
    )
    above.set_title(_title(result), loc="left", fontsize=13, fontweight="bold", color=_INK)
    above.set_title(_subtitle(result), loc="right", fontsize=9.5, color=_INK)
    above.set_ylabel(f"Equity, {result.plan.terms.currency}")
    below.set_ylabel("Drawdown")
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    below.xaxis.set_major_locator(locator)
    below.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    for axes in (above, below):
        axes.grid(color=_GRID, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.margins(x=0.01)
    figure.savefig(path, metadata={"Software": "tradedesk"})


def _title(result: Result) -> str:
    terms = result.plan.terms
    return f"{terms.strategy} on {', '.join(terms.instruments)}"


def _subtitle(result: Result) -> str:
    found = result.statistics
    parts = [f"{found.trades} trades", f"pnl {found.pnl:,.2f} {result.plan.terms.currency}"]
    if found.expectancy_r is not None:
        parts.append(f"{found.expectancy_r:+.2f} R a trade")
    if found.max_drawdown is not None:
        parts.append(f"max drawdown {found.max_drawdown:,.2f}")
    return " · ".join(parts)


def write_html(result: Result, path: Path) -> None:
    """Write the page."""
    facts = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in assumptions(result))
    table = "".join(
        f"<tr><th scope=row>{html.escape(row.label)}</th><td>{html.escape(row.value)}</td>"
        f"<td class=why>{html.escape(row.explanation)}</td></tr>"
        for row in rows(result)
    )
    title = html.escape(_title(result))
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>Backtest: {title}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{title}</h1><p class=sub>{html.escape(_subtitle(result))}</p>"
        f"<h2>Costs and assumptions</h2><dl>{facts}</dl>"
        f"<h2>Equity and drawdown</h2>{_drawing(result)}<p>{html.escape(ambiguity(result))}</p>"
        f"<h2>Statistics</h2><table>{table}</table></main></body></html>\n"
    )
    path.write_text(page, encoding="utf-8", newline="\n")


_STYLE = """
:root{color-scheme:light dark;--ink:#1f2328;--faint:#59636e;--ground:#fff;--grid:#d0d7de;--line:#1f6feb;--fall:#d1495b}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--faint:#9198a1;--ground:#0d1117;--grid:#30363d;--line:#58a6ff;--fall:#f0788a}}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:1.5rem 1rem}
h1{margin:0;font-size:1.6rem}h2{margin:2rem 0 .5rem;font-size:1.1rem}.sub,.why{color:var(--faint)}.sub{margin:.2rem 0}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:0}dt{color:var(--faint)}dd{margin:0}
svg{width:100%;height:auto;display:block}svg text{fill:var(--faint);font:12px system-ui,sans-serif}
.grid{stroke:var(--grid);stroke-width:1}.start{stroke:var(--faint);stroke-dasharray:4 4}
.equity{fill:none;stroke:var(--line);stroke-width:1.5}.fall{fill:var(--fall);opacity:.75}
table{border-collapse:collapse;width:100%}
th,td{padding:.3rem .5rem;border-bottom:1px solid var(--grid);text-align:left;vertical-align:top}
th{font-weight:500;white-space:nowrap}td:nth-child(2){text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.why{font-size:.85rem}@media(max-width:40rem){.why{display:none}dl{grid-template-columns:1fr}}
"""


def _drawing(result: Result) -> str:
    times, equity, drawdown = thinned(result.ledger.curve)
    if len(times) < 2:
        return "<p>There is nothing to draw.</p>"
    opening = float(result.plan.terms.balance)
    low, high = min(*equity, opening), max(*equity, opening)
    deepest = max(drawdown) or 1.0
    inner = _WIDTH - _LEFT - _RIGHT
    base = _TOP + 24

    def x(when: float) -> float:
        return _LEFT + inner * (when - times[0]) / (times[-1] - times[0])

    def y(value: float) -> float:
        return 10 + (_TOP - 20) * (high - value) / ((high - low) or 1.0)

    def y_fall(value: float) -> float:
        return base + _BOTTOM * value / deepest

    parts = [_level(y(tick), f"{tick:,.0f}") for tick in _ticks(low, high)]
    parts += [_level(y_fall(tick), f"-{tick:,.0f}" if tick else "0") for tick in _ticks(0, deepest, 3)]
    bottom = base + _BOTTOM + 18
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        when = times[0] + share * (times[-1] - times[0])
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        day = f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d}"
        parts.append(f'<text x="{x(when):.1f}" y="{bottom}" text-anchor="{anchor}">{day}</text>')
    parts.append(
        f'<line class="start" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(opening):.1f}" y2="{y(opening):.1f}"/>'
    )
    line = " ".join(f"{x(when):.1f},{y(value):.1f}" for when, value in zip(times, equity, strict=True))
    parts.append(f'<polyline class="equity" points="{line}"/>')
    fall = " ".join(f"{x(when):.1f},{y_fall(value):.1f}" for when, value in zip(times, drawdown, strict=True))
    parts.append(f'<polygon class="fall" points="{_LEFT},{base} {fall} {_WIDTH - _RIGHT},{base}"/>')
    label = "Equity above, drawdown beneath"
    return f'<svg viewBox="0 0 {_WIDTH} {bottom + 8}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _level(height: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers between two values."""
    rough = (high - low) / wanted or 1.0
    power: float = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 2.5, 5, 10) if power * times >= rough)
    first = math.ceil(low / step)
    return [n * step for n in range(first, math.floor(high / step) + 1)]

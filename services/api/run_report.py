"""A run's report: one page to save or print that needs nothing else; pure.

Costs and assumptions come first, then the result with every statistic's definition, the curve, the months, and
how the run went. No script, no link, nothing loaded; it follows the reader's light or dark setting, and prints
in dark on white.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from typing import Any

from services.api.answers.runs import MonthRow, RunAnswer, RunRow
from services.api.run_drawing import Curve, Line, draw
from services.shared import __version__
from services.shared.statistics import Statistics, explanations

UNKNOWN = "–"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_STYLE = """
:root{color-scheme:light dark;--ink:#141d26;--minor:#52606d;--line:#d5dce3;--ground:#fff;--a:#0b5cad;--fall:#b3261e;
--fall-tint:#fbe5e3;--up:#0a6b3d}
@media(prefers-color-scheme:dark){:root{--ink:#e4eaf0;--minor:#a3b1be;--line:#2c3743;--ground:#12181f;--a:#7ab8f5;
--fall:#ff8f85;--fall-tint:#3a1a18;--up:#5fd38d}}
@media print{:root{color-scheme:light;--ink:#000;--minor:#444;--line:#bbb;--ground:#fff;--a:#0b5cad;--fall:#b3261e;
--fall-tint:#fbe5e3;--up:#0a6b3d}section,tr,svg{break-inside:avoid}body{margin:0;max-width:none;font-size:11px}}
body{font:14px/1.5 system-ui,"Segoe UI",Roboto,sans-serif;font-variant-numeric:tabular-nums;color:var(--ink);
background:var(--ground);max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:22px;margin:0}h2{font-size:16px;margin:1.8rem 0 .5rem}p{margin:.2rem 0 .6rem;color:var(--minor)}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.28rem 1rem .28rem 0;
border-bottom:1px solid var(--line)}th{font-weight:500;color:var(--minor)}.n{text-align:right;white-space:nowrap}
tbody th{width:13rem}td.d{color:var(--minor);font-size:12.5px}.up{color:var(--up)}.down{color:var(--fall)}
.scroll{overflow-x:auto}.plot{width:100%;min-width:32rem;height:auto;display:block}.plot-grid{stroke:var(--line)}
.plot-text{fill:var(--minor);font-size:12px}.plot-a{fill:none;stroke:var(--a);stroke-width:1.6}
.plot-fall{fill:var(--fall-tint);stroke:var(--fall);stroke-width:1}
"""
COSTS = {
    "spread_pips": "Spread, where prices are mid",
    "slippage_pips": "Slippage on market and stop fills",
    "commission_per_million": "Commission",
    "leverage": "Leverage",
    "limit_through_ticks": "A limit needs the price to pass it by",
    "order_interval_seconds": "Least time between orders",
}
_UNITS = {
    "spread_pips": " pips",
    "slippage_pips": " pips",
    "commission_per_million": " {currency} a million",
    "leverage": " : 1",
    "limit_through_ticks": " tick",
    "order_interval_seconds": " s",
}
LABELS = {
    "pnl": "PnL",
    "total_return": "Return",
    "expectancy_r": "Expectancy in R",
    "expectancy_r_error": "Its standard error",
    "max_drawdown_percent": "Max drawdown, % of opening",
    "average_seconds_held": "Average time held",
    "annual_return": "Return a year (CAGR)",
    "equity": "Equity at the end",
    "days": "Trading days",
    "exposure": "Time in the market",
}
"""What statistics are called whose field does not say it."""
_PERCENT = frozenset({"win_rate", "total_return", "annual_return", "exposure"})
_FIRST = (
    "pnl",
    "total_return",
    "trades",
    "win_rate",
    "expectancy_r",
    "expectancy_r_error",
    "profit_factor",
    "max_drawdown",
    "max_drawdown_percent",
    "sharpe",
)
_ENDINGS = {
    "COMPLETED": "completed",
    "STOPPED": "stopped",
    "HALTED": "halted",
    "FAILED": "failed",
}


def settings(run: RunRow) -> list[tuple[str, str]]:
    """What a run was deployed with, by name, as people read it."""
    terms = run.terms or {}
    currency = str(terms.get("currency", ""))
    parameters = terms.get("parameters") or {}
    rows = [
        ("Strategy", str(terms.get("strategy", UNKNOWN))),
        *((f"Parameter {name.replace('_', ' ')}", str(value)) for name, value in sorted(parameters.items())),
        ("Instruments", ", ".join(terms.get("instruments") or ()) or UNKNOWN),
        ("Risk a trade", _amount(terms.get("risk_per_trade"), currency)),
        ("Opening balance", _amount(terms.get("balance"), currency)),
        ("Broker", str(terms.get("broker", UNKNOWN))),
        ("Mode", str(terms.get("mode", UNKNOWN))),
        ("Prices", str(terms.get("feed", UNKNOWN))),
        ("Bars", _length(terms.get("bar_seconds"))),
        (
            "Weekend",
            {"flat": "flat before it", "hold": "held over it"}.get(terms.get("weekend", ""), UNKNOWN),
        ),
    ]
    costs = terms.get("costs") or {}
    rows += [
        (COSTS.get(name, name.replace("_", " ")), f"{value}{_UNITS.get(name, '').format(currency=currency)}")
        for name, value in sorted(costs.items(), key=lambda item: (item[0] not in COSTS, item[0]))
    ]
    return rows


def ending(run: RunRow) -> str:
    """How a run ended and why, in a few words."""
    known = _ENDINGS.get(run.phase)
    if known is None:
        return run.phase.replace("_", " ").lower()
    return f"{known}: {run.end_reason}" if run.end_reason else known


def figures(known: Statistics | None) -> list[tuple[str, str, str, str]]:
    """Every statistic: its field, name, value, and how it is worked out; the most asked for first."""
    if known is None:
        return []
    meanings = explanations()
    names = [*_FIRST, *(name for name in Statistics.model_fields if name not in _FIRST)]
    return [
        (
            name,
            LABELS.get(name) or name.replace("_", " ").capitalize(),
            _shown(name, getattr(known, name)),
            meanings[name].replace("None", "Undefined"),
        )
        for name in names
    ]


def report(found: RunAnswer, curve: Curve) -> str:
    """The whole page."""
    run = found.run
    currency = str((run.terms or {}).get("currency", ""))
    sections = (
        _section("Costs and assumptions", _pairs(settings(run))),
        _section("Result", _figures(found.statistics, currency)),
        _section("Equity", _pictures(curve, currency)),
        _section("Trades by month", _months(found.months)),
        _section("How it went", _phases(found)),
    )
    title = f"Run {run.run_id}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{escape(title)}</h1><p>{escape(_subtitle(run))}</p>{''.join(sections)}"
        f"<p>tradedesk {escape(__version__)}. Times are UTC; a month is one of trading days, which end at 17:00 New"
        " York. Results on recorded prices are no promise.</p></main></body></html>"
    )


def _subtitle(run: RunRow) -> str:
    who = f" by {run.deployed_by}" if run.deployed_by else ""
    return (
        f"Trader {run.trader}, deployed {_moment(run.recorded_started)}{who}; data from {_moment(run.started)} to"
        f" {_moment(run.ended)}; {ending(run)}."
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _pairs(rows: Iterable[tuple[str, str]]) -> str:
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows
    )
    return f"<table><tbody>{lines}</tbody></table>"


def _figures(known: Statistics | None, currency: str) -> str:
    rows = figures(known)
    if not rows:
        return "<p>No figures are recorded.</p>"
    lines = "".join(
        f'<tr><th scope="row">{escape(label)}</th><td class="n">{escape(value)}</td>'
        f'<td class="d">{escape(meaning)}</td></tr>'
        for _, label, value, meaning in rows
    )
    return (
        f"<p>Money is in {escape(currency or 'the account currency')}.</p>"
        '<table><thead><tr><th scope="col">Figure</th><th scope="col" class="n">Value</th>'
        f'<th scope="col">How it is worked out</th></tr></thead><tbody>{lines}</tbody></table>'
    )


def _pictures(curve: Curve, currency: str) -> str:
    equity = Line(list(zip(curve.times, curve.equities, strict=True)), "plot-a")
    fall = Line(
        [(at, -down) for at, down in zip(curve.times, curve.drawdowns, strict=True)], "plot-fall", filled=True
    )
    above = draw([equity], height=260, label=f"Equity over time in {currency}", across="dates")
    if not above:
        return "<p>No equity is recorded.</p>"
    below = draw([fall], height=130, label=f"Drawdown over time in {currency}", across="dates", zero=True)
    return (
        f'<div class="scroll">{above}</div><p>Drawdown from the highest equity so far:</p>'
        f'<div class="scroll">{below}</div>'
    )


def _months(months: Sequence[MonthRow]) -> str:
    if not months:
        return "<p>No trade was closed.</p>"
    lines = "".join(
        f'<tr><th scope="row">{row.month:%Y-%m}</th><td class="n">{row.trades:,}</td><td class="n">{row.wins:,}</td>'
        f'<td class="n">{row.losses:,}</td><td class="n {_tint(row.pnl)}">{signed(row.pnl)}</td>'
        f'<td class="n {_tint(row.r_sum)}">{signed(row.r_sum)}</td></tr>'
        for row in months
    )
    head = "".join(
        f'<th scope="col"{" class=n" if place else ""}>{name}</th>'
        for place, name in enumerate(("Month", "Trades", "Wins", "Losses", "PnL", "R"))
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _phases(found: RunAnswer) -> str:
    return _pairs(
        (
            _moment(step.recorded),
            (
                f"{step.phase.replace('_', ' ').lower()}{': ' + step.reason if step.reason else ''}"
                f" (the run's clock: {_moment(step.time)})"
            ),
        )
        for step in found.phases
    )


def signed(value: Decimal) -> str:
    """A sum with its sign, two digits."""
    text = f"{abs(value):,.2f}"
    return f"−{text}" if round(value, 2) < 0 else f"+{text}" if round(value, 2) > 0 else text


def _tint(value: Decimal) -> str:
    return "up" if value > 0 else "down" if value < 0 else ""


def _amount(value: Any, currency: str) -> str:
    return UNKNOWN if value is None else f"{Decimal(str(value)):,.2f} {currency}".strip()


def _length(seconds: Any) -> str:
    if not seconds:
        return UNKNOWN
    for name, unit in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds % unit == 0:
            count = seconds // unit
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{seconds} seconds"


def _moment(value: datetime | None) -> str:
    return UNKNOWN if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def _shown(name: str, value: Any) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, Decimal):
        return f"{value:,.2f}".replace("-", "−")
    if name == "average_seconds_held":
        return f"{value / 3600:,.1f} h"
    if name in _PERCENT:
        return f"{value * 100:,.2f} %".replace("-", "−")
    if name == "max_drawdown_percent":
        return f"{value:,.2f} %"
    return (f"{value:,.2f}" if isinstance(value, float) else f"{value:,}").replace("-", "−")

"""How the console words a trade's story and refused orders, as HTML; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from html import escape
from typing import Any

from services.api.answers.records import OrderRow, OrderStep, TradeRow
from services.api.answers.story import FillRow, GainRow, Sizing, TradeStory, VerdictGiven
from services.api.console.wording import UNKNOWN, moment, money, number, span

_NOTHING = '<p class="desk-minor">Nothing of it is recorded.</p>'


def story(told: TradeStory) -> dict[str, str]:
    """The dialog's title and its content."""
    trade = told.trade
    r = "" if trade.r_multiple is None else f", {number(float(trade.r_multiple), 2, signed=True)} R"
    title = (
        f"Trade {trade.trade}: {trade.side} {_plain(trade.amount)} {trade.instrument},"
        f" {money(trade.pnl, signed=True)} {told.currency}{r}"
    )
    body = (
        _facts(told)
        + _part("Why and how large", _sizing(told))
        + _part("What the guard said", _verdict(told.verdict))
        + _part("Orders", _orders(told.orders))
        + _part("Fills", _fills(told.fills, told.currency))
        + _part("Result", _result(told))
    )
    return {"title": title, "html": body}


def denied_orders(orders: Sequence[OrderRow], run_id: str | None, *, more: bool) -> str:
    """Orders of a run that guard or trader refused, newest first."""
    if run_id is None:
        return "<p>Nothing has been deployed yet.</p>"
    if not orders:
        return f"<p>No order of {escape(run_id)} was refused.</p>"
    rows = []
    for order in orders:
        step = next(step for step in order.life if step.state == "denied")
        rows.append(
            [
                str(order.order),
                moment(step.time, seconds=True),
                order.instrument or UNKNOWN,
                f"{order.side or UNKNOWN} {_plain(order.amount)}",
                _reasons(step.detail.get("reasons", [])),
            ]
        )
    note = f"The last {len(rows)} of" if more else "Those of"
    table = _table("Refused orders", ("Order", "When (UTC)", "Instrument", "What", "Why"), rows, wide=4)
    return f"<p>{note} {escape(run_id)}:</p>{table}"


def _part(title: str, content: str) -> str:
    return f"<section><h3>{title}</h3>{content}</section>"


def _plain(value: Decimal | None) -> str:
    return UNKNOWN if value is None else f"{value:,f}"


def _trimmed(value: Decimal) -> str:
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _facts(told: TradeStory) -> str:
    trade = told.trade
    held = (trade.trade_time - trade.entry_time).total_seconds()
    facts = (
        ("Opened", f"{moment(trade.entry_time, seconds=True)} at {trade.entry_price:f}"),
        ("Closed", f"{moment(trade.trade_time, seconds=True)} at {trade.exit_price:f}"),
        ("Held", span(held)),
        ("Exit by", trade.exit_reason.replace("_", " ")),
        ("Strategy", trade.strategy),
        ("Run", trade.run_id),
        ("Streak", streak(trade)),
        ("Balance after", f"{money(trade.equity)} {told.currency}"),
    )
    rows = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<dl class="desk-trade-story-facts">{rows}</dl>'


def streak(trade: TradeRow) -> str:
    """What this trade made of the streak."""
    count = abs(trade.streak)
    word = "win" if trade.streak > 0 else "loss"
    if trade.outcome == "breakeven":
        return "as before: breakeven neither adds to nor ends one"
    return f"the first {word}" if count == 1 else f"{count} {'wins' if word == 'win' else 'losses'} in a row"


def _sizing(told: TradeStory) -> str:
    why = f"<p>Reason: <strong>{escape(told.reason)}</strong></p>" if told.reason else ""
    size = told.sizing
    if size is None:
        return why or _NOTHING
    return why + _formulas(_size_lines(size, told))


def _size_lines(size: Sizing, told: TradeStory) -> Iterable[tuple[str, str]]:
    currency = told.currency
    yield (
        "Distance to the stop",
        f"|{size.expected:f} expected − {size.stop:f} stop| = {size.distance:f}",
    )
    rate = "" if size.rate in (None, 1) else f" × rate {_trimmed(size.rate or Decimal(1))}"
    per = f"({size.distance:f}{rate})" if rate else f"{size.distance:f}"
    if size.asked is not None:
        yield (
            "Amount",
            (
                f"{money(size.asked)} {currency} risk asked ÷ {per}, rounded down to the lot ="
                f" {_trimmed(size.amount)}"
            ),
        )
    yield (
        "Risk at the stop",
        f"{_trimmed(size.amount)} × {size.distance:f}{rate} = {money(size.risk)} {currency}",
    )
    if told.trade.initial_risk != size.risk:
        yield ("1 R, by what was filled", f"{money(told.trade.initial_risk)} {currency}")


def _formulas(lines: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in lines)
    return f'<dl class="desk-formulas">{rows}</dl>'


def _verdict(verdict: VerdictGiven | None) -> str:
    if verdict is None:
        return _NOTHING
    word = "Approved" if verdict.approved else "Denied"
    css = "desk-up" if verdict.approved else "desk-down"
    why = f" {_escaped_reasons(verdict.reasons)}" if verdict.reasons else ""
    return (
        f'<p><strong class="{css}">{word}</strong> at {moment(verdict.time, seconds=True)}, step {verdict.step:,}.{why}'
        f'</p><p class="desk-minor">For this very order: digest <code>{escape(verdict.digest)}</code></p>'
    )


def _reasons(reasons: Sequence[dict[str, Any]]) -> str:
    return "; ".join(f"{reason.get('code', '')}: {reason.get('text', '')}" for reason in reasons) or UNKNOWN


def _escaped_reasons(reasons: Sequence[dict[str, Any]]) -> str:
    return escape(_reasons(reasons))


def _orders(orders: Sequence[OrderRow]) -> str:
    if not orders:
        return _NOTHING
    items = "".join(
        f"<li><strong>{order.order} {escape(order.purpose or '')}</strong> {escape(_what(order))}"
        f"<ol>{''.join(_life(step) for step in order.life)}</ol></li>"
        for order in orders
    )
    return f'<ul class="desk-lives">{items}</ul>'


def _what(order: OrderRow) -> str:
    # A market order has no price of its own, only its fill's.
    price = "" if order.price is None or order.kind == "market" else f" at {order.price:f}"
    return f"{order.side or ''} {_plain(order.amount)} {order.kind or ''}{price}"


def _life(step: OrderStep) -> str:
    return (
        f'<li><span class="desk-state">{escape(step.state)}</span> <time>{moment(step.time, seconds=True)}</time>'
        f" <span>{escape(_detail(step))}</span></li>"
    )


def _detail(step: OrderStep) -> str:
    said = step.detail
    match step.state:
        case "filled":
            return f"{said.get('amount')} at {said.get('price')}"
        case "accepted":
            return "" if said.get("price") is None else f"works at {said['price']}"
        case "denied":
            return _reasons(said.get("reasons", []))
        case "cancelled" | "rejected":
            reason = said.get("reason") or {}
            left = f"{said['unfilled']} unfilled: " if "unfilled" in said else ""
            return f"{left}{reason.get('text') or reason.get('code') or ''}"
        case "intended":
            return f"market at {said.get('expected')}" if said.get("price") is None else ""
    return ""


def _fills(fills: Sequence[FillRow], currency: str) -> str:
    if not fills:
        return _NOTHING
    rows = [
        [
            f"{fill.order} {fill.purpose}",
            moment(fill.filled_at, seconds=True),
            f"{fill.side} {_plain(fill.amount)}",
            f"{fill.price:f}",
            UNKNOWN if fill.expected is None else f"{fill.expected:f}",
            UNKNOWN if fill.worse_by is None else f"{fill.worse_by:f}".replace("-", "−"),
            money(fill.slippage),
            money(fill.commission),
        ]
        for fill in fills
    ]
    head = (
        "Order",
        "When (UTC)",
        "What",
        "#Price",
        "#Expected",
        "#Worse by",
        f"#Slippage {currency}",
        f"#Commission {currency}",
    )
    return _table("Fills", head, rows)


def _table(name: str, columns: Sequence[str], rows: Sequence[Sequence[str]], wide: int = -1) -> str:
    head = "".join(
        f'<th scope="col"{" class=desk-number" if column.startswith("#") else ""}>{escape(column.lstrip("#"))}</th>'
        for column in columns
    )
    classes = [
        "desk-number" if column.startswith("#") else "desk-wrap" if place == wide else ""
        for place, column in enumerate(columns)
    ]
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{css}">{escape(text)}</td>' for text, css in zip(row, classes, strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="desk-scroll" tabindex="0" role="region" aria-label="{escape(name, quote=True)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _result(told: TradeStory) -> str:
    trade, currency = told.trade, told.currency
    lines = []
    if told.working is not None:
        lines += [("Gain", _gain(row, trade.side, currency)) for row in told.working.gains]
        lines.append(
            (
                "PnL",
                (
                    f"{' + '.join(money(row.gain) for row in told.working.gains)}"
                    f" − {money(told.working.commission)} commission"
                    f" = {money(told.working.pnl, signed=True)} {currency}"
                ),
            )
        )
    lines.append(("Booked", f"{money(trade.pnl, signed=True)} {currency}, {trade.outcome}"))
    if trade.r_multiple is not None:
        lines.append(
            (
                "R",
                (
                    f"{money(trade.pnl, signed=True)} ÷ {money(trade.initial_risk)} at risk ="
                    f" {number(float(trade.r_multiple), 4, signed=True)}"
                ),
            )
        )
    lines.append(
        ("Within it", f"slippage {money(trade.slippage)} {currency}, commission {money(trade.commission)}")
    )
    note = ""
    if told.working is not None:
        note = (
            '<p class="desk-minor">Worked out again from the fills: the same as was booked.</p>'
            if told.working.agrees
            else '<p class="desk-down" role="alert">Worked out again from the fills it is not what was booked.</p>'
        )
    return _formulas(lines) + note


def _gain(row: GainRow, side: str, currency: str) -> str:
    first, second = (row.exit_price, row.entry_price) if side == "long" else (row.entry_price, row.exit_price)
    words = ("exit", "entry") if side == "long" else ("entry", "exit")
    rate = "" if row.rate == 1 else f" × rate {_trimmed(row.rate)}"
    return (
        f"({_price(first)} {words[0]} − {_price(second)} {words[1]}) × {_trimmed(row.amount)}{rate}"
        f" = {money(row.gain, signed=True)} {currency}"
    )


def _price(value: Decimal) -> str:
    """An average may have any number of digits."""
    exponent = int(value.as_tuple().exponent)
    return f"{value.quantize(Decimal('0.0000001')):f}" if exponent < -7 else f"{value:f}"

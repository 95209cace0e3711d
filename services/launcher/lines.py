"""An event as one line for a person who watches `desk up`."""

from __future__ import annotations

from rich.markup import escape

from services.shared.events import AlertRaised, LimitsChanged, StatusChanged, TradeClosed, TradeOpened
from services.shared.wire import Event

_SEVERITY = {"INFO": "cyan", "WARNING": "yellow", "CRITICAL": "bold red"}


def describe(event: Event) -> str | None:
    """One line, in rich's markup, for a trade, an alert, a phase or a limit; None for the rest."""
    body = event.body
    if isinstance(body, TradeOpened):
        return (
            f"[cyan]opened[/]  {body.side:<5} {body.amount:f} {body.instrument} at {body.entry_price}, "
            f"stop {body.stop}, risking {body.initial_risk}"
        )
    if isinstance(body, TradeClosed):
        colour = {"win": "green", "loss": "red"}.get(body.outcome, "white")
        r = "" if body.r_multiple is None else f" ({body.r_multiple:.2f} R)"
        return (
            f"[{colour}]closed[/]  {body.side:<5} {body.amount:f} {body.instrument} at {body.exit_price} "
            f"by {body.exit_reason}: [{colour}]{body.pnl:+}[/]{r}, balance {body.equity}"
        )
    if isinstance(body, AlertRaised):
        colour = _SEVERITY.get(body.severity, "white")
        return f"[{colour}]{body.severity.lower()}[/]  {escape(body.text)} [dim]{escape(body.action)}[/]"
    if isinstance(body, StatusChanged):
        why = f": {escape(body.reason)}" if body.reason else ""
        change = body.phase if body.previous == body.phase else f"{body.previous} → {body.phase}"
        return f"[magenta]status[/]  {change}{why}"
    if isinstance(body, LimitsChanged):
        return f"[yellow]limits[/]  {body.action} by {escape(body.by)}: {escape(body.reason)}"
    return None


__all__ = ["describe"]

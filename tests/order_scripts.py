"""What the tests of orders have a strategy do, and a run that holds a position."""

from __future__ import annotations

from services.trader.loop import TradingLoop
from services.trader.strategies.base import Context
from tests.paper_runs import plan_of, run, scripted

FLAT = (1.1, 1.1, 1.1, 1.1)


def buy(ctx: Context) -> None:
    """A long with its stop 20 pips below and its target 100 above: 5,000 units for a risk of 10."""
    ctx.enter("buy", 1.098, 1.11)


def rest(ctx: Context) -> None:
    """A limit that nothing in a test reaches."""
    ctx.enter("buy", 1.08, limit=1.09)


def leave(ctx: Context) -> None:
    """Out at market."""
    ctx.exit()


def holding_5000() -> TradingLoop:
    return run(plan_of([FLAT] * 3, scripted({1: buy})), to_the_end=False).loop

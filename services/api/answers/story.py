"""A trade's whole story as the API tells it: why, how large, what the guard said, every order, every fill, the sum."""

from __future__ import annotations

from typing import Any

from services.api.answers.base import TRADE, Answer, Exact, Time, example
from services.api.answers.records import OrderRow, TradeRow


class Sizing(Answer):
    """How the amount came about: `asked` at risk, over the distance from the price expected to the stop. `rate`
    is what turned the quote currency into the account's; `risk` is what the amount risked."""

    asked: Exact | None
    expected: Exact
    stop: Exact
    distance: Exact
    rate: Exact | None
    amount: Exact
    risk: Exact


class VerdictGiven(Answer):
    """What the guard said to the entry; `digest` binds it to that very order."""

    approved: bool
    time: Time
    step: int
    digest: str
    reasons: list[dict[str, Any]]


class FillRow(Answer):
    """One fill. `expected` is the price the order was decided or placed at, `worse_by` how much worse the fill
    was (negative: better), in the instrument's price."""

    order: int
    purpose: str
    side: str
    amount: Exact
    price: Exact
    expected: Exact | None
    worse_by: Exact | None
    rate: Exact
    commission: Exact
    slippage: Exact
    filled_at: Time


class GainRow(Answer):
    """What one exit made: (exit - entry) * amount * rate for a long, the other way round for a short."""

    entry_price: Exact
    exit_price: Exact
    amount: Exact
    rate: Exact
    gain: Exact


class Working(Answer):
    """The result worked out again from the fills: `pnl` is the sum of gains less `commission`, `agrees` says
    whether that is what was booked. `r_multiple` is the booked pnl over the initial risk."""

    gains: list[GainRow]
    commission: Exact
    pnl: Exact
    agrees: bool


class TradeStory(Answer):
    """A trade from its reason to its result. Parts of which nothing is recorded are null or empty."""

    model_config = example(
        trade=TRADE,
        currency="USD",
        reason="breakout",
        sizing={
            "asked": "10",
            "expected": "1.07431",
            "stop": "1.07147",
            "distance": "0.00284",
            "rate": "1",
            "amount": "3521",
            "risk": "10.00",
        },
        verdict={
            "approved": True,
            "time": "2017-04-20T08:00:00Z",
            "step": 24,
            "digest": "3f0a9c51d2e84b7690ab12cd34ef5678",
            "reasons": [],
        },
        orders=[
            {
                "run_id": TRADE["run_id"],
                "order": 34,
                "state": "filled",
                "instrument": "EURUSD",
                "purpose": "entry",
                "side": "buy",
                "kind": "market",
                "amount": "3521",
                "price": None,
                "life": [{"state": "intended", "time": "2017-04-20T08:00:00Z", "detail": {"risk": "10.00"}}],
            }
        ],
        fills=[
            {
                "order": 34,
                "purpose": "entry",
                "side": "buy",
                "amount": "3521",
                "price": "1.07431",
                "expected": "1.07429",
                "worse_by": "0.00002",
                "rate": "1",
                "commission": "0",
                "slippage": "0.07",
                "filled_at": "2017-04-20T08:00:00Z",
            }
        ],
        working={
            "gains": [
                {
                    "entry_price": "1.07431",
                    "exit_price": "1.07996",
                    "amount": "3521",
                    "rate": "1",
                    "gain": "19.89",
                }
            ],
            "commission": "0",
            "pnl": "19.89",
            "agrees": True,
        },
    )

    trade: TradeRow
    currency: str
    reason: str | None
    sizing: Sizing | None
    verdict: VerdictGiven | None
    orders: list[OrderRow]
    fills: list[FillRow]
    working: Working | None

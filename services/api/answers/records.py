"""What was recorded: trades, alerts, orders, positions, the chart."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from services.api.answers.base import ALERT, CHART, POSITION, RUN, TRADE, Answer, Exact, Time, example


class TradeRow(Answer):
    """A closed trade."""

    model_config = example(**TRADE)

    run_id: str
    seq: int
    trade: int
    instrument: str
    side: str
    amount: Exact
    entry_time: Time
    entry_price: Exact
    trade_time: Time
    exit_price: Exact
    stop: Exact | None
    target: Exact | None
    initial_risk: Exact
    pnl: Exact
    outcome: str
    r_multiple: Exact | None
    equity: Exact
    commission: Exact
    slippage: Exact
    exit_reason: str
    strategy: str
    streak: int


class TradesPage(Answer):
    """Trades in order; `next` and `previous` are the cursors of the pages around it, `last` that of the last
    page, each null where there is none. `count` is how many trades match: exactly, or `more_than` that."""

    model_config = example(
        trades=[TRADE],
        next="WyJhZnRlciIsICJ0aW1lIiwgIjIwMTctMDQtMjBUMTQ6MDA6MDArMDA6MDAiLCA0MjFd",
        previous=None,
        last="WyJsYXN0Il0",
        count=210,
        count_is="exact",
        run_id=RUN,
    )

    trades: list[TradeRow]
    next: str | None
    previous: str | None
    last: str | None
    count: int | None
    count_is: Literal["exact", "more_than"] | None
    run_id: str | None


class AlertRow(Answer):
    """Something a person should know; `time` is the run's clock, `recorded` the wall's. Who acknowledged it
    first, and when, once somebody has."""

    model_config = example(**ALERT)

    id: UUID
    time: Time
    recorded: Time
    run_id: str
    emitter: str
    severity: str
    code: str
    text: str
    action: str
    acknowledged_by: str | None = None
    acknowledged_at: Time | None = None


class AlertsPage(Answer):
    """Alerts, newest first."""

    model_config = example(alerts=[ALERT], next=None)

    alerts: list[AlertRow]
    next: str | None


class OrderStep(Answer):
    """One event in an order's life; `detail` is the event's own fields."""

    state: str
    time: Time
    detail: dict[str, Any]


class OrderRow(Answer):
    """An order and its life: what was intended, and what became of it."""

    model_config = example(
        run_id=RUN,
        order=57,
        state="filled",
        instrument="EURUSD",
        purpose="entry",
        side="buy",
        kind="market",
        amount="3521",
        price=None,
        life=[{"state": "intended", "time": "2017-04-21T08:00:00Z", "detail": {"risk": "10.00"}}],
    )

    run_id: str
    order: int
    state: str
    instrument: str | None
    purpose: str | None
    side: str | None
    kind: str | None
    amount: Exact | None
    price: Exact | None
    life: list[OrderStep]


class OrdersPage(Answer):
    """Orders of one run, newest first."""

    orders: list[OrderRow]
    next: str | None
    run_id: str | None


class PositionRow(Answer):
    """An open position: its trade so far, what of it is still open, and the last recorded prices."""

    model_config = example(**POSITION)

    run_id: str
    trade: int
    order: int
    instrument: str
    side: str
    amount: Exact
    open_amount: Exact
    entry_time: Time
    entry_price: Exact
    stop: Exact | None
    target: Exact | None
    initial_risk: Exact
    strategy: str
    bid: Exact | None
    ask: Exact | None
    priced_at: Time | None


class PositionsAnswer(Answer):
    """What is open in a run, as recorded; `unrealised` and `open_risk` at the last mark."""

    model_config = example(
        run_id=RUN, holding="open", positions=[POSITION], unrealised="2.50", open_risk="10.00"
    )

    run_id: str | None
    holding: Literal["flat", "open", "unknown"]
    positions: list[PositionRow]
    unrealised: Exact | None
    open_risk: Exact | None


class ChartMeta(Answer):
    """How a chart was made: from which level, of how many rows. `complete` is false when points were
    merged; each merged bucket still has its first, lowest, highest and last equity."""

    level: Literal["none", "raw", "minute", "hour", "day"]
    rows: int
    bound: int
    complete: bool


class ChartAnswer(Answer):
    """Points of the equity curve in order of time; the three lists are equally long."""

    model_config = example(**CHART)

    run_id: str | None
    times: list[Time]
    equities: list[float]
    drawdowns: list[float]
    meta: ChartMeta

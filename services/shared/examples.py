"""One example of every message, as documentation shows it and as tests send it. Pure data."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from services.shared import events as ev
from services.shared import wire
from services.shared.commands import Heartbeat

TRADER = "main"
RUN = "run-20261122-01"
TIME = datetime(2017, 4, 20, 14, tzinfo=UTC)
RECORDED = datetime(2026, 11, 22, 20, 15, 3, 250000, tzinfo=UTC)
_D = Decimal

BODIES: dict[str, ev.Body] = {
    "equity": ev.EquityMarked(
        step=30,
        balance=_D("10034.22"),
        unrealised=_D("4.15"),
        equity=_D("10038.37"),
        peak=_D("10061.02"),
        drawdown=_D("22.65"),
        max_drawdown=_D("48.30"),
        open_risk=_D("10.00"),
    ),
    "trade.opened": ev.TradeOpened(
        trade=12,
        order=57,
        instrument="EURUSD",
        side="long",
        amount=_D(3521),
        entry_time=TIME - timedelta(hours=6),
        entry_price=_D("1.07431"),
        stop=_D("1.07147"),
        target=_D("1.07999"),
        initial_risk=_D("10.00"),
        strategy="donchian",
        reason="close above the highest of 20 bars",
    ),
    "trade.closed": ev.TradeClosed(
        trade=12,
        instrument="EURUSD",
        side="long",
        amount=_D(3521),
        entry_time=TIME - timedelta(hours=6),
        entry_price=_D("1.07431"),
        trade_time=TIME,
        exit_price=_D("1.07996"),
        stop=_D("1.07147"),
        target=_D("1.07999"),
        initial_risk=_D("10.00"),
        pnl=_D("19.89"),
        outcome="win",
        r_multiple=_D("1.989"),
        equity=_D("10054.11"),
        commission=_D(0),
        slippage=_D("0.07"),
        exit_reason="target",
        strategy="donchian",
        streak=2,
    ),
    "action": ev.ActionTaken(
        by="operator",
        role="operator",
        action="alert.acknowledge",
        subject="5e1c0b1e-8f0a-5a8e-9a53-6d3f0e5f7f10",
    ),
    "adjustment": ev.Adjusted(amount=_D("-0.35"), balance=_D("10053.76"), reason="financing over night"),
    "order.intended": ev.OrderIntended(
        order=57,
        trade=12,
        instrument="EURUSD",
        purpose="entry",
        side="buy",
        kind="market",
        amount=_D(3521),
        price=None,
        expected=_D("1.07430"),
        stop=_D("1.07147"),
        target=_D("1.07999"),
        risk=_D("10.00"),
        strategy="donchian",
        reason="close above the highest of 20 bars",
    ),
    "order.approved": ev.OrderApproved(order=57, step=24, digest="3f0a9c51d2e84b7690ab12cd34ef5678"),
    "order.denied": ev.OrderDenied(
        order=57,
        step=24,
        digest="3f0a9c51d2e84b7690ab12cd34ef5678",
        reasons=(ev.Reason(code="open_risk", text="40.00 at risk in all, limit 30.00"),),
    ),
    "order.accepted": ev.OrderAccepted(
        order=58,
        instrument="EURUSD",
        purpose="stop",
        side="sell",
        kind="stop",
        amount=_D(3521),
        price=_D("1.07147"),
    ),
    "order.filled": ev.OrderFilled(
        order=57,
        fill="paper-91",
        trade=12,
        instrument="EURUSD",
        purpose="entry",
        side="buy",
        amount=_D(3521),
        price=_D("1.07431"),
        rate=_D(1),
        commission=_D(0),
        slippage=_D("0.07"),
        filled_at=TIME - timedelta(hours=6),
    ),
    "order.rejected": ev.OrderRejected(
        order=57, reason=ev.Reason(code="margin", text="expected 126.09 of margin, 80.00 free")
    ),
    "order.cancelled": ev.OrderCancelled(
        order=59, unfilled=_D(3521), reason=ev.Reason(code="closed", text="the position is closed")
    ),
    "status": ev.StatusChanged(
        phase="STARTING",
        previous="NOT_DEPLOYED",
        reason="deployed by api",
        holding="flat",
        command_id="api-5d0b8f1e3b6f5a0c",
        terms=ev.DeploymentTerms(
            strategy="donchian",
            parameters={"channel": "20"},
            instruments=("EURUSD",),
            currency="USD",
            balance=_D(10000),
            risk_per_trade=_D(10),
            mode="lockstep",
            broker="paper",
            feed="replay:EURUSD-1h.csv",
            bar_seconds=3600,
            weekend="flat",
            costs={"spread": "1.0", "slippage": "0.2"},
        ),
    ),
    "alert": ev.AlertRaised(
        severity="CRITICAL",
        code="drawdown",
        text="Equity fell 3000.00 from its peak; the account is halted.",
        action="Read the trades, then `desk reset --reason`.",
    ),
    "outcome": ev.CommandOutcome(command_id="api-5d0b8f1e3b6f5a0c", verb="stop", state="done"),
    "limits": ev.LimitsChanged(
        action="change",
        by="api",
        reason="less risk over the weekend",
        old={"drawdown": "3000"},
        new={"drawdown": "2000"},
    ),
    "market.bar": ev.BarClosed(
        instrument="EURUSD",
        seconds=3600,
        start=TIME - timedelta(hours=1),
        bid_open=_D("1.07901"),
        bid_high=_D("1.08010"),
        bid_low=_D("1.07880"),
        bid_close=_D("1.07990"),
        ask_open=_D("1.07911"),
        ask_high=_D("1.08020"),
        ask_low=_D("1.07890"),
        ask_close=_D("1.08000"),
        volume=_D(4120),
    ),
}
_EMITTERS: dict[str, ev.Emitter] = {
    "order.approved": "guard",
    "order.denied": "guard",
    "limits": "guard",
    "alert": "guard",
    "market.bar": "feed",
}


def event(kind: str) -> bytes:
    """An event of that type as it is on the wire."""
    return wire.encode(
        BODIES[kind],
        trader=TRADER,
        run_id=RUN,
        emitter=_EMITTERS.get(kind, "trader"),
        seq=421,
        time=TIME,
        recorded=RECORDED,
    )


def _object(data: bytes) -> Any:
    return json.loads(data)


COMMANDS: dict[str, dict[str, Any]] = {
    "deploy": {"strategy": "donchian", "instrument": "EURUSD", "risk_per_trade": "10", "hours": "72"},
    "pause": {"reason": "news at 14:30"},
    "resume": {"reason": "news is over"},
    "stop": {"mode": "flatten"},
    "halt": {"reason": "prices look wrong"},
    "reset": {"reason": "read the trades, go on"},
}
COMMAND_REPLY: dict[str, Any] = {
    "status": "rejected",
    "command_id": "api-5d0b8f1e3b6f5a0c",
    "reason": "Already deployed",
}
SIGNAL: dict[str, Any] = {
    "id": "my-signal-1",
    "instrument": "EURUSD",
    "side": "buy",
    "stop": "1.0712",
    "r": "2",
}
LIMITS_REQUEST: dict[str, Any] = {"values": {"drawdown": "2500"}, "by": "api", "reason": "smaller account"}
LIMITS_REPLY: dict[str, Any] = {
    "status": "accepted",
    "command_id": "limits-1",
    "reason": "",
    "limits": {"drawdown": "2500"},
}
HEARTBEAT = Heartbeat(
    service="risk", instance="1", version="0.1.0", time=RECORDED, state="ready", lag=0, began=RECORDED
)
RISK_CHECK: dict[str, Any] = {
    "trader": TRADER,
    "run_id": RUN,
    "step": 24,
    "mode": "lockstep",
    "time": wire.wire_time(TIME),
    "events": [_object(event("order.intended"))],
    "judge": [57],
    "quotes": {"EURUSD": {"bid": "1.07990", "ask": "1.08000", "time": wire.wire_time(TIME)}},
    "rates": {"USD": "1"},
}
RISK_ANSWER: dict[str, Any] = {
    "status": "answered",
    "step": 24,
    "verdicts": [
        {"order": 57, "approved": True, "digest": "3f0a9c51d2e84b7690ab12cd34ef5678", "reasons": []}
    ],
    "halt": None,
    "cancel_entries": False,
}

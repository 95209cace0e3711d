"""What all answers have in common: exact numbers as strings, times in UTC, and the examples shown.

Money, prices and ratios of account are exact decimals as strings; only the points of a chart, which is a
drawing, are JSON numbers. Times are RFC 3339. What is undefined is null.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from services.shared.wire import wire_time


def example(**values: Any) -> ConfigDict:
    """A model's configuration with the example of its documentation."""
    return ConfigDict(frozen=True, json_schema_extra={"examples": [values]})


def _utc(value: datetime) -> str:
    return wire_time(value.astimezone(UTC))


Exact = Annotated[
    Decimal, PlainSerializer(lambda value: format(value, "f"), return_type=str, when_used="json")
]
Time = Annotated[datetime, PlainSerializer(_utc, return_type=str, when_used="json")]
Seconds = Annotated[float, BeforeValidator(lambda value: round(float(value), 3))]

RUN = "run-20261122-01"
STATUS = {
    "trader": "main",
    "deployment_status": "DEPLOYED",
    "phase": "MONITORING",
    "paused": False,
    "holding": "open",
    "halted": False,
    "reason": "",
    "run_id": RUN,
    "deployment_time": "2026-11-22T20:00:00Z",
    "expected_completion": "2026-11-25T20:00:00Z",
    "finished": None,
    "seconds_left": 259200.0,
    "progress": 0.25,
    "tasks_completed": 12,
    "settings": {"strategy": "donchian", "instruments": ["EURUSD"]},
    "updated": "2026-11-22T20:15:00Z",
}
TRADE = {
    "run_id": RUN,
    "seq": 421,
    "trade": 12,
    "instrument": "EURUSD",
    "side": "long",
    "amount": "3521",
    "entry_time": "2017-04-20T08:00:00Z",
    "entry_price": "1.07431",
    "trade_time": "2017-04-20T14:00:00Z",
    "exit_price": "1.07996",
    "stop": "1.07147",
    "target": "1.07999",
    "initial_risk": "10.00",
    "pnl": "19.89",
    "outcome": "win",
    "r_multiple": "1.989",
    "equity": "10054.11",
    "commission": "0",
    "slippage": "0.07",
    "exit_reason": "target",
    "strategy": "donchian",
    "streak": 2,
}
ALERT = {
    "id": "5e1c0b1e-8f0a-5a8e-9a53-6d3f0e5f7f10",
    "time": "2017-04-20T14:00:00Z",
    "recorded": "2026-11-22T20:15:00Z",
    "run_id": RUN,
    "emitter": "guard",
    "severity": "CRITICAL",
    "code": "drawdown",
    "text": "Equity fell 3000.00 from its peak.",
    "action": "Read the trades, then `desk reset --reason`.",
    "acknowledged_by": "ann",
    "acknowledged_at": "2026-11-22T20:16:00Z",
}
EQUITY = {
    "time": "2017-04-20T14:00:00Z",
    "balance": "10054.11",
    "unrealised": "0",
    "equity": "10054.11",
    "peak": "10061.02",
    "drawdown": "6.91",
    "max_drawdown": "48.30",
    "open_risk": "0",
}
CHART = {
    "run_id": RUN,
    "times": ["2017-04-19T09:00:00Z", "2017-04-20T14:00:00Z"],
    "equities": [10000.0, 10054.11],
    "drawdowns": [0.0, 6.91],
    "meta": {"level": "raw", "rows": 2, "bound": 1000, "complete": True},
}
LIMIT = {
    "name": "drawdown",
    "value": "3000",
    "action": "halt",
    "meaning": "equity this much money below its peak",
    "bound": "3000",
    "used": "6.91",
    "used_percent": 0.2,
}
POSITION = {
    "run_id": RUN,
    "trade": 13,
    "order": 57,
    "instrument": "EURUSD",
    "side": "long",
    "amount": "3521",
    "open_amount": "3521",
    "entry_time": "2017-04-21T08:00:00Z",
    "entry_price": "1.07431",
    "stop": "1.07147",
    "target": "1.07999",
    "initial_risk": "10.00",
    "strategy": "donchian",
    "bid": "1.07502",
    "ask": "1.07512",
    "priced_at": "2017-04-21T09:00:00Z",
}


class Answer(BaseModel):
    """The base of every answer."""

    model_config = ConfigDict(frozen=True)

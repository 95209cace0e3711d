"""How the desk stands: health, status, results, risk, and all of it in one answer."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

from services.api.answers.base import (
    ALERT,
    CHART,
    EQUITY,
    LIMIT,
    RUN,
    STATUS,
    TRADE,
    Answer,
    Exact,
    Seconds,
    Time,
    example,
)
from services.api.answers.records import AlertRow, ChartAnswer, PositionRow, TradeRow
from services.shared.statistics import Statistics


class ServicePulse(Answer):
    """A service's last sign of life; `age` in seconds."""

    service: str
    instance: str
    version: str
    state: str
    age: Seconds
    lag: int


class PartHealth(Answer):
    """Whether a part answers, and why not."""

    ok: bool
    reason: str = ""


class HealthAnswer(Answer):
    """How the desk does. `degraded` names what is away in `problems`; the API itself works."""

    model_config = example(
        status="ok",
        version="0.1.0",
        uptime=3600.5,
        nats={"ok": True, "reason": ""},
        database={"ok": True, "reason": ""},
        services=[
            {
                "service": "risk",
                "instance": "1",
                "version": "0.1.0",
                "state": "ready",
                "age": 0.4,
                "lag": 0,
            }
        ],
        problems=[],
    )

    status: Literal["ok", "degraded"]
    version: str
    uptime: Seconds
    nats: PartHealth
    database: PartHealth
    services: list[ServicePulse]
    problems: list[str]


class StatusAnswer(Answer):
    """Where the trader's deployment stands, by the trader's own word."""

    model_config = example(**STATUS)

    trader: str
    deployment_status: Literal[
        "NOT_DEPLOYED", "DEPLOYED", "STOPPING", "STOPPED", "HALTED", "COMPLETED", "FAILED"
    ]
    phase: str
    paused: bool
    holding: Literal["flat", "open", "unknown"]
    halted: bool
    reason: str
    run_id: str | None
    deployment_time: Time | None
    expected_completion: Time | None
    finished: Time | None
    seconds_left: Seconds | None
    progress: float | None
    tasks_completed: int
    settings: dict[str, Any]
    updated: Time | None


class EquityRow(Answer):
    """The account at its last mark, by the run's clock."""

    model_config = example(**EQUITY)

    time: Time
    balance: Exact
    unrealised: Exact
    equity: Exact
    peak: Exact
    drawdown: Exact
    max_drawdown: Exact
    open_risk: Exact


class Today(Answer):
    """The trading day (to 17:00 New York) of the last mark: what it opened with and what it made."""

    model_config = example(day="2017-04-20", opening_equity="10034.22", pnl="19.89", percent=0.198)

    day: date
    opening_equity: Exact
    pnl: Exact
    percent: float | None


class StatisticsAnswer(Answer):
    """A run's results; null when nothing of it is recorded yet."""

    run_id: str | None
    currency: str | None
    opening_balance: Exact | None
    statistics: Statistics | None


class LimitRow(Answer):
    """A limit in force. `bound` is what it comes to now, `used` how much of that is used up."""

    model_config = example(**LIMIT)

    name: str
    value: str
    action: str
    meaning: str
    bound: Exact | None = None
    used: Exact | None = None
    used_percent: float | None = None


class LimitChange(Answer):
    """A limit that changed, a halt set or cleared: who, why, old and new values as text."""

    model_config = example(
        time="2017-04-20T14:00:00Z",
        recorded="2026-11-22T20:15:00Z",
        run_id=RUN,
        action="change",
        by="api",
        reason="less risk over the weekend",
        old={"drawdown": "3000"},
        new={"drawdown": "2000"},
    )

    time: Time
    recorded: Time
    run_id: str
    action: str
    by: str
    reason: str
    old: dict[str, Any]
    new: dict[str, Any]


class Missing(Answer):
    """A part of the answer that could not be had, and why."""

    part: str
    reason: str


class DenialCount(Answer):
    """How many orders were denied for one reason, and how the last of them was told."""

    code: str
    orders: int
    last_text: str


class VerdictCounts(Answer):
    """What the guard said of a run's orders; one denied for two reasons counts under both."""

    model_config = example(
        approved=210,
        denied=3,
        reasons=[{"code": "spread", "orders": 3, "last_text": "the spread is 6.1 times its median"}],
    )

    approved: int
    denied: int
    reasons: list[DenialCount]


class RiskAnswer(Answer):
    """The guard's limits, how much of each is used, what it said of the run's orders, and what changed last."""

    model_config = example(
        trader="main",
        run_id=RUN,
        halted=False,
        reason="",
        limits=[LIMIT],
        verdicts={"approved": 210, "denied": 0, "reasons": []},
        history=[],
        missing=[],
    )

    trader: str
    run_id: str | None
    halted: bool | None
    reason: str
    limits: list[LimitRow] | None
    verdicts: VerdictCounts | None
    history: list[LimitChange]
    missing: tuple[Missing, ...] = ()


class DashboardAnswer(Answer):
    """Everything a page shows, in one answer. What could not be had is null and named in `missing`."""

    model_config = example(
        trader="main",
        at="2026-11-22T20:15:00Z",
        status=STATUS,
        run_id=RUN,
        currency="USD",
        opening_balance="10000",
        equity=EQUITY,
        today={"day": "2017-04-20", "opening_equity": "10034.22", "pnl": "19.89", "percent": 0.198},
        statistics=None,
        trades=[TRADE],
        alerts=[ALERT],
        positions=[],
        limits=[LIMIT],
        chart=CHART,
        services=[],
        missing=[],
    )

    trader: str
    at: Time
    status: StatusAnswer | None
    run_id: str | None
    currency: str | None
    opening_balance: Exact | None
    equity: EquityRow | None
    today: Today | None
    statistics: Statistics | None
    trades: list[TradeRow]
    alerts: list[AlertRow]
    positions: list[PositionRow]
    limits: list[LimitRow] | None
    chart: ChartAnswer | None
    services: list[ServicePulse]
    missing: list[Missing]

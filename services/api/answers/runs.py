"""Deployments as the API shows them: what was deployed by whom, how it went, and how it ended."""

from __future__ import annotations

from datetime import date
from typing import Any

from services.api.answers.base import RUN, Answer, Exact, Time, example
from services.shared.statistics import Statistics

_ROW = {
    "run_id": RUN,
    "trader": "main",
    "phase": "COMPLETED",
    "started": "2017-04-19T09:00:00Z",
    "recorded_started": "2026-11-22T20:00:00Z",
    "ended": "2018-02-07T15:00:00Z",
    "terms": {"strategy": "donchian", "instruments": ["EURUSD"], "risk_per_trade": "10"},
    "trades": 210,
    "wins": 84,
    "pnl": "-14.20",
    "r_sum": "-1.4211",
    "max_drawdown": "221.35",
    "deployed_by": "operator",
    "end_reason": "the data is over",
}


class RunRow(Answer):
    """One deployment, as recorded. `terms` is what it was deployed with, `r_sum` the sum of its trades'
    r_multiple, `max_drawdown` the largest fall of equity from its peak, in money; `end_reason` is what was
    said when it ended."""

    model_config = example(**_ROW)

    run_id: str
    trader: str
    phase: str
    started: Time | None
    recorded_started: Time | None
    ended: Time | None
    terms: dict[str, Any] | None
    trades: int
    wins: int
    pnl: Exact
    r_sum: Exact
    max_drawdown: Exact | None
    deployed_by: str | None
    end_reason: str | None


class RunsPage(Answer):
    """Runs, newest first."""

    runs: list[RunRow]
    next: str | None


class PhaseStep(Answer):
    """A run entered a phase: when by its own clock and by the wall's, and why."""

    phase: str
    reason: str
    time: Time
    recorded: Time


class MonthRow(Answer):
    """The trades that closed in a month of trading days; `month` is its first day."""

    month: date
    trades: int
    wins: int
    losses: int
    pnl: Exact
    r_sum: Exact


class RunAnswer(Answer):
    """A run with its statistics, its results by month and the phases it went through."""

    model_config = example(
        run=_ROW,
        statistics=None,
        months=[
            {"month": "2017-04-01", "trades": 8, "wins": 4, "losses": 4, "pnl": "12.20", "r_sum": "1.2222"}
        ],
        phases=[
            {
                "phase": "COMPLETED",
                "reason": "the data is over",
                "time": "2018-02-07T15:00:00Z",
                "recorded": "2026-11-22T20:04:00Z",
            }
        ],
    )

    run: RunRow
    statistics: Statistics | None
    months: list[MonthRow]
    phases: list[PhaseStep]

"""Deployments as recorded: a page of them with their results, and one with all there is to say about it.

Everything is read by key or is a sum that the recorder keeps, so a run of a million trades costs what a small
one does.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from services.api.answers.runs import MonthRow, PhaseStep, RunAnswer, RunRow, RunsPage
from services.api.cursor import read_cursor, write_cursor
from services.api.queries import Conditions
from services.api.results import Results, Run

if TYPE_CHECKING:
    from services.api.ledger import Proxy, Record

_OVER = "('STOPPED', 'HALTED', 'COMPLETED', 'FAILED')"
# Who deployed is said by the command that the first status names; how it ended by the last status.
_RUN = f"""
select r.run_id, r.trader, r.phase, r.started, r.recorded_started, r.ended, r.terms,
    coalesce(t.trades, 0) as trades, coalesce(t.wins, 0) as wins, coalesce(t.pnl, 0) as pnl,
    coalesce(t.r_sum, 0) as r_sum, coalesce(r.recorded_started, 'epoch') as began,
    (select max_drawdown from equity where run_id = r.run_id order by seq desc limit 1) as max_drawdown,
    case when r.phase in {_OVER} then
        (select reason from statuses where run_id = r.run_id and phase = r.phase order by seq desc limit 1)
    end as end_reason,
    (select nullif(c.body->>'by', '') from
        (select time, id from statuses where run_id = r.run_id order by seq limit 1) s
        join events e on e.time = s.time and e.id = s.id
        join commands c on c.command_id = e.body->>'command_id'
        order by c.stream_seq limit 1) as deployed_by
from runs r left join run_totals t on t.trader = r.trader and t.run_id = r.run_id"""  # noqa: S608 - fixed texts
_PHASES = "select phase, reason, time, recorded from statuses where run_id = $1 order by seq limit 200"
_MONTHS = (
    "select month, trades, wins, losses, pnl, r_sum from trade_months where trader = $1 and run_id = $2"
    " order by month"
)


async def runs(connection: Proxy, trader: str, *, cursor: str | None = None, limit: int = 100) -> RunsPage:
    """A page of the trader's runs, newest first."""
    where = Conditions()
    where.add("r.trader = ?", trader)
    if cursor is not None:
        moment, run_id = read_cursor(cursor, datetime, str)
        where.add("(coalesce(r.recorded_started, 'epoch'), r.run_id) < (?, ?)", moment, run_id)
    rows = await connection.fetch(
        f"{_RUN} where {where} order by began desc, r.run_id desc limit {int(limit) + 1}",
        *where.values,
    )
    page = rows[:limit]
    following = write_cursor(page[-1]["began"], page[-1]["run_id"]) if len(rows) > limit else None
    return RunsPage(runs=[_run(row) for row in page], next=following)


def _run(row: Record) -> RunRow:
    known = {name: row[name] for name in RunRow.model_fields}
    return RunRow.model_validate({**known, "terms": json.loads(row["terms"]) if row["terms"] else None})


async def run_answer(connection: Proxy, results: Results, run: Run) -> RunAnswer:
    """Everything about one run."""
    row = await connection.fetchrow(f"{_RUN} where r.run_id = $1", run.run_id)
    assert row is not None, "runs are never deleted"
    return RunAnswer(
        run=_run(row),
        statistics=(await results.standing(connection, run)).statistics,
        months=[MonthRow(**dict(month)) for month in await connection.fetch(_MONTHS, run.trader, run.run_id)],
        phases=[PhaseStep(**dict(step)) for step in await connection.fetch(_PHASES, run.run_id)],
    )

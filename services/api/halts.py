"""Halts with their story: who halted what and why, what was closed, when it was flat, who reset it and why.

Put together from what is recorded anyway: the guard's changes, the run's phases, its last trades.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from services.api.answers.records import TradeRow
from services.api.answers.state import LimitChange
from services.api.trade_pages import TradeFilter, trades

if TYPE_CHECKING:
    from services.api.ledger import Proxy

_SHOWN = 5
_CLOSED_LOOKED_AT = 50
_RESET = "reset: "
_CHANGES = (
    "select time, recorded, run_id, action, by, reason, new from limit_changes"
    " where trader = $1 and action in ('halt', 'reset') order by recorded desc, seq desc limit 40"
)
# With nothing deployed the trader alone latches, and says so as a change of phase between runs.
_BETWEEN_RUNS = f"""
select stood.time, stood.recorded, '' as run_id, stood.action, coalesce(asked.by, '') as by,
    case when stood.action = 'reset' then substr(stood.reason, {len(_RESET) + 1}) else stood.reason end as reason,
    '{{}}'::jsonb as new
from (select *, case when phase = 'HALTED' then 'halt' else 'reset' end as action from statuses
      where run_id = $2 and (phase = 'HALTED' or reason like '{_RESET}%') order by seq desc limit 40) as stood
left join lateral (
    select body ->> 'by' as by from commands
    where trader = $1 and verb = stood.action and received <= stood.recorded + interval '1 second'
    order by stream_seq desc limit 1) as asked on true"""  # noqa: S608 - fixed texts
_NEWS = """
select (select recorded from limit_changes where trader = $1 order by recorded desc, seq desc limit 1) as changed,
    (select max(last.recorded) from unnest($2::text[]) as run (id), lateral (
        select recorded from statuses where run_id = run.id order by seq desc limit 1) as last) as stood"""
_HALTED_AT = "select recorded from statuses where run_id = $1 and phase = 'HALTED' order by seq desc limit 1"


@dataclass(frozen=True, slots=True)
class Halt:
    """One halt. `recorded` is by the wall's clock, `time` by the run's; `flat_at` is when the run stood halted
    and flat, None before that or without a run; `reset` is the change that cleared it."""

    change: LimitChange
    closed: tuple[TradeRow, ...]
    flat_at: datetime | None
    reset: LimitChange | None


async def halts(connection: Proxy, trader: str) -> list[Halt]:
    """The trader's last halts, newest first."""
    rows = await connection.fetch(_CHANGES, trader)
    rows += await connection.fetch(_BETWEEN_RUNS, trader, f"desk.{trader}.command")
    changes = [
        LimitChange.model_validate({**dict(row), "old": {}, "new": json.loads(row["new"])}) for row in rows
    ]
    changes.sort(key=lambda change: change.recorded, reverse=True)
    found = []
    for change, reset in with_resets(changes)[:_SHOWN]:
        closed: tuple[TradeRow, ...] = ()
        flat_at = None
        if change.run_id:
            last = await trades(
                connection, TradeFilter(trader=trader, run_id=change.run_id), limit=_CLOSED_LOOKED_AT
            )
            closed = tuple(row for row in last.trades if row.exit_reason == "halted")
            flat_at = await connection.fetchval(_HALTED_AT, change.run_id)
        found.append(Halt(change, closed, flat_at, reset))
    return found


async def news(connection: Proxy, trader: str, run_id: str) -> str:
    """Something that differs whenever a limit, a halt or a phase has been recorded anew."""
    found = await connection.fetchrow(_NEWS, trader, [f"desk.{trader}.command", run_id])
    return "" if found is None else f"{found['changed'] or ''} {found['stood'] or ''}"


def with_resets(changes: Sequence[LimitChange]) -> list[tuple[LimitChange, LimitChange | None]]:
    """Each halt with the first reset after it; `changes` are halts and resets, newest first."""
    found: list[tuple[LimitChange, LimitChange | None]] = []
    later: LimitChange | None = None
    for change in changes:
        if change.action == "reset":
            later = change
        elif change.action == "halt":
            found.append((change, later))
    return found

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
from services.api.queries import TradeFilter, trades

if TYPE_CHECKING:
    from services.api.ledger import Proxy

_SHOWN = 5
_CLOSED_LOOKED_AT = 50
_CHANGES = (
    "select time, recorded, run_id, action, by, reason, '{}'::jsonb as old, new from limit_changes"
    " where trader = $1 and action in ('halt', 'reset') order by recorded desc, seq desc limit 40"
)
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
    changes = [
        LimitChange.model_validate({**dict(row), "old": {}, "new": json.loads(row["new"])}) for row in rows
    ]
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

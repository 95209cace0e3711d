"""What is open, as recorded: trades opened and not closed, what exits have left of them, last prices.

The trader's own word on whether anything is open (`holding`) stands in the deployment's status; this is
the recorder's view of it, a moment behind.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from services.api.answers.records import PositionRow
from services.shared.money import ZERO

if TYPE_CHECKING:
    from services.api.ledger import Proxy, Record

_OPENINGS = "select seq, time, body from events where run_id = $1 and type = 'trade.opened' order by seq desc limit $2"
_CLOSED = "select trade from trades where run_id = $1 and seq > $2"
_FILLS = (
    "select detail from orders where run_id = $1 and order_no > $2 and state = 'filled'"
    " and detail->>'purpose' <> 'entry' limit 5000"
)
_LAST_BAR = (
    "select time, bid_close, ask_close from bars where instrument = $1 and time <= $2"
    " order by time desc limit 1"
)
_LATEST_OPENINGS = 200
"""How far back openings are looked at. A position older than so many later ones is not found here."""


async def open_positions(connection: Proxy, run_id: str) -> list[PositionRow]:
    """The open positions of a run, newest first; costs the same however many trades it has had."""
    openings = await connection.fetch(_OPENINGS, run_id, _LATEST_OPENINGS)
    if not openings:
        return []
    closed = {row["trade"] for row in await connection.fetch(_CLOSED, run_id, openings[-1]["seq"])}
    opened = [(row, json.loads(row["body"])) for row in openings]
    still_open = [(row, body) for row, body in opened if body["trade"] not in closed]
    if not still_open:
        return []
    exits = await _exits(connection, run_id, min(body["order"] for _, body in still_open))
    return [await _position(connection, run_id, row, body, exits) for row, body in still_open]


async def _exits(connection: Proxy, run_id: str, after_order: int) -> dict[int, Decimal]:
    """What has been closed of each trade by orders later than `after_order`."""
    done: dict[int, Decimal] = {}
    for row in await connection.fetch(_FILLS, run_id, after_order):
        detail = json.loads(row["detail"])
        done[detail["trade"]] = done.get(detail["trade"], ZERO) + Decimal(detail["amount"])
    return done


async def _position(
    connection: Proxy, run_id: str, row: Record, body: dict[str, Any], exits: dict[int, Decimal]
) -> PositionRow:
    last = await connection.fetchval(
        "select time from equity where run_id = $1 order by seq desc limit 1", run_id
    )
    bar = await connection.fetchrow(_LAST_BAR, body["instrument"], last or row["time"])
    amount = Decimal(body["amount"])
    return PositionRow.model_validate(
        {
            **body,
            "run_id": run_id,
            "amount": amount,
            "open_amount": max(amount - exits.get(body["trade"], ZERO), ZERO),
            "bid": bar["bid_close"] if bar else None,
            "ask": bar["ask_close"] if bar else None,
            "priced_at": bar["time"] if bar else None,
        }
    )

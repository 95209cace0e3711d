"""What was recorded, read in pages: alerts, orders, limits' history, commands.

Trades are the business of `trade_pages`, runs of `run_records`.
Every page goes on from a key that an index has, so that the thousandth page costs what the first did.
Conditions are put together from fixed texts; values only ever travel as parameters.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from services.api.acknowledgements import FIRST
from services.api.answers.records import (
    AlertRow,
    AlertsPage,
    OrderRow,
    OrdersPage,
    OrderStep,
)
from services.api.answers.state import LimitChange
from services.api.cursor import read_cursor, write_cursor

if TYPE_CHECKING:
    from services.api.ledger import Proxy, Record


@dataclass(slots=True)
class Conditions:
    """Conditions and their values, numbered as they are added."""

    texts: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, text: str, *values: Any) -> None:
        """Add a condition; each `?` in `text` stands for the next of `values`."""
        for value in values:
            self.values.append(value)
            text = text.replace("?", f"${len(self.values)}", 1)
        self.texts.append(text)

    def given(self, text: str, value: Any) -> None:
        """Add a condition when there is a value for it."""
        if value is not None:
            self.add(text, value)

    def __str__(self) -> str:
        return " and ".join(self.texts) or "true"


async def alerts(
    connection: Proxy,
    trader: str,
    *,
    run_id: str | None = None,
    severity: str | None = None,
    acknowledged: bool | None = None,
    cursor: str | None = None,
    limit: int = 100,
) -> AlertsPage:
    """A page of alerts, newest first by the wall's clock: a replay's own times are years ago."""
    where = Conditions()
    where.add("trader = ?", trader)
    where.given("run_id = ?", run_id)
    where.given("severity = ?", severity)
    if acknowledged is not None:
        where.add("acknowledged_at is not null" if acknowledged else "acknowledged_at is null")
    if cursor is not None:
        moment, known = read_cursor(cursor, datetime, UUID)
        where.add("recorded <= ?", moment)
        where.add("(recorded, id) < (?, ?)", moment, known)
    rows = await connection.fetch(
        f"select * from alerts left join lateral {FIRST} as first on true"  # noqa: S608 - fixed texts
        f" where {where} order by recorded desc, id desc limit {int(limit) + 1}",
        *where.values,
    )
    page = rows[:limit]
    following = write_cursor(page[-1]["recorded"], page[-1]["id"]) if len(rows) > limit else None
    return AlertsPage(alerts=[AlertRow.model_validate(dict(row)) for row in page], next=following)


async def orders(
    connection: Proxy,
    run_id: str,
    *,
    order: int | None = None,
    denied: bool = False,
    cursor: str | None = None,
    limit: int = 100,
) -> OrdersPage:
    """A page of a run's orders with their lives, newest first; with `denied` only those that were refused.
    Orders count from 1 within a run."""
    only = " and state = 'denied'" if denied else ""
    where = Conditions()
    where.add("run_id = ?", run_id)
    where.given("order_no = ?", order)
    if cursor is not None:
        where.add("order_no < ?", *read_cursor(cursor, int))
    numbers = await connection.fetch(
        # A loose scan: one step of the index for each order, however many events it has.
        f"""with recursive known(order_no) as (
                (select order_no from orders where {where}{only} order by order_no desc limit 1)
                union all
                select (select o.order_no from orders o where o.run_id = $1 and o.order_no < known.order_no
                        {only}{" and false" if order is not None else ""}
                        order by o.order_no desc limit 1)
                from known where known.order_no is not null)
            select order_no from known where order_no is not null limit {int(limit) + 1}""",  # noqa: S608 - fixed texts
        *where.values,
    )
    wanted = [row["order_no"] for row in numbers[:limit]]
    following = write_cursor(wanted[-1]) if len(numbers) > limit else None
    return OrdersPage(orders=await order_lives(connection, run_id, wanted), next=following, run_id=run_id)


async def order_lives(connection: Proxy, run_id: str, wanted: Sequence[int]) -> list[OrderRow]:
    """These orders of a run with all that became of them, the highest number first."""
    rows = await connection.fetch(
        "select order_no, state, time, instrument, purpose, side, kind, amount, price, detail from orders"
        " where run_id = $1 and order_no = any($2::bigint[]) order by order_no desc, recorded, emitter, seq",
        run_id,
        wanted,
    )
    lives: dict[int, list[Record]] = {}
    for row in rows:
        lives.setdefault(row["order_no"], []).append(row)
    return [_order(run_id, number, life) for number, life in lives.items()]


def _order(run_id: str, number: int, life: Sequence[Record]) -> OrderRow:
    def first(name: str) -> Any:
        return next((row[name] for row in life if row[name] is not None), None)

    return OrderRow(
        run_id=run_id,
        order=number,
        state=life[-1]["state"],
        instrument=first("instrument"),
        purpose=first("purpose"),
        side=first("side"),
        kind=first("kind"),
        amount=first("amount"),
        price=first("price"),
        life=[
            OrderStep(state=row["state"], time=row["time"], detail=json.loads(row["detail"])) for row in life
        ],
    )


async def limit_history(connection: Proxy, trader: str, limit: int = 20) -> list[LimitChange]:
    """The last changes of limits, halts and resets."""
    rows = await connection.fetch(
        "select time, recorded, run_id, action, by, reason, old, new from limit_changes where trader = $1"
        " order by recorded desc, seq desc limit $2",
        trader,
        limit,
    )
    return [
        LimitChange.model_validate(
            {**dict(row), "old": json.loads(row["old"]), "new": json.loads(row["new"])}
        )
        for row in rows
    ]


async def command(connection: Proxy, command_id: str) -> tuple[Record | None, list[Record]]:
    """A command as stored, and what was said about it, oldest first."""
    stored = await connection.fetchrow(
        "select trader, verb, received from commands where command_id = $1 order by stream_seq desc limit 1",
        command_id,
    )
    said = await connection.fetch(
        "select trader, verb, state, reason, recorded from outcomes where command_id = $1"
        " order by recorded, seq limit 100",
        command_id,
    )
    return stored, said

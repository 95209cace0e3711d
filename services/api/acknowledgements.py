"""Who acknowledged which alert: written into the journal, read back from the recorded events.

Between an acknowledgement and its being recorded lies a moment in which only this process knows of it; `shown`
fills that in, so that nobody sees an alert come back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from services.api.answers.records import AlertRow
from services.api.journal import Journal
from services.api.ledger import Ledger
from services.api.line import Line
from services.api.problems import BusAway, NothingThere

if TYPE_CHECKING:
    from services.api.ledger import Proxy

ACTION = "alert.acknowledge"
MOST_COUNTED = 100
"""Nobody reads the difference between a hundred open alerts and more."""
_REMEMBERED = 2000

FIRST = f"""(select body ->> 'by' as acknowledged_by, recorded as acknowledged_at from events
    where type = 'action' and body ->> 'action' = '{ACTION}' and body ->> 'subject' = alerts.id::text
    order by recorded limit 1)"""  # noqa: S608 - a fixed text
"""The first acknowledgement of a row of `alerts`, as a lateral query with an index of its own."""
_KNOWN = f"select * from alerts left join lateral {FIRST} as first on true where id = any($1::uuid[])"  # noqa: S608
_OPEN = f"""
select id from alerts where trader = $1 and severity = 'CRITICAL' and not exists {FIRST}
order by recorded desc limit $2"""  # noqa: S608


class Acknowledgements:
    """Acknowledges alerts. `version` grows with each, so that pages know when to look again."""

    def __init__(self, line: Line, ledger: Ledger, journal: Journal) -> None:
        self._line = line
        self._ledger = ledger
        self._journal = journal
        self._fresh: OrderedDict[str, tuple[str, datetime]] = OrderedDict()
        self.version = 0

    async def acknowledge(self, ids: Sequence[UUID], *, by: str, role: str) -> list[AlertRow]:
        """Acknowledge alerts that nobody has yet; returns all of them as they are then, in no order.

        Raises NothingThere when one is unknown, BusError and BusAway while it cannot be written down,
        StorageUnavailable.
        """
        async with self._ledger.reading() as connection:
            rows = await connection.fetch(_KNOWN, ids)
        if len(rows) < len(set(ids)):
            raise NothingThere("there is no such alert")
        _ = self._line.bus  # raises where NATS is away: what is only in memory is not kept
        for row in self.shown([AlertRow.model_validate(dict(row)) for row in rows]):
            if row.acknowledged_at is None:
                self._write(row, by, role)
        return self.shown([AlertRow.model_validate(dict(row)) for row in rows])

    def _write(self, alert: AlertRow, by: str, role: str) -> None:
        if not self._journal.note(by, role, ACTION, subject=str(alert.id), detail=alert.code):
            raise BusAway("too much waits for NATS; nothing more is acknowledged until it is stored")
        self._fresh[str(alert.id)] = (by, datetime.now(UTC))
        self.version += 1
        while len(self._fresh) > _REMEMBERED:
            self._fresh.popitem(last=False)

    def shown(self, alerts: Sequence[AlertRow]) -> list[AlertRow]:
        """The alerts with what was acknowledged just now and is not recorded yet."""
        return [self._with_fresh(alert) for alert in alerts]

    def _with_fresh(self, alert: AlertRow) -> AlertRow:
        fresh = self._fresh.get(str(alert.id))
        if alert.acknowledged_at is not None or fresh is None:
            return alert
        return alert.model_copy(update={"acknowledged_by": fresh[0], "acknowledged_at": fresh[1]})

    async def open_critical(self, connection: Proxy, trader: str) -> int:
        """How many CRITICAL alerts nobody has acknowledged, as far as `MOST_COUNTED`."""
        rows = await connection.fetch(_OPEN, trader, MOST_COUNTED + len(self._fresh))
        return min(sum(str(row["id"]) not in self._fresh for row in rows), MOST_COUNTED)

"""What the guard said of a run's orders: how many it let go and denied, and why, as the recorder counts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.api.answers.state import DenialCount, VerdictCounts

if TYPE_CHECKING:
    from services.api.ledger import Proxy

_COUNTS = "select approved, denied from run_totals where trader = $1 and run_id = $2"
_REASONS = (
    "select code, orders, last_text from denials where trader = $1 and run_id = $2 order by orders desc, code"
)


async def verdicts(connection: Proxy, trader: str, run_id: str) -> VerdictCounts:
    """The counts of one run; an order denied for two reasons counts under both."""
    counted = await connection.fetchrow(_COUNTS, trader, run_id)
    reasons = await connection.fetch(_REASONS, trader, run_id)
    return VerdictCounts(
        approved=counted["approved"] if counted else 0,
        denied=counted["denied"] if counted else 0,
        reasons=[
            DenialCount(code=row["code"], orders=row["orders"], last_text=row["last_text"]) for row in reasons
        ],
    )

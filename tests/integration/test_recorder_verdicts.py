"""What the guard said of a run's orders, counted once however often and in whatever company it is delivered."""

from __future__ import annotations

from decimal import Decimal

from services.shared import events as ev
from tests.conftest import Database, NatsForTests
from tests.recorder_at_work import Emitting, all_recorded, equity, publish, recording

_COUNTS = "SELECT approved, denied, trader_events, last_seq FROM run_totals WHERE run_id = 'run-1'"
_REASONS = "SELECT code, orders, last_text FROM denials WHERE run_id = 'run-1' ORDER BY code"


def _approved(order: int) -> ev.OrderApproved:
    return ev.OrderApproved(order=order, step=order, digest="d")


def _denied(order: int, *codes: str) -> ev.OrderDenied:
    reasons = tuple(ev.Reason(code=code, text=f"{code} at {order}") for code in codes)
    return ev.OrderDenied(order=order, step=order, digest="d", reasons=reasons)


async def test_verdicts_are_counted_by_reason_and_a_repeat_counts_nothing(
    fresh_nats: NatsForTests, database: Database
) -> None:
    guard, trader = Emitting("main", "run-1", "guard"), Emitting("main", "run-1")
    first = guard.messages([_approved(1), _approved(2), _denied(3, "spread")])
    others = guard.messages([_denied(4, "spread", "positions"), _denied(5, "spread", "spread"), _approved(6)])
    marks = trader.messages([equity(step, Decimal(10000)) for step in range(3)])
    elsewhere = Emitting("main", "run-2", "guard").messages([_approved(1)])
    admin = await fresh_nats.connect("admin")
    api = await database.connect("api")
    try:
        async with recording(fresh_nats, database):
            for messages in (first, [*others, *marks, *elsewhere], [*first, *others], first[:1]):
                await publish(admin, messages)
                await all_recorded(admin)
        assert tuple(await api.fetchrow(_COUNTS) or ()) == (3, 3, 3, 3)
        reasons = [tuple(row) for row in await api.fetch(_REASONS)]
        assert reasons == [("positions", 1, "positions at 4"), ("spread", 3, "spread at 5")]
        assert await api.fetchval("SELECT approved FROM run_totals WHERE run_id = 'run-2'") == 1
        assert await api.fetchval("SELECT count(*) FROM dead_letters") == 0
    finally:
        await api.close()
        await admin.close()

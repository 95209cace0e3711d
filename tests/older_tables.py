"""The tables as older desks had them: each migration undone, on plain PostgreSQL and TimescaleDB's Apache edition."""

from __future__ import annotations

import asyncpg

UNDO = {
    "0007": ["SELECT 'only the full edition of TimescaleDB has anything of it'"],
    "0006": [
        "DROP TABLE service_states, stream_states, deployment_states, limit_states, part_versions CASCADE",
        "DROP TABLE desk_minutes, backups CASCADE",
        "DROP VIEW grafana.dead_letter_counts, grafana.dead_letter_list, grafana.verdicts, grafana.denial_reasons",
        "DROP VIEW grafana.limit_history, grafana.halts, grafana.halt_latencies",
        "DROP INDEX commands_that_block",
    ],
    "0005": [
        "DROP SCHEMA grafana CASCADE",
        "DROP TABLE trade_days, trade_rs",
        "DROP INDEX trades_by_run_time",
    ],
    "0004": [
        "DROP TABLE denials",
        "DROP INDEX alerts_by_id",
        "DROP INDEX alerts_critical",
        "DROP INDEX events_of_acknowledgements",
        "ALTER TABLE run_totals DROP COLUMN approved, DROP COLUMN denied",
    ],
    "0003": [
        "DROP TABLE trade_kinds, trade_months",
        "DROP INDEX trades_of_run_by_time",
        "DROP INDEX trades_of_run_by_pnl",
        "DROP INDEX trades_of_run_by_r",
        "DROP INDEX trades_of_trader_by_time",
        "DROP INDEX trades_of_trader_by_pnl",
        "DROP INDEX trades_of_trader_by_r",
        "DROP INDEX trades_by_number",
        "DROP INDEX orders_by_trade",
        "DROP INDEX orders_denied",
        "CREATE INDEX trades_by_trader ON trades (trader, trade_time)",
    ],
    "0002": ["ALTER TABLE run_totals DROP COLUMN longest_win_streak, DROP COLUMN longest_loss_streak"],
}
"""Statements by the revision that they undo. TimescaleDB drops one index of a hypertable at a time."""


async def back_to(owner: asyncpg.Connection[asyncpg.Record], revision: str) -> None:
    """The tables as they were at `revision`."""
    for later in sorted((name for name in UNDO if name > revision), reverse=True):
        for statement in UNDO[later]:
            await owner.execute(statement)
    await owner.execute("UPDATE alembic_version SET version_num = $1", revision)

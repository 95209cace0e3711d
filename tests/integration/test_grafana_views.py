"""Grafana's views on a long run: what its role may do, what a panel costs, in every edition of the database.

What grows with the number of trades must never be read whole, or a panel that is quick today is slow in a month.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from services.recorder.migrate import migrate_async
from tests.conftest import Database
from tests.grafana_panels import Shown, answer, boards, expanded, opened_on, queries, wrong
from tests.recorded_runs import START, record_run

TRADING = boards()["trading.json"]
GROWING = {"events", "trades", "equity", "bars", "equity_minute"}
"""Tables that are longer the longer a run is; orders too, but the runs made here have none."""
UNSAID = {"Time left", "Open position"}
"""Of a run that is over, and that no trader speaks of."""


async def test_grafanas_role_reads_its_views_and_nothing_else(database: Database) -> None:
    # A copied database has not its template's rights.
    await migrate_async(database.dsn("owner"), database.password("owner"))
    grafana = await database.connect("grafana")
    try:
        # Whatever the role begins with, whoever sends it SQL may set this, and must have won nothing.
        await grafana.execute("SET default_transaction_read_only = off")
        views = await grafana.fetch("SELECT viewname FROM pg_views WHERE schemaname = 'grafana'")
        assert {"runs", "results", "equity", "trades"} <= {row["viewname"] for row in views}
        for row in views:
            await grafana.execute(f"SELECT * FROM grafana.{row['viewname']} LIMIT 1")
            with pytest.raises(asyncpg.PostgresError):
                await grafana.execute(f"DELETE FROM grafana.{row['viewname']}")
        tables = await grafana.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert len(tables) > 20
        for statement in (
            *(f"SELECT 1 FROM public.{row['tablename']}" for row in tables),
            "INSERT INTO grafana.runs (run_id) VALUES ('x')",
            "CREATE TEMPORARY TABLE t (x int)",
            "CREATE TABLE public.t (x int)",
            "CREATE TABLE grafana.t (x int)",
            "CREATE VIEW grafana.v AS SELECT 1",
            "CREATE SCHEMA s",
            "SELECT pg_read_file('/etc/hostname')",
            "COPY (SELECT 1) TO PROGRAM 'true'",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await grafana.execute(statement)
    finally:
        await grafana.close()


async def test_no_panel_reads_from_end_to_end_what_grows(database: Database) -> None:
    """Of a run that is all there is in the tables, over all of its time: there reading everything looks cheapest."""
    owner = await database.connect("owner")
    try:
        await record_run(owner, "main", "long", trades=20_000, bars=True)
        await owner.execute("ANALYZE")
        chunks = await owner.fetch(
            "SELECT inhrelid::regclass::text AS chunk, inhparent::regclass::text AS table FROM pg_inherits"
        )
    finally:
        await owner.close()
    parts = {row["chunk"].rpartition(".")[2]: row["table"] for row in chunks}
    grafana = await database.connect("grafana")
    try:
        end = START + timedelta(minutes=200_000)
        for start in (START, end - timedelta(days=7), end - timedelta(hours=5)):
            shown = await opened_on(grafana, TRADING, Shown(start, end, {"trader": "main", "run": "long"}))
            for asked in queries(TRADING):
                for timescale in (True, False):
                    rows = await answer(grafana, asked, shown, timescale=timescale)
                    assert wrong(asked, rows) is None, asked.name
                    assert bool(rows) == (asked.panel not in UNSAID), asked.name
                plan = await grafana.fetchval(
                    f"EXPLAIN (FORMAT JSON) {expanded(asked, shown, timescale=True)}"
                )
                read = [
                    node["Relation Name"]
                    for node in _nodes(json.loads(plan))
                    if node["Node Type"] == "Seq Scan"
                ]
                assert not {parts.get(name, name) for name in read} & GROWING, asked.name
    finally:
        await grafana.close()


def _nodes(plan: Any) -> Iterator[dict[str, Any]]:
    if isinstance(plan, list):
        for each in plan:
            yield from _nodes(each)
    elif isinstance(plan, dict):
        if "Node Type" in plan:
            yield plan
        for each in plan.values():
            yield from _nodes(each)

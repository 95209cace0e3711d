"""*Risk*, *Operations* and the alert rules, asked as Grafana asks under its role, on what a real recorder wrote down.

A guard, a recorder and a trader's own messages: a run that lost nearly what it may, was halted and reset; letters
nobody can read; heartbeats. Then every panel must have something to draw, and a breach must pass its threshold.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import yaml

from services.shared import events as ev
from services.shared import subjects
from services.shared.bus import Bus
from services.shared.commands import HEARTBEAT, Deployment, Heartbeat
from tests.conftest import ROOT, Database, NatsForTests
from tests.grafana_panels import Asked, Shown, boards, expanded, queries, variables, wrong
from tests.guard_at_work import GuardProcess
from tests.recorder_at_work import TERMS, Emitting, all_recorded, publish, recording, trade, until

if TYPE_CHECKING:
    import asyncpg

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

D = Decimal
BOARDS = {name: board for name, board in boards().items() if name in ("risk.json", "operations.json")}
RULES = {
    rule["uid"]: rule
    for group in yaml.safe_load((ROOT / "grafana/provisioning/alerting/rules.yaml").read_text())["groups"]
    for rule in group["rules"]
}
_REASON = ev.Reason(code="spread", text="the spread is 6.1 times its median")


@dataclass
class Desk:
    """What was recorded, its database, and who may write more."""

    database: Database
    grafana: Connection
    owner: Connection
    admin: Bus
    shown: Shown

    async def rows(self, asked: Asked, *, timescale: bool = True) -> list[asyncpg.Record]:
        """The answer to a panel's or a variable's query."""
        return await self.grafana.fetch(expanded(asked, self.shown, timescale=timescale))

    async def firing(self, uid: str) -> dict[str, float]:
        """Each row of a rule's query by its labels, where the number is above the threshold."""
        (value, labels), rows = await self.rule(uid)
        (evaluator,) = (each["evaluator"] for each in RULES[uid]["data"][1]["model"]["conditions"])
        return {
            " ".join(row[label] for label in labels): float(row[value])
            for row in rows
            if row[value] is not None and row[value] > evaluator["params"][0]
        }

    async def rule(self, uid: str) -> tuple[tuple[str, list[str]], list[asyncpg.Record]]:
        """The name of the one column of numbers and of the labels, and the rows; in the shape Grafana demands."""
        rows = await self.grafana.fetch(RULES[uid]["data"][0]["model"]["rawSql"])
        assert rows, f"{uid}: no row"
        statement = await self.grafana.prepare(RULES[uid]["data"][0]["model"]["rawSql"])
        kinds = {column.name: column.type.name for column in statement.get_attributes()}
        labels = [name for name, kind in kinds.items() if kind in ("text", "varchar")]
        (value,) = set(kinds) - set(labels)
        assert kinds[value] in ("float8", "int8", "int4", "numeric"), kinds
        sets = [tuple(row[label] for label in labels) for row in rows]
        assert len(set(sets)) == len(sets), f"{uid}: two rows of one label set"
        return (value, labels), rows


def _lost(step: int, equity: str) -> ev.EquityMarked:
    return ev.EquityMarked(
        step=step, balance=D(equity), unrealised=D(0), equity=D(equity), peak=D(10000), drawdown=D(10000) - D(equity),
        max_drawdown=D(10000) - D(equity), open_risk=D(0),
    )  # fmt: skip


async def _a_desk(admin: Bus, trader: str) -> None:
    run = Emitting(trader, "run-1")
    guard = Emitting(trader, "run-1", "guard")
    await publish(
        admin,
        run.messages(
            [
                ev.StatusChanged(
                    phase="STARTING", previous="NOT_DEPLOYED", reason="", holding="flat", terms=TERMS
                ),
                ev.StatusChanged(phase="MONITORING", previous="STARTING", reason="", holding="flat"),
                _lost(1, "9990"),
                trade(1, D("-9.00")),
            ]
        ),
    )
    await publish(
        admin,
        guard.messages(
            [
                ev.OrderApproved(order=1, step=1, digest="d"),
                ev.OrderDenied(order=2, step=2, digest="e", reasons=(_REASON,)),
                ev.LimitsChanged(
                    action="halt", by="ann", reason="news", old={"halted": None}, new={"halted": "manual"}
                ),
                ev.LimitsChanged(
                    action="reset", by="bob", reason="read", old={"halted": "manual"}, new={"halted": None}
                ),
            ]
        ),
    )
    told = {"version": 1, "command_id": "h1", "by": "ann", "reason": "news"}
    await admin.store(subjects.command(trader, "halt"), json.dumps(told).encode())
    await publish(
        admin,
        run.messages(
            [
                ev.CommandOutcome(command_id="h1", verb="halt", state=state)
                for state in ("blocked", "flat", "done")
            ]
        ),
    )
    await admin.store(f"equity.{trader}", b"not an event")
    await _deployed(admin, trader, "MONITORING")


async def _deployed(admin: Bus, trader: str, phase: ev.Phase) -> None:
    deployment = Deployment(
        trader=trader,
        run_id="run-1",
        phase=phase,
        deployment_time=datetime.now(UTC),
        updated=datetime.now(UTC),
    )
    await admin.put(subjects.DEPLOYMENTS, trader, deployment.model_dump_json().encode())


@pytest.fixture
async def desk(fresh_nats: NatsForTests, database: Database) -> AsyncIterator[Desk]:
    """A desk that has been through something, its recorder and its guard at work."""
    admin = await fresh_nats.connect("admin")
    voice = await fresh_nats.connect("api")
    grafana, owner = await database.connect("grafana"), await database.connect("owner")
    guard = GuardProcess(fresh_nats, "main")
    await guard.start()
    now = datetime.now(UTC)
    shown = Shown(now - timedelta(hours=6), now + timedelta(minutes=10), {"trader": "main", "run": "run-1"})
    try:
        async with recording(fresh_nats, database):
            await _a_desk(admin, "main")
            await owner.execute("INSERT INTO backups VALUES (now(), 'desk.tar', 1000, 'ab', NULL)")
            await all_recorded(admin)

            async def written() -> bool:
                pulse = Heartbeat(
                    service="api", instance="1", version="1", time=datetime.now(UTC), state="ready"
                )
                await voice.publish(subjects.heartbeat("api", "1"), HEARTBEAT.dump_json(pulse))
                return bool(
                    await grafana.fetchval(
                        "SELECT (SELECT count(*) FROM grafana.limits WHERE counts AND used IS NOT NULL) > 0"
                        " AND (SELECT count(*) FROM grafana.services WHERE instance <> '') = 3"
                        " AND (SELECT count(*) FROM grafana.minutes WHERE measure = 'database_bytes') > 0"
                        " AND (SELECT sum(pending) FROM grafana.streams) = 0"
                    )
                )

            await until(written, "the desk's state is written down")
            yield Desk(database, grafana, owner, admin, shown)
    finally:
        await guard.kill()
        for connection in (grafana, owner):
            await connection.close()
        for bus in (voice, admin):
            await bus.close()


async def test_every_panel_has_something_to_draw_in_the_form_it_needs(desk: Desk) -> None:
    for board in BOARDS.values():
        for asked in variables(board):
            rows = await desk.rows(asked)
            assert rows, asked.name
            assert wrong(asked, rows) is None
        for asked in queries(board):
            for timescale in (True, False):
                rows = await desk.rows(asked, timescale=timescale)
                assert rows, asked.name
                assert wrong(asked, rows) is None, asked.name
                assert any(value is not None for row in rows for value in row.values()), asked.name


async def test_each_rules_answer_has_one_number_a_row_and_labels_of_text_and_all_is_quiet(desk: Desk) -> None:
    for uid in RULES:
        await desk.rule(uid)
    quiet = {uid: await desk.firing(uid) for uid in RULES}
    # The trader has never been heard here, and one letter could not be read.
    assert list(quiet.pop("desk-dead-letters")) == ["EVENTS"]
    assert set(quiet.pop("desk-silent")) <= {"trader"}
    assert not any(quiet.values()), quiet


async def test_a_run_near_its_limits_passes_the_thresholds_and_no_more_once_it_has_ended(desk: Desk) -> None:
    run = Emitting("main", "run-1")
    run.seq = 100
    # 3000 may be lost from the peak, and 100 in a day: ten times the risk of a trade.
    await publish(desk.admin, run.messages([_lost(2, "7590")]))

    async def near() -> bool:
        return bool(await desk.firing("desk-drawdown"))

    await until(near, "the drawdown shows")
    ((labels, percent),) = (await desk.firing("desk-drawdown")).items()
    assert labels == "main drawdown"
    assert percent == pytest.approx(2410 / 3000 * 100)
    assert list(await desk.firing("desk-daily-loss")) == ["main"]
    await _deployed(desk.admin, "main", "HALTED")

    async def halted() -> bool:
        phase = await desk.grafana.fetchval("SELECT phase FROM grafana.deployments WHERE trader = 'main'")
        return bool(phase == "HALTED")

    await until(halted, "the halt is written down")
    assert await desk.firing("desk-drawdown"), "a halt waits for a person"
    await _deployed(desk.admin, "main", "STOPPED")

    async def over() -> bool:
        return not await desk.firing("desk-drawdown") and not await desk.firing("desk-daily-loss")

    await until(over, "an ended run is at no limit")
    _, rows = await desk.rule("desk-drawdown")
    assert {row["used"] for row in rows} == {0}, "its row stays, so that the alarm ends"


async def test_silence_lag_letters_and_an_old_backup_pass_their_thresholds(desk: Desk) -> None:
    transaction = desk.owner.transaction()
    await transaction.start()
    try:
        asked = replace(desk, grafana=desk.owner)
        await desk.owner.execute(
            "UPDATE service_states SET heard = heard - interval '1 minute' WHERE service = 'risk'"
        )
        await desk.owner.execute(
            "UPDATE stream_states SET pending = 20001, stalled = 61 WHERE stream = 'COMMANDS'"
        )
        await desk.owner.execute("UPDATE backups SET finished = finished - interval '26 hours'")
        await desk.owner.execute("UPDATE dead_letters SET received = received - interval '2 hours'")
        assert "risk" in await asked.firing("desk-silent")
        assert "api" not in await asked.firing("desk-silent")
        assert await asked.firing("desk-lag") == {"COMMANDS": 20001}
        assert await asked.firing("desk-stalled") == {"COMMANDS": 61}
        assert list((await asked.firing("desk-no-backup")).values()) == [pytest.approx(26, abs=0.1)]
        assert await asked.firing("desk-dead-letters") == {}, "an hour later it is no news"
    finally:
        await transaction.rollback()


async def test_the_figures_of_risk_are_what_the_guard_was_told(desk: Desk) -> None:
    def asked(title: str) -> Asked:
        return next(each for each in queries(BOARDS["risk.json"]) if each.panel == title)

    async def only(title: str) -> Any:
        (row,) = await desk.rows(asked(title))
        return row[0]

    assert await only("Of the drawdown limit") == pytest.approx(10 / 3000)
    assert (await only("Approved"), await only("Denied")) == (1, 1)
    assert [tuple(row) for row in await desk.rows(asked("Why orders were denied"))] == [
        ("spread", 1, _REASON.text)
    ]
    (halt,) = await desk.rows(asked("Halts, and who reset them"))
    assert (halt["halted_by"], halt["reset_by"], halt["reset_reason"]) == ("ann", "bob", "read")
    (blocked,) = await desk.rows(asked("Halts: time until blocked"))
    assert blocked["Blocked"] == await only("Halt: slowest to block") >= 0
    limits = await desk.rows(asked("Limits and their use"))
    assert [row["limit"] for row in limits][:2] == ["drawdown", "drawdown_percent"]

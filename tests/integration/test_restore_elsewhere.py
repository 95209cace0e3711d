"""What a restore refuses, and that it makes the same desk on another server and out of an older desk's archive.

tests/containers/test_timescaledb.py runs these between TimescaleDB and plain PostgreSQL.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.backup import streams
from services.backup.taking import take
from services.recorder.migrate import newest
from services.shared import subjects
from services.shared.streams import prepare
from tests.archives import backup_settings, recorded
from tests.conftest import ROOT, Database, NatsForTests, PostgresForTests, migrate
from tests.guard_at_work import beat
from tests.older_tables import back_to
from tests.recorded_runs import record_run


def _restore(
    server: NatsForTests, database: Database, folder: Path, archive: str, *, given: Path | None = None
) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    (folder / "backups").mkdir(exist_ok=True)
    with (given or Path(os.devnull)).open("rb") as standard_input:
        return subprocess.run(
            [sys.executable, "-m", "services.backup", "restore", archive],
            cwd=ROOT,
            stdin=standard_input,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("DESK_")},
                "DESK_NATS_URL": server.url,
                "DESK_NATS_PASSWORD_FILE": str(server.password_file("admin")),
                "DESK_DATABASE_URL": database.dsn("owner"),
                "DESK_DATABASE_PASSWORD_FILE": str(database.password_file("owner")),
                "DESK_DATA_DIR": str(folder),
                "DESK_BACKUP_DIR": str(folder / "backups"),
            },
            capture_output=True,
            text=True,
            check=False,
        )


async def _value(database: Database, statement: str) -> Any:
    connection = await database.connect("owner")
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_a_restore_refuses_what_it_must_and_then_does_it_whole(
    nats_server: NatsForTests,
    fresh_nats: NatsForTests,
    fresh_postgres: PostgresForTests,
    database: Database,
    tmp_path: Path,
    trader_id: str,
) -> None:
    await recorded(nats_server, database, trader_id)
    made = await take(backup_settings(nats_server, database, tmp_path), datetime.now(UTC))
    folder, new = tmp_path / "new", Database(fresh_postgres, "desk")

    def refused(code: int, text: str, archive: Path = made) -> None:
        done = _restore(fresh_nats, new, folder, str(archive))
        assert (done.returncode, text in done.stderr) == (code, True), done.stderr

    damaged = tmp_path / "damaged.tar"
    whole = made.read_bytes()
    damaged.write_bytes(whole.replace(b'"schema_revision"', b'"schema_revisi0n"'))
    refused(2, "damaged.tar", damaged)

    admin = await fresh_nats.connect("admin")
    beating = asyncio.create_task(beat(admin, "main"))
    await asyncio.to_thread(refused, 4, "trader is running")
    beating.cancel()

    await admin.store("alert.main", b"{}")
    await asyncio.to_thread(refused, 4, "stream EVENTS has been used")
    await admin.js.delete_stream(subjects.EVENTS)
    await prepare(admin)

    await _value(new, "INSERT INTO runs (run_id, trader, phase, phase_seq) VALUES ('r', 't', 'p', 1)")
    await asyncio.to_thread(refused, 4, "table runs has been used")
    await _value(new, "DELETE FROM runs")

    done = await asyncio.to_thread(_restore, fresh_nats, new, folder, "-", given=made)
    assert done.returncode == 0, done.stderr
    assert (folder / "backups" / made.name).read_bytes() == whole
    assert await _value(new, f"SELECT count(*) FROM equity WHERE trader = '{trader_id}'") == 39
    kept = [
        json.loads(message.data)["seq"]
        async for message in admin.read(subjects.EVENTS, subject=f"equity.{trader_id}")
    ]
    assert sorted(kept) == list(range(1, 40))
    info = await admin.js.consumer_info(subjects.EVENTS, subjects.RECORDER)
    assert info.num_pending == (await admin.js.stream_info(subjects.EVENTS)).state.messages
    await admin.close()


async def _rows(database: Database) -> dict[str, list[str]]:
    """What is in every table but how backups went and what services say of themselves.

    The views of Grafana's role can be read.
    """
    owner, viewer = await database.connect("owner"), await database.connect("grafana")
    try:
        names = await owner.fetch(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            " AND relname NOT IN ('alembic_version', 'backups', 'service_states')"
        )
        assert await owner.fetchval("SELECT version_num FROM alembic_version") == newest()
        await viewer.fetch("SELECT * FROM grafana.runs")
        return {
            name: [row[0] for row in await owner.fetch(f"SELECT t::text FROM {name} AS t ORDER BY 1")]
            for (name,) in names
        }
    finally:
        await owner.close()
        await viewer.close()


@contextmanager
def _empty(postgres: PostgresForTests) -> Iterator[Database]:
    """A database on a server of many, without tables."""
    name = f"test_{secrets.token_hex(6)}"
    postgres.carry_out(f"CREATE DATABASE {name} OWNER owner")
    yield Database(postgres, name)
    postgres.carry_out(f"DROP DATABASE {name} WITH (FORCE)")


async def _forget(server: NatsForTests) -> None:
    admin = await server.connect("admin")
    for stream in streams.STREAMS:
        await admin.js.delete_stream(stream)
    await prepare(admin)
    await admin.close()


async def _restored(server: NatsForTests, database: Database, folder: Path, archive: Path) -> None:
    done = await asyncio.to_thread(_restore, server, database, folder, str(archive))
    assert done.returncode == 0, done.stderr


async def test_a_desk_moves_to_another_server_and_back(
    fresh_nats: NatsForTests,
    postgres: PostgresForTests,
    fresh_postgres: PostgresForTests,
    database: Database,
    tmp_path: Path,
) -> None:
    await recorded(fresh_nats, database, "main")
    owner = await database.connect("owner")
    await record_run(owner, "main", "run-2", trades=400)
    await owner.close()
    there = await _rows(database)
    away = Database(fresh_postgres, "desk")
    for number, (source, target) in enumerate([(database, away), (away, None)]):
        made = await take(backup_settings(fresh_nats, source, tmp_path), datetime.now(UTC))
        await _forget(fresh_nats)
        with _empty(postgres) as back:
            await _restored(fresh_nats, target or back, tmp_path / f"new-{number}", made)
            assert await _rows(target or back) == there
    assert len(there["trades"]) == 400
    assert len(there["equity"]) > 400


@pytest.mark.parametrize("revision", ["0001", "0002", "0004", "0006"])
async def test_an_older_desks_archive_gets_the_sums_that_newer_desks_keep(
    revision: str,
    fresh_nats: NatsForTests,
    postgres: PostgresForTests,
    database: Database,
    tmp_path: Path,
) -> None:
    """Also where somebody has started the new desk, which made the newest tables, and stopped it again."""
    owner = await database.connect("owner")
    await record_run(owner, "main", "run-1", trades=400)
    there = await _rows(database)
    await back_to(owner, revision)
    await owner.close()
    made = await take(backup_settings(fresh_nats, database, tmp_path), datetime.now(UTC))
    with _empty(postgres) as new:
        migrate(postgres, new.name)
        await _restored(fresh_nats, new, tmp_path / "new", made)
        assert await _rows(new) == there
    assert there["trade_rs"]

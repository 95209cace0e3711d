"""Backups on real servers: of whole desks as `desk up` starts them, and what the backup's login may do."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.backup import streams
from services.backup.archive import Archive
from services.backup.cut import Memory
from services.backup.taking import take
from services.shared import subjects
from services.shared.errors import BusError, Refused
from services.shared.streams import prepare
from tests.archives import backup_settings, recorded
from tests.conftest import ROOT, Database, NatsForTests
from tests.desk_process import DeskProcess, administering, desk, listening
from tests.hearing import until_step
from tests.recorder_at_work import Emitting, equity

WHOLE_DESK = pytest.mark.xdist_group("desk")


async def _events(running: DeskProcess, run_id: str) -> list[tuple[str, int]]:
    """Emitter and seq of every event that the streams of a desk hold of a run."""
    async with administering(running) as bus:
        kept = [
            json.loads(message.data)
            for stream in (subjects.EVENTS, subjects.MARKET)
            async for message in bus.read(stream)
        ]
    return [(said["emitter"], said["seq"]) for said in kept if said.get("run_id") == run_id]


def _report(running: DeskProcess, run_id: str) -> Any:
    """What the API makes of a run's rows, but for the wall's clock."""
    found = running.get(f"/api/metrics?run_id={run_id}")
    return {name: value for name, value in found.items() if name not in ("updated", "time")}


@WHOLE_DESK
@pytest.mark.timeout(900)
async def test_a_replay_backed_up_in_the_middle_ends_as_the_one_that_went_on(tmp_path: Path) -> None:
    with desk(tmp_path / "one", "--speed", "0") as one:
        one.cli("deploy", "--strategy", "donchian")
        async with listening(one) as client:
            await until_step(client, 700)
        archive = one.backed_up()
        run_id = one.until_finished(300)["run_id"]
        trades, report = one.trades(tmp_path / "one.csv"), _report(one, run_id)
    two = DeskProcess(tmp_path / "two", "--speed", "0")
    two.cli("restore", str(archive))
    two.start()
    try:
        status = two.until_finished(300)
        assert (status["run_id"], status["phase"]) == (run_id, "COMPLETED")
        assert two.trades(tmp_path / "two.csv") == trades
        assert _report(two, run_id) == report
        said = await _events(two, run_id)
        for emitter in {emitter for emitter, _ in said}:
            seqs = {seq for by, seq in said if by == emitter}
            assert seqs == set(range(1, len(seqs) + 1)), emitter
    finally:
        two.stop()
    assert trades.count(b"\n") > 100


def _has_no_secret(path: Path, secrets: Path) -> None:
    """Of those members that can be read; NATS packs its own in a form of its own."""
    texts = [found for each in secrets.iterdir() if len(found := each.read_bytes().strip()) > 20]
    assert len(texts) > 10
    with Archive(path) as archive:
        for part in archive.manifest.parts:
            content = b"".join(archive.read(part.name, decompress=part.name.endswith(".gz")))
            assert not [text for text in texts if text in content], part.name


@WHOLE_DESK
@pytest.mark.timeout(900)
async def test_a_desk_that_was_halted_with_a_run_behind_it_is_halted_when_restored(tmp_path: Path) -> None:
    with desk(tmp_path / "one", "--speed", "36000") as one:
        one.cli("deploy", "--strategy", "donchian")
        async with listening(one) as client:
            await until_step(client, 60)
        one.cli("halt", "--reason", "a fire", "--wait", "30")
        run_id = one.until_finished(60)["run_id"]
        trades, report = one.trades(tmp_path / "one.csv"), _report(one, run_id)
        risk = one.get("/api/risk")
        archive = one.backed_up()
        assert one.cli("restore", str(archive), check=False).returncode == 5  # it runs
        _has_no_secret(archive, one.folder / "secrets")
    again = one.cli("restore", str(archive), check=False)
    assert again.returncode == 4
    assert "empty" in again.stderr
    two = DeskProcess(tmp_path / "two", "--speed", "36000")
    two.cli("restore", str(archive))
    two.start()
    try:
        assert two.status()["halted"]
        assert two.cli("deploy", "--strategy", "donchian", check=False).returncode == 4
        assert two.trades(tmp_path / "two.csv") == trades
        assert _report(two, run_id) == report
        assert two.get("/api/risk")["history"] == risk["history"]
        two.cli("reset", "--reason", "it is out")
        two.cli("deploy", "--strategy", "donchian")
    finally:
        two.stop()


async def test_the_backups_login_reads_and_writes_down_how_it_went_and_can_do_nothing_else(
    fresh_nats: NatsForTests, database: Database, tmp_path: Path
) -> None:
    await recorded(fresh_nats, database, "main")
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "own.py").write_text("pass\n")
    path = await take(backup_settings(fresh_nats, database, tmp_path), datetime.now(UTC))
    with Archive(path) as archive:
        names = {part.name for part in archive.manifest.parts}
        assert archive.part("database/events.gz").count == 39
        assert archive.part("streams/EVENTS").count == 39
        assert b"".join(archive.read("strategies/own.py")) == b"pass\n"
    assert {"buckets/KV_snapshots", "buckets/KV_limits", "buckets/KV_deployments"} <= names
    assert not {name for name in names if "session" in name or "credential" in name or "secret" in name}
    connection = await database.connect("backup")
    row = await connection.fetchrow("SELECT name, bytes, problem FROM backups")
    assert row is not None
    assert (row["name"], row["bytes"], row["problem"]) == (path.name, path.stat().st_size, None)
    for refused in ("DELETE FROM backups", "UPDATE events SET type = 'x'", "INSERT INTO runs DEFAULT VALUES"):
        with pytest.raises(Exception, match="permission denied"):
            await connection.execute(refused)
    await connection.close()
    bus = await fresh_nats.connect("backup")
    with pytest.raises(BusError):
        await bus.store("command.main.halt", b"{}", timeout=0.5)
    with pytest.raises(BusError):
        await bus.request("$JS.API.STREAM.DELETE.EVENTS", b"", timeout=0.5)
    await bus.close()


async def test_a_replay_that_stands_still_is_not_backed_up_and_the_database_says_why(
    fresh_nats: NatsForTests, database: Database, tmp_path: Path
) -> None:
    admin = await fresh_nats.connect("admin")
    memory = {"number": 1, "run": {"run_id": "run-1", "speed": 0.0, "seqs": {"trader": 250}}}
    await admin.put(subjects.SNAPSHOTS, "trader.main", json.dumps(memory).encode())
    settings = backup_settings(fresh_nats, database, tmp_path)
    with pytest.raises(Refused, match="stands still"):
        await take(settings, datetime.now(UTC), patience=0.2)
    assert [path.name for path in settings.backup_dir.iterdir()] == [".lock"]
    taking = asyncio.create_task(take(settings, datetime.now(UTC)))
    memory["number"] = 2
    while not taking.done():
        await admin.put(subjects.SNAPSHOTS, "trader.main", json.dumps(memory).encode())
    assert taking.result().is_file()
    connection = await database.connect("backup")
    ends = await connection.fetch("SELECT problem FROM backups ORDER BY finished")
    assert ["stands still" in (row["problem"] or "") for row in ends] == [True, False]
    await connection.close()
    await admin.close()


async def test_what_the_memory_does_not_know_is_deleted_beyond_the_fence_and_can_be_said_again(
    fresh_nats: NatsForTests,
) -> None:
    admin = await fresh_nats.connect("admin")
    say = Emitting("main", "run-1")
    said = say.messages(equity(n, Decimal(n)) for n in range(1, 21))

    async def store(number: int) -> None:
        subject, data = said[number - 1]
        await admin.store(subject, data, msg_id=f"id-{number}")

    async def left() -> list[int]:
        return [json.loads(message.data)["seq"] async for message in admin.read(subjects.EVENTS)]

    for number in range(1, 21):
        await store(number)
    pieces: list[bytes] = []
    about = await streams.snapshot(admin, subjects.EVENTS, pieces.append)
    await admin.js.delete_stream(subjects.EVENTS)
    await streams.restore(admin, subjects.EVENTS, about, pieces)
    memory = {"main": Memory(run_id="run-1", seqs={"trader": 15})}
    assert await streams.cut(admin, subjects.EVENTS, 10, memory) == 5
    await prepare(admin)
    assert await left() == list(range(1, 16))
    for number in range(16, 21):
        await store(number)
    assert await left() == list(range(1, 21))
    assert await admin.last_sequence(subjects.EVENTS) == 25  # no sequence is used twice
    await store(20)
    assert await admin.last_sequence(subjects.EVENTS) == 25  # and repeats are told again
    window = (await admin.js.stream_info(subjects.EVENTS)).config.duplicate_window
    assert window == 120
    await admin.close()


def test_unknown_words_are_answered_with_the_usage(tmp_path: Path) -> None:
    for words in (["sing"], ["restore"], ["verify", "a", "b"]):
        done = _run(tmp_path, words)
        assert done.returncode == 2
        assert "usage:" in done.stderr
    assert _run(tmp_path, ["list"]).stdout == "no backup yet\n"


def _run(folder: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.backup", *words],
        cwd=ROOT,
        env={
            **os.environ,
            "DESK_NATS_PASSWORD_FILE": "none",
            "DESK_DATABASE_PASSWORD_FILE": "none",
            "DESK_BACKUP_DIR": str(folder),
        },
        capture_output=True,
        text=True,
        check=False,
    )

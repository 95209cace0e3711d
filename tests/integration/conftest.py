"""What several modules start: an API for all tests of a module, one of a test's own, a guard, a desk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from services.risk.guard import Guard
from tests.api_process import ApiProcess, SharedApi, api_process, shared_api
from tests.conftest import Database, NatsForTests, PostgresForTests
from tests.guard_at_work import GuardProcess, Wired
from tests.guard_facts import Desk, WireTrader
from tests.launched_desk import Up, desk_up

if TYPE_CHECKING:
    import asyncpg

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@pytest.fixture(scope="module")
def service(
    nats_server: NatsForTests,
    postgres: PostgresForTests,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SharedApi]:
    """The API of a module."""
    with shared_api(nats_server, postgres, migrated_template, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture
async def api(service: SharedApi, trader_id: str) -> AsyncIterator[ApiProcess]:
    """It, asked about this test's trader."""
    async with service.asked(trader_id) as asked:
        yield asked


@pytest.fixture
async def recorder(service: SharedApi) -> AsyncIterator[Connection]:
    """The recorder's way into its database."""
    connection = await service.database.connect("recorder")
    yield connection
    await connection.close()


@pytest.fixture
async def wired(nats_server: NatsForTests, trader_id: str, connect: Any) -> AsyncIterator[Wired]:
    """A guard process of a trader of its own, in lockstep."""
    guard = GuardProcess(nats_server, trader_id)
    await guard.start()
    wired = Wired(
        guard,
        await connect("trader"),
        await connect("operator"),
        trader_id,
        WireTrader(trader_id, run_id=f"run-{trader_id}"),
        Desk(guard=Guard(), run_id=f"run-{trader_id}"),
    )
    yield wired
    if guard.process is not None and guard.process.returncode is None:
        await wired.change({})  # it may still be starting
        assert await guard.stop() == 0


@pytest.fixture
async def own_api(
    nats_server: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> AsyncIterator[ApiProcess]:
    """An API of this test's own."""
    async with api_process(nats_server, database, trader_id, tmp_path) as process:
        yield process


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One desk for the tests that only look, or whose harm is mended by itself. Its path has a space."""
    with desk_up(tmp_path_factory.mktemp("a desk") / "data of mine") as up:
        yield up

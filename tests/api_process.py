"""A real API process for a test: started on real NATS and PostgreSQL, asked over HTTP, stopped in order."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from services.api.service import VIEWER_TOKEN
from services.launcher.ports import free_port
from tests.conftest import ROOT, Database, NatsForTests, PostgresForTests
from tests.looking import until

PATIENCE = 60.0


@dataclass
class ApiProcess:
    """A running `python -m services.api`: `client` carries the operator's token, `stranger` none."""

    process: subprocess.Popen[bytes]
    url: str
    token: str
    trader: str
    log: Path
    client: httpx.AsyncClient
    stranger: httpx.AsyncClient
    mine: dict[str, str]

    @property
    def viewer_token(self) -> str:
        """The viewer's token."""
        return (self.log.parent / VIEWER_TOKEN).read_text().strip()

    async def get(self, path: str, **parameters: str | int | float) -> httpx.Response:
        """Ask about this test's trader."""
        return await self.client.get(path, params={**self.mine, **parameters})

    async def post(self, path: str, body: object = None, **parameters: str | int | float) -> httpx.Response:
        """Have this test's trader do something."""
        return await self.client.post(path, params={**self.mine, **parameters}, json=body)

    async def until(self, holds: Callable[[], Awaitable[bool]], patience: float = PATIENCE) -> None:
        """Wait until something holds; fails with the API's log when it does not in time."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if await holds():
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"not in {patience} s; the log ends:\n{self.log.read_text()[-3000:]}")

    async def stop(self) -> float:
        """Stop it as the launcher does; returns the seconds it took. Its exit code must be 0."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(self.process.wait, 10)
        assert code == 0, self.log.read_text()[-3000:]
        return time.monotonic() - began


def _start(
    nats: NatsForTests, database: Database, trader: str, folder: Path, settings: dict[str, str]
) -> tuple[subprocess.Popen[bytes], str, str, Path]:
    """The process, its address, its token, its log. A folder that has tokens from before keeps them."""
    token_file = folder / "token"
    for file in (token_file, folder / VIEWER_TOKEN):
        if not file.exists():
            file.write_text(secrets.token_urlsafe(24) + "\n")
    token = token_file.read_text().strip()
    port = free_port()
    log = folder / "api.log"
    environment = {
        **os.environ,
        "DESK_NATS_URL": nats.url,
        "DESK_NATS_PASSWORD_FILE": str(nats.password_file("api")),
        "DESK_DATABASE_URL": database.dsn("api"),
        "DESK_DATABASE_PASSWORD_FILE": str(database.password_file("api")),
        "DESK_TOKEN_FILE": str(token_file),
        "DESK_API_PORT": str(port),
        "DESK_TRADER": trader,
        **settings,
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.api"], cwd=ROOT, env=environment, stdout=out, stderr=out
        )
    return process, f"http://127.0.0.1:{port}", token, log


@asynccontextmanager
async def _asked(
    process: subprocess.Popen[bytes], url: str, token: str, trader: str, log: Path
) -> AsyncIterator[ApiProcess]:
    """The process with clients of the test's own loop."""
    key = {"Authorization": f"Bearer {token}"}
    mine = {"trader": trader}
    async with (
        httpx.AsyncClient(base_url=url, headers=key, timeout=30) as client,
        httpx.AsyncClient(base_url=url, timeout=30) as stranger,
    ):
        yield ApiProcess(process, url, token, trader, log, client, stranger, mine)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


@asynccontextmanager
async def api_process(
    nats: NatsForTests,
    database: Database,
    trader: str,
    tmp_path: Path,
    *,
    ready: bool = True,
    **settings: str,
) -> AsyncIterator[ApiProcess]:
    """The API over these servers, for this trader; waits until it is ready unless told not to."""
    process, url, token, log = _start(nats, database, trader, tmp_path, settings)
    try:
        async with _asked(process, url, token, trader, log) as api:
            await api.until(lambda: _answers(api, "/readyz" if ready else "/livez"))
            yield api
            if process.poll() is None:
                await api.stop()
    finally:
        _end(process)


@dataclass
class SharedApi:
    """One API process for the tests of a module, which keep apart by trader."""

    process: subprocess.Popen[bytes]
    url: str
    token: str
    log: Path
    database: Database

    def asked(self, trader: str) -> AbstractAsyncContextManager[ApiProcess]:
        """The process as a test of this trader sees it: `api.mine` are the parameters that say so."""
        return _asked(self.process, self.url, self.token, trader, self.log)


@contextmanager
def shared_api(
    nats: NatsForTests, postgres: PostgresForTests, template: str, folder: Path
) -> Iterator[SharedApi]:
    """A ready API process over a database of its own."""
    name = f"test_{secrets.token_hex(6)}"
    postgres.carry_out(f"CREATE DATABASE {name} TEMPLATE {template} OWNER owner")
    database = Database(postgres, name)
    process, url, token, log = _start(nats, database, "main", folder, {})
    try:
        until(
            lambda: _ready(url),
            "the API is ready",
            within=PATIENCE,
            told=lambda: log.read_text()[-3000:],
            over=lambda: process.poll() is not None,
        )
        yield SharedApi(process, url, token, log, database)
    finally:
        _end(process)
        postgres.carry_out(f"DROP DATABASE {name} WITH (FORCE)")


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


async def _answers(api: ApiProcess, path: str) -> bool:
    assert api.process.poll() is None, api.log.read_text()[-3000:]
    try:
        return (await api.stranger.get(path)).status_code == 200
    except httpx.TransportError:
        return False

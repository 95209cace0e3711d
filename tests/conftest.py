"""Real NATS and PostgreSQL servers for the tests, from the launcher's own code.

`nats_server` and `postgres` are one server for a whole session (one a process under xdist): tests keep
apart by the trader's id (`trader_id`) and by a database each (`database`). `fresh_nats` is a server of the
test's own, for tests that stop, kill or fill it. What the machine lacks is a skip with the reason on a
person's machine and a failure where CI=true.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import asyncpg
import hypothesis
import pytest

from services.launcher.nats_server import NatsServer
from services.launcher.ports import free_port
from services.launcher.postgres import Postgres
from services.launcher.process import StartFailed
from services.setup.roles import ensure_roles
from services.shared import subjects
from services.shared.bus import Bus
from services.shared.database_roles import DATABASE, ROLES, SUPERUSER
from services.shared.errors import InvalidInput
from services.shared.streams import prepare

ROOT = Path(__file__).parent.parent
CI = os.environ.get("CI") == "true"
TEMPLATE = "desk_template"

T = TypeVar("T")

# No timing in a test: a machine with other work would miss the 200 ms that hypothesis allows an example.
hypothesis.settings.register_profile("desk", deadline=None)
hypothesis.settings.load_profile("desk")


def lacking(reason: str) -> NoReturn:
    """The machine lacks something a test needs: skip, and in CI fail."""
    if CI:
        pytest.fail(f"CI must have it: {reason}", pytrace=False)
    pytest.skip(reason)


ANOTHER_SERVER = os.environ.get("DESK_TEST_POSTGRES")
"""`host:port` of a server to test on instead of one of our own; `DESK_TEST_POSTGRES_PASSWORD` is the
superuser's password. So the same tests are run on TimescaleDB (tests/containers/test_timescaledb.py)."""
_ANOTHER_PASSWORD = os.environ.get("DESK_TEST_POSTGRES_PASSWORD", "")
WITHOUT_DOCKER = bool(os.environ.get("DESK_WITHOUT_DOCKER"))
"""Set where there can be no Docker at all: the tests of containers are left out then, and it is said."""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out what the machine cannot have, rather than count it as anything."""
    return True if WITHOUT_DOCKER and collection_path == ROOT / "tests" / "containers" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what no run of these tests has shown."""
    if WITHOUT_DOCKER:
        terminalreporter.write_line(
            "NOT TESTED: containers, for DESK_WITHOUT_DOCKER is set", red=True, bold=True
        )
    else:
        terminalreporter.write_line(
            "containers were started without grafana/grafana, whose image is not needed"
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """In CI no skip counts as a pass, whoever skips."""
    report = yield
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where CI=true: {item.nodeid}: {call.excinfo and call.excinfo.value}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """The same for a module that skips as a whole."""
    report = yield
    if CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped where CI=true: {collector.nodeid}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """What a failed test left open goes with it: its traceback holds it, and whose test is running when that is let
    go would be blamed."""
    failed_before = item.session.testsfailed
    ended = yield
    if item.session.testsfailed > failed_before:
        for name in ("last_exc", "last_type", "last_value", "last_traceback"):
            vars(sys).pop(name, None)
        with warnings.catch_warnings(action="ignore"):
            gc.collect()
    return ended


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of its own, beside the test's."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


class NatsForTests(NatsServer):
    """A NATS server with its streams made: `.url`, `.password(user)`, `.password_file(user)`, `connect`."""

    async def connect(self, user: str) -> Bus:
        """A connection as one of `subjects.USERS`; the caller closes it."""
        return await Bus.connect(self.url, user=user, password=self.password(user))

    def password_file(self, user: str) -> Path:
        """The user's password in a file, as services want it."""
        path = self.directory / f"{user}.password"
        path.touch(mode=0o600)
        path.write_text(self.password(user))
        return path

    def freeze(self) -> None:
        """Stop the process where it stands. It may answer until it does, so that is waited for."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def thaw(self) -> None:
        """Have a frozen process go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def prepare(self) -> None:
        """Make the streams, buckets and consumers."""

        async def work() -> None:
            bus = await self.connect("admin")
            await prepare(bus)
            await bus.close()

        run_apart(work())


def _new_nats(directory: Path, sync_interval: str = "always") -> NatsForTests:
    passwords = {user.name: secrets.token_urlsafe(16) for user in subjects.USERS}
    server = NatsForTests(directory, port=free_port(), passwords=passwords, sync_interval=sync_interval)
    try:
        server.start()
    except InvalidInput as error:
        lacking(str(error))
    server.prepare()
    return server


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsForTests]:
    """The session's NATS server. Shared: use `trader_id` for subjects and keys."""
    server = _new_nats(tmp_path_factory.mktemp("nats"))
    yield server
    server.stop()


@pytest.fixture
def fresh_nats(tmp_path: Path) -> Iterator[NatsForTests]:
    """A NATS server of the test's own, empty; it may be stopped, killed and started again."""
    server = _new_nats(tmp_path / "nats")
    yield server
    server.stop()


@pytest.fixture
def trader_id() -> str:
    """A trader that no other test has."""
    return f"t{secrets.token_hex(5)}"


class PostgresForTests(Postgres):
    """A PostgreSQL server: `.dsn(role, database)`, `.password(role)`, `.password_file(role)`."""

    def password_file(self, role: str) -> Path:
        """The role's password in a file, as services want it."""
        path = self.directory.parent / f"{role}.password"
        path.touch(mode=0o600)
        path.write_text(self.password(role))
        return path

    def carry_out(self, *statements: str, database: str = "postgres") -> None:
        """Run statements as the superuser."""

        async def work() -> None:
            dsn = self.dsn(SUPERUSER, database)
            connection = await asyncpg.connect(dsn, password=self.password(SUPERUSER))
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        run_apart(work())


def _new_postgres(directory: Path) -> PostgresForTests:
    passwords = {role: secrets.token_urlsafe(16) for role in (*ROLES, SUPERUSER)}
    server = PostgresForTests(
        directory, port=free_port(), passwords=passwords, max_connections=150, durable=False
    )
    try:
        server.start(patience=60)
    except InvalidInput as error:
        lacking(str(error))
    return server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresForTests]:
    """The session's PostgreSQL server, with the roles and an empty database `desk`."""
    # Not pytest's own folder: a run as root hands the server to another user, who must get there.
    with tempfile.TemporaryDirectory(prefix="desk-postgres-", ignore_cleanup_errors=True) as folder:
        make = _new_postgres if ANOTHER_SERVER is None else _another_postgres
        server = make(Path(folder) / "postgres")
        yield server
        server.stop()


def _another_postgres(directory: Path) -> PostgresForTests:
    host, _, port = str(ANOTHER_SERVER).rpartition(":")
    passwords = {role: secrets.token_urlsafe(16) for role in ROLES} | {SUPERUSER: _ANOTHER_PASSWORD}
    run_apart(ensure_roles(f"{host}:{port}", [_ANOTHER_PASSWORD], passwords))
    server = PostgresForTests(directory, host=host, port=int(port), passwords=passwords)
    server.carry_out(*(f"ALTER ROLE {role} CONNECTION LIMIT -1" for role in ROLES))
    return server


@pytest.fixture
def fresh_postgres() -> Iterator[PostgresForTests]:
    """A PostgreSQL server of the test's own, `desk` migrated; it may be stopped, killed and started again."""
    with tempfile.TemporaryDirectory(prefix="desk-postgres-", ignore_cleanup_errors=True) as folder:
        server = _new_postgres(Path(folder) / "postgres")
        migrate(server, DATABASE)
        yield server
        server.stop()


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database of the test's own."""

    server: PostgresForTests
    name: str

    def dsn(self, role: str) -> str:
        """Where and as whom to connect; without a password."""
        return self.server.dsn(role, self.name)

    def password(self, role: str) -> str:
        """The role's password."""
        return self.server.password(role)

    def password_file(self, role: str) -> Path:
        """The role's password in a file."""
        return self.server.password_file(role)

    async def connect(self, role: str) -> asyncpg.Connection[asyncpg.Record]:
        """A connection; the caller closes it."""
        return await asyncpg.connect(self.dsn(role), password=self.password(role))


def migrate(server: PostgresForTests, database: str) -> None:
    """Run the recorder's migrations on a database, as the launcher does."""
    done = subprocess.run(
        [sys.executable, "-m", "services.recorder", "migrate"],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("DESK_")},
            "DESK_DATABASE_URL": server.dsn("owner", database),
            "DESK_DATABASE_PASSWORD_FILE": str(server.password_file("owner")),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StartFailed(f"the migrations ended with code {done.returncode}: {done.stderr[-2000:]}")


@pytest.fixture(scope="session")
def migrated_template(postgres: PostgresForTests) -> str:
    """The name of a migrated, empty database that others are copied from."""
    postgres.carry_out(f"CREATE DATABASE {TEMPLATE} OWNER owner")
    migrate(postgres, TEMPLATE)
    return TEMPLATE


@pytest.fixture
def database(postgres: PostgresForTests, migrated_template: str) -> Iterator[Database]:
    """A migrated database of the test's own, dropped after it."""
    name = f"test_{secrets.token_hex(6)}"
    postgres.carry_out(f"CREATE DATABASE {name} TEMPLATE {migrated_template} OWNER owner")
    yield Database(postgres, name)
    postgres.carry_out(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def connect(nats_server: NatsForTests) -> AsyncIterator[Any]:
    """`await connect("trader")`: connections to the session's server, closed after the test."""
    opened: list[Bus] = []

    async def open_one(user: str, server: NatsServer = nats_server) -> Bus:
        bus = await Bus.connect(server.url, user=user, password=server.password(user))
        opened.append(bus)
        return bus

    yield open_one
    for bus in opened:
        await bus.close()


@pytest.fixture(autouse=True)
def _no_desk_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may find the person's own desk through the environment."""
    for name in [name for name in os.environ if name.startswith("DESK_")]:
        monkeypatch.delenv(name)

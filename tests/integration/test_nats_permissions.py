"""Who may publish and hear what: the whole matrix of users and subjects, tried on a real server.

What is expected is written down here by hand, not taken from `subjects`: a right that somebody adds there
must be added here too. The configuration is the one that containers get.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import IO

import pytest

from services.launcher.nats_server import binary
from services.launcher.ports import free_port
from services.setup.vault import HOLDERS, Vault
from services.shared import subjects
from services.shared.bus import Bus
from services.shared.nats_configuration import Login
from services.shared.streams import prepare

USERS = ("admin", "trader", "risk", "recorder", "api", "backup", "operator")
EVERYBODY = frozenset(USERS)

# --- who may publish; besides the admin, who makes the streams and may everything
PUBLISH: dict[str, set[str]] = {
    "trade.main.opened": {"trader"},
    "trade.main.closed": {"trader"},
    "adjustment.main": {"trader"},
    "order.main.intended": {"trader"},
    "order.main.accepted": {"trader"},
    "order.main.filled": {"trader"},
    "order.main.rejected": {"trader"},
    "order.main.cancelled": {"trader"},
    "order.main.approved": {"risk"},
    "order.main.denied": {"risk", "trader"},
    "limits.main": {"risk"},
    "equity.main": {"trader"},
    "status.main": {"trader"},
    "outcome.main": {"trader", "risk"},
    "alert.main": {"trader", "risk", "api"},
    "action.main": {"api"},
    "signal.main": {"api", "operator"},
    "market.EURUSD.bar": {"trader"},
    "market.EURUSD.quote": {"trader"},
    "risk.main.check": {"trader"},
    "command.main.deploy": {"risk", "api", "operator"},
    "command.main.pause": {"risk", "api", "operator"},
    "command.main.resume": {"risk", "api", "operator"},
    "command.main.stop": {"risk", "api", "operator"},
    "command.main.halt": {"risk", "api", "operator"},
    "command.main.reset": {"risk", "api", "operator"},
    "command.main.anything": {"api", "operator"},
    "control.main.deploy": {"api", "operator"},
    "control.main.limits": {"api", "operator"},
    "heartbeat.trader.1": {"trader"},
    "heartbeat.standby.1": {"trader"},
    "heartbeat.risk.1": {"risk"},
    "heartbeat.recorder.1": {"recorder"},
    "heartbeat.api.1": {"api"},
    "$SRV.PING": {"operator"},
    "anything.else": set(),
    # a user's inbox is written to by who answers its requests
    "_INBOX_operator.x.y": {"trader", "risk"},
    "_INBOX_api.x.y": {"trader", "risk"},
    "_INBOX_trader.x.y": {"trader", "risk"},
    "_INBOX_admin.x.y": set(),
    # buckets
    "$KV.deployments.main": {"trader"},
    "$KV.snapshots.main": {"trader", "risk"},
    "$KV.leases.trader.main": {"trader"},
    "$KV.limits.main": {"risk"},
    "$KV.credentials.main": set(),
    "$KV.sessions.x": {"api"},
    # making, changing and emptying what streams and consumers there are
    "$JS.API.STREAM.CREATE.X": set(),
    "$JS.API.STREAM.UPDATE.EVENTS": set(),
    "$JS.API.STREAM.DELETE.EVENTS": set(),
    "$JS.API.STREAM.PURGE.EVENTS": {"recorder"},
    "$JS.API.STREAM.PURGE.COMMANDS": {"recorder"},
    "$JS.API.STREAM.PURGE.KV_snapshots": set(),
    "$JS.API.STREAM.MSG.DELETE.EVENTS": set(),
    "$JS.API.STREAM.RESTORE.EVENTS": set(),
    "$JS.API.STREAM.INFO.KV_credentials": set(),
    "$JS.API.STREAM.INFO.EVENTS": {"trader", "risk", "recorder", "api", "backup"},
    "$JS.API.STREAM.SNAPSHOT.EVENTS": {"backup"},
    "$JS.API.STREAM.SNAPSHOT.KV_limits": {"backup"},
    "$JS.API.STREAM.SNAPSHOT.KV_credentials": set(),
    "$JS.API.STREAM.SNAPSHOT.KV_sessions": set(),
    "$JS.SNAPSHOT.ACK.EVENTS.x.1.1": {"backup"},
    "$JS.API.STREAM.NAMES": set(),
    "$JS.API.CONSUMER.CREATE.EVENTS": set(),
    "$JS.API.CONSUMER.CREATE.EVENTS.x.trade.main.closed": set(),
    "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.x": set(),
    "$JS.API.CONSUMER.DELETE.EVENTS.recorder": set(),
    "$JS.API.CONSUMER.MSG.NEXT.EVENTS.recorder": {"recorder"},
    "$JS.ACK.EVENTS.recorder.1.1.1.1.0": {"recorder"},
    # reading a stream or a bucket by sequence or key
    "$JS.API.DIRECT.GET.EVENTS": {"trader", "risk", "recorder", "api"},
    "$JS.API.DIRECT.GET.COMMANDS": {"trader", "risk", "recorder", "api"},
    "$JS.API.DIRECT.GET.MARKET": {"risk", "recorder", "api"},
    "$JS.API.DIRECT.GET.KV_credentials.$KV.credentials.main": set(),
    "$JS.API.DIRECT.GET.KV_sessions.$KV.sessions.x": {"api"},
    "$JS.API.DIRECT.GET.KV_snapshots.$KV.snapshots.main": {"trader", "risk", "recorder", "backup"},
    "$JS.API.DIRECT.GET.KV_deployments.$KV.deployments.main": {"trader", "risk", "recorder", "api"},
    "$JS.API.DIRECT.GET.KV_limits.$KV.limits.main": {"trader", "risk", "recorder", "api"},
    "$SYS.REQ.SERVER.PING": set(),
}

# --- who may hear; the operator may hear everything, as `nats sub '>'` shows it
HEAR: dict[str, set[str]] = {
    "trade.>": {"risk", "api"},
    "adjustment.*": {"risk", "api"},
    "order.>": {"risk", "api"},
    "limits.*": {"api"},
    "equity.*": {"risk", "api"},
    "status.*": {"risk", "api"},
    "alert.*": {"risk", "api"},
    "action.*": {"api"},
    "outcome.*": {"risk", "api"},
    "signal.*": {"trader", "api"},
    "market.>": {"risk", "api"},
    "command.>": {"trader", "risk"},
    "control.main.*": {"trader", "risk"},
    "risk.main.check": {"risk"},
    "heartbeat.>": {"trader", "risk", "recorder", "api"},
    "$SRV.PING": {"trader", "risk"},
    "_INBOX_trader.>": {"trader"},
    "_INBOX_risk.>": {"risk"},
    "_INBOX_recorder.>": {"recorder"},
    "_INBOX_api.>": {"api"},
    "_INBOX_backup.>": {"backup"},
    "_INBOX.>": set(),
    "$KV.>": set(),
    "$KV.credentials.>": set(),
    "$JS.API.>": set(),
    ">": set(),
}


class Wire:
    """The NATS protocol as it is on the wire: what the server refuses, it says at once."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def refused(self, line: str) -> bool:
        """Whether a PUB or SUB is refused."""
        self._writer.write(f"{line}\r\nPING\r\n".encode())
        said = []
        while (answer := (await self._reader.readline()).decode().strip()) != "PONG":
            assert answer, "the server closed the connection"
            said.append(answer)
        return any("permissions violation" in each.lower() for each in said)


class Server:
    """A server with the configuration of containers; passwords as they hold them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "secrets"
        for name in ("setup", *(holder.name for holder in HOLDERS)):
            (self.root / name).mkdir(parents=True)
        self.vault = Vault(self.root, change_groups=False)
        self.vault.ensure()
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._reloaded: Queue[str] = Queue()
        self.configure()

    def configure(self) -> None:
        """Take over what the vault says; only the places are this machine's."""
        text = (self.root / "nats" / "nats.conf").read_text()
        for said, here in (
            ('listen: "0.0.0.0:4222"', f'listen: "127.0.0.1:{self.port}"'),
            ("http: 127.0.0.1:8222\n", ""),
            ('store_dir: "/data"', f'store_dir: "{self._folder / "data"}"'),
        ):
            assert said in text
            text = text.replace(said, here)
        (self._folder / "nats.conf").write_text(text)

    def start(self) -> None:
        """Start it."""
        command = (binary(), "-c", self._folder / "nats.conf")
        self._process = subprocess.Popen(
            command, env={"SERVER_NAME": "one"}, stderr=subprocess.PIPE, text=True
        )
        self._listener = Thread(target=self._listen, args=(self._process.stderr,))
        self._listener.start()

    def _listen(self, said: IO[str]) -> None:
        """Take every line it logs, or it would stand still; keep those that say that it has reloaded."""
        with said:
            for line in said:
                if "Reloaded server configuration" in line:
                    self._reloaded.put(line)

    def reload(self) -> None:
        """As `docker compose kill -s SIGHUP nats` does; back once it is done."""
        self.configure()
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)
        self._reloaded.get(timeout=30)

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._listener.join()

    def login(self, user: str) -> Login:
        """How a user logs in now."""
        return Login.read(user, self.vault.read(f"nats-{user}"))

    @asynccontextmanager
    async def wire(self, login: Login) -> AsyncIterator[Wire]:
        """A connection with a login; ConnectionError when it is refused."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            await reader.readline()  # INFO
            options = json.dumps(
                {"verbose": False, "user": login.name, "pass": login.password, "lang": "test"}
            )
            writer.write(f"CONNECT {options}\r\nPING\r\n".encode())
            answer = (await reader.readline()).decode()
            if not answer.startswith("PONG"):
                raise ConnectionError(answer.strip())
            yield Wire(reader, writer)
        finally:
            writer.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("permissions")
    made = Server(folder)
    made.start()
    yield made
    made.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def prepared(server: Server) -> Server:
    """With streams, buckets and consumers: a right to what is not there would mean nothing."""
    login = f"{server.login('admin').name}:{server.login('admin').password}"
    bus = await Bus.connect(f"nats://127.0.0.1:{server.port}", user="admin", password=login)
    await prepare(bus)
    await bus.close()
    return server


def test_the_matrix_knows_every_user_every_stream_and_every_bucket() -> None:
    assert {user.name for user in subjects.USERS} == EVERYBODY
    kept = {subject.split(".")[0] for stream in subjects.STREAMS for subject in stream.subjects}
    assert kept <= {subject.split(".")[0] for subject in PUBLISH}
    assert {f"$KV.{bucket}" for bucket in subjects.BUCKETS} <= {
        ".".join(subject.split(".")[:2]) for subject in PUBLISH
    }


@pytest.mark.parametrize("user", USERS)
async def test_each_user_publishes_what_is_its_own_and_nothing_else(prepared: Server, user: str) -> None:
    async with prepared.wire(prepared.login(user)) as wire:
        allowed = {subject for subject in PUBLISH if not await wire.refused(f"PUB {subject} 2\r\n{{}}")}
    expected = {subject for subject, users in PUBLISH.items() if user in users or user == "admin"}
    assert allowed == expected


@pytest.mark.parametrize("user", USERS)
async def test_each_user_hears_what_concerns_it_and_nothing_else(prepared: Server, user: str) -> None:
    async with prepared.wire(prepared.login(user)) as wire:
        allowed = {
            subject
            for number, subject in enumerate(HEAR)
            if not await wire.refused(f"SUB {subject} {number + 1}")
        }
    everything = user in ("admin", "operator")
    assert allowed == {subject for subject, users in HEAR.items() if everything or user in users}


async def test_nobody_comes_in_without_a_password_or_as_grafana(prepared: Server) -> None:
    for name, password in (
        ("trader", "wrong"),
        ("", ""),
        ("grafana", prepared.vault.read("database-grafana")),
    ):
        with pytest.raises(ConnectionError, match="Authorization Violation"):
            async with prepared.wire(Login(name, password)):
                pass


async def test_while_logins_are_renewed_both_are_good_and_afterwards_only_the_new(prepared: Server) -> None:
    """A service that is still connected with the old login goes on until the end; nobody is thrown out before."""
    old = prepared.login("trader")
    async with prepared.wire(old) as connected:
        prepared.vault.begin()
        await asyncio.to_thread(prepared.reload)
        new = prepared.login("trader")
        for login in (old, new):
            async with prepared.wire(login) as wire:
                assert not await wire.refused("PUB trade.main.closed 2\r\n{}")
                assert await wire.refused("PUB command.main.reset 2\r\n{}")
        assert not await connected.refused("PUB trade.main.closed 2\r\n{}")
        prepared.vault.end()
        await asyncio.to_thread(prepared.reload)
        with pytest.raises(ConnectionError, match="Authorization Violation"):
            async with prepared.wire(old):
                pass
        with pytest.raises((AssertionError, ConnectionError)):
            await connected.refused("PUB trade.main.closed 2\r\n{}")
    async with prepared.wire(new) as wire:
        assert not await wire.refused("PUB trade.main.closed 2\r\n{}")

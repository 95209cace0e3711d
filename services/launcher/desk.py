"""The desk on one machine: NATS, PostgreSQL and the four services, started, kept and stopped in order.

What a person sees of it is `screen.py`'s business, and the command line's `up_command.py`'s.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from services.launcher import passwords, ports, process
from services.launcher.backoff import Backoff
from services.launcher.data_dir import ALERT_URLS, TOKEN, VIEWER_TOKEN, DataDir
from services.launcher.leftovers import SERVICES, end_leftovers
from services.launcher.nats_server import NatsServer
from services.launcher.postgres import Postgres
from services.launcher.service_process import ServiceProcess, probe, service_command, service_environment
from services.launcher.supervisor import Child, Keeper
from services.shared import __version__, subjects
from services.shared.bus import Bus, end
from services.shared.database_roles import database_secret
from services.shared.errors import DeskError, InvalidInput
from services.shared.nats_configuration import nats_secret
from services.shared.streams import prepare

log = structlog.get_logger(__name__)

HOST = "127.0.0.1"
USUAL_API_PORT = 8000
_USUAL_NATS_PORT = 4222
_USUAL_POSTGRES_PORT = 5432
_STOP_WITHIN = 8.0


@dataclass(frozen=True, slots=True)
class DeskOptions:
    """What `desk up` was told. `port` None: 8000, or a free one where 8000 is taken."""

    port: int | None = None
    feed: str | None = None
    bar_seconds: int | None = None
    speed: str | None = None
    broker: str = "paper"
    trader: str = subjects.DEFAULT_TRADER
    log_level: str = "INFO"


class Desk:
    """`await start()`, then `await stop()`. `changed` hears of every child's state, `told` what else a
    person should read."""

    def __init__(
        self,
        data: DataDir,
        options: DeskOptions,
        changed: Callable[[Keeper], None],
        told: Callable[[str], None],
    ) -> None:
        self.data = data
        self.options = options
        self.changed = changed
        self.told = told
        self.keepers: dict[str, Keeper] = {}
        self._starting: list[asyncio.Task[None]] = []
        self._started = ""
        self._api_port = 0
        self._secrets: passwords.Passwords | None = None

    @property
    def api_url(self) -> str:
        """Where the API answers."""
        return f"http://{HOST}:{self._api_port}"

    @property
    def nats_url(self) -> str:
        """Where NATS listens; without credentials."""
        return self._nats.url

    @property
    def token(self) -> str:
        """The bearer token of the API."""
        if self._secrets is None:
            raise InvalidInput("expected a started desk")
        return self._secrets.token

    async def start(self) -> None:
        """Take the data directory and start everything; back at once, `keepers` tell how far it is.

        Raises AlreadyRunning, and InvalidInput when a chosen port is taken or the directory is not ours.
        """
        self.data.make()
        self.data.lock()
        self.data.notice.unlink(missing_ok=True)
        process.remember(self.data.run / "launcher.json", os.getpid())
        ended = await asyncio.to_thread(end_leftovers, self.data)
        if ended:
            self.told(f"ended what an earlier desk left behind: {', '.join(ended)}")
        self._secrets = passwords.ensure(self.data)
        wanted = self.options.port
        if wanted is not None and not ports.is_free(wanted):
            raise InvalidInput(f"port {wanted} is taken: choose another with --port, or none for a free one")
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._make_keepers(self._secrets)
        self._api_port = wanted or self._free(USUAL_API_PORT)
        self._nats.port = self._free(self._nats.port)
        self._postgres.port = self._free(self._postgres.port)
        self._tell()
        self._starting = [
            asyncio.create_task(self._bring_up_nats(), name="bring-up-nats"),
            asyncio.create_task(self._bring_up_database(), name="bring-up-database"),
        ]

    def _make_keepers(self, secrets: passwords.Passwords) -> None:
        self._nats = NatsServer(self.data.nats, port=_USUAL_NATS_PORT, passwords=secrets.nats)
        self._postgres = Postgres(self.data.postgres, port=_USUAL_POSTGRES_PORT, passwords=secrets.database)
        self._keep("nats", self._nats)
        self._keep("postgres", self._postgres)
        for name in SERVICES:
            log_file = self.data.logs / f"{name}.log"
            self._keep(name, ServiceProcess(name, folder=self.data.root, log=log_file, run=self.data.run))

    def _keep(self, name: str, child: Child) -> None:
        self.keepers[name] = Keeper(name, child, changed=self._child_changed, before=self._before_start)

    def _before_start(self, keeper: Keeper) -> None:
        """Give a child its settings, and a free port where nobody knows the present one yet.

        Once NATS or PostgreSQL was up its port stays: the services have it. Between the look and the
        child's own bind another program may take a port; the child then dies, and we come here again.
        """
        child = keeper.child
        if isinstance(child, NatsServer | Postgres):
            if not keeper.was_ready.is_set():
                child.port = self._free(child.port)
            return
        if keeper.name == "api" and self.options.port is None:
            self._api_port = self._free(self._api_port)
        if isinstance(child, ServiceProcess):
            child.settings = self._settings(keeper.name)

    def _free(self, port: int) -> int:
        others = {self._api_port, self._nats.port, self._postgres.port} - {port}
        return ports.free_port(usual=port, taken=frozenset(others))

    def _settings(self, service: str) -> dict[str, str]:
        settings = {
            "DESK_NATS_URL": self.nats_url,
            "DESK_NATS_PASSWORD_FILE": str(self.data.secret(nats_secret(service))),
            "DESK_DATA_DIR": str(self.data.root),
            "DESK_TRADER": self.options.trader,
            "DESK_LOG_LEVEL": self.options.log_level,
            "DESK_ALERT_URLS_FILE": str(self.data.secret(ALERT_URLS)),
        }
        if service == "trader":
            settings["DESK_BROKER"] = self.options.broker
            if self.options.feed is not None:
                settings["DESK_FEED"] = self.options.feed
            if self.options.bar_seconds is not None:
                settings["DESK_BAR_SECONDS"] = str(self.options.bar_seconds)
            if self.options.speed is not None:
                settings["DESK_SPEED"] = self.options.speed
        if service in ("recorder", "api"):
            settings |= self._database_settings(service)
        if service == "api":
            settings["DESK_API_HOST"] = HOST
            settings["DESK_API_PORT"] = str(self._api_port)
            settings["DESK_TOKEN_FILE"] = str(self.data.secret(TOKEN))
            settings["DESK_VIEWER_TOKEN_FILE"] = str(self.data.secret(VIEWER_TOKEN))
        return settings

    def _database_settings(self, role: str) -> dict[str, str]:
        return {
            "DESK_DATABASE_URL": self._postgres.dsn(role),
            "DESK_DATABASE_PASSWORD_FILE": str(self.data.secret(database_secret(role))),
        }

    async def _bring_up_nats(self) -> None:
        """NATS, its streams, then those who need only it to begin with."""
        self.keepers["nats"].start()
        await self.keepers["nats"].was_ready.wait()
        backoff = Backoff()
        while True:
            try:
                password = self._nats.password("admin")
                bus = await Bus.connect(self._nats.url, user="admin", password=password)
                try:
                    await prepare(bus)
                finally:
                    await bus.close()
                break
            except DeskError as error:
                self.told(f"the streams could not be made, trying again: {error}")
                await asyncio.sleep(backoff.after(0))
        for name in ("api", "trader", "risk"):
            self.keepers[name].start()

    async def _bring_up_database(self) -> None:
        """PostgreSQL, its tables, then the recorder."""
        backoff = Backoff()
        secrets = self._secrets
        renewed = secrets is not None and secrets.renewed_database
        if not self._postgres.data.exists():
            self.told("first start: making the database")
        while True:
            try:
                await asyncio.to_thread(self._postgres.create, renewed=renewed)
                break
            except (DeskError, OSError) as error:
                self.told(f"the database could not be made, trying again: {error}")
                await asyncio.sleep(backoff.after(0))
        self.keepers["postgres"].start()
        await self.keepers["postgres"].was_ready.wait()
        await self._mind_other_port()
        while not await self._migrate():  # noqa: ASYNC110 - it is tried again, not watched
            await asyncio.sleep(backoff.after(0))
        await self.keepers["nats"].was_ready.wait()
        await self._starting[0]
        self.keepers["recorder"].start()

    async def _mind_other_port(self) -> None:
        """The API starts before PostgreSQL has its port for good: where it was told another, start it again."""
        api = self.keepers["api"].child
        if isinstance(api, ServiceProcess):
            told = api.settings.get("DESK_DATABASE_URL")
            if told is not None and told != self._postgres.dsn("api"):
                await asyncio.to_thread(api.stop, _STOP_WITHIN)

    async def _migrate(self) -> bool:
        log_path = self.data.logs / "migrate.log"
        with log_path.open("ab") as log_file:
            child = await asyncio.create_subprocess_exec(
                *service_command("recorder"),
                "migrate",
                env=service_environment(self._database_settings("owner")),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                cwd=self.data.root,
            )
            try:
                code = await child.wait()
            except asyncio.CancelledError:
                child.terminate()
                await child.wait()
                raise
        if code != 0:
            self.told(f"the migrations failed, trying again: {process.tail(log_path)}")
        return code == 0

    def _child_changed(self, keeper: Keeper) -> None:
        self._tell()
        self.changed(keeper)

    def _tell(self) -> None:
        """Write `desk.json`; where that fails (a full disk) the old one stays."""
        children: dict[str, Any] = {}
        for name, keeper in self.keepers.items():
            child = keeper.child
            health = child.http_port if isinstance(child, ServiceProcess) else None
            children[name] = {
                "state": keeper.state,
                "pid": keeper.pid,
                "restarts": max(keeper.restarts, 0),
                "health_port": health,
            }
        try:
            self.data.write_notice(self._facts(children))
        except OSError as error:
            log.warning("notice_not_written", error=type(error).__name__)

    def _facts(self, children: dict[str, Any]) -> dict[str, Any]:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started": self._started,
            "api_url": self.api_url,
            "trader": self.options.trader,
            "feed": self.options.feed,
            "nats_port": self._nats.port,
            "postgres_port": self._postgres.port,
            "children": children,
        }

    async def healthy(self) -> bool:
        """Whether the API answers and says that it is well."""
        if self.keepers["api"].state != "running":
            return False  # on its port may be somebody else
        answer = await asyncio.to_thread(probe, self._api_port, "/api/health")
        return answer is not None and answer[0] == 200

    async def stop(self) -> None:
        """Stop everything in order: services, then NATS, then PostgreSQL. Nothing stored is lost."""
        await end(self._starting)
        for name in (*SERVICES, "nats", "postgres"):
            keeper = self.keepers.get(name)
            if keeper is not None:
                await keeper.stop(30.0 if name == "postgres" else _STOP_WITHIN)
        self.data.notice.unlink(missing_ok=True)
        (self.data.run / "launcher.json").unlink(missing_ok=True)
        self.data.unlock()


__all__ = ["HOST", "USUAL_API_PORT", "Desk", "DeskOptions"]

"""The API as a process: settings, the parts put together, the server on its own port, an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import structlog
import uvicorn
from pydantic import Field

from services.api.app import create_app
from services.api.auth import LOOPBACK, Doorkeeper
from services.api.console.application import Console
from services.api.console.sessions import Sessions
from services.api.desk import Desk
from services.api.ledger import Ledger
from services.api.line import Line
from services.api.measures import HEARTBEAT_AGE, PART_UP
from services.api.watch import EXPECTED, SILENT_AFTER, Alarm, GuardWatch
from services.shared.alerts import Alerter, read_urls
from services.shared.bus import Bus
from services.shared.errors import BusError, InvalidInput
from services.shared.service import Health, ServiceSettings, beat, read_secret
from services.shared.subjects import DEFAULT_TRADER

log = structlog.get_logger(__name__)

VIEWER_TOKEN = "viewer-token"  # noqa: S105 - the file's name
_GRACE = 1
_LOOK_EVERY = 0.5


class ApiSettings(ServiceSettings):
    """What the API is told.

    `api_hosts` are names, besides loopback's, that it may be addressed by, with commas; `*` for any.
    `api_proxy` is the address of a proxy in front, which is believed what it says of a client's address and
    of https; without it nobody is. `api_port` 0 lets the system choose. The viewer's token is beside the
    operator's unless `viewer_token_file` says where; without that file there are no viewers.
    """

    trader: str = Field(default=DEFAULT_TRADER, pattern=r"^[A-Za-z0-9_-]{1,32}$")
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8000, ge=0, le=65535)
    api_hosts: str = ""
    api_proxy: str = ""
    token_file: Path
    viewer_token_file: Path | None = None
    database_url: str = "postgresql://api@127.0.0.1:5432/desk"
    database_password_file: Path
    alert_urls_file: Path | None = None
    guard_silent_after: float = Field(default=SILENT_AFTER, gt=0, le=3600)


class Server(uvicorn.Server):
    """uvicorn without its own signal handlers: `run_service` hears the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's handlers alone."""
        yield


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; raises InvalidInput when the port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise InvalidInput(f"port {port} on {host} cannot be had: {error.strerror}") from None
    listening.setblocking(False)
    return listening


def _viewer_token(settings: ApiSettings) -> str | None:
    if settings.viewer_token_file is not None:
        return read_secret(settings.viewer_token_file)
    beside = settings.token_file.with_name(VIEWER_TOKEN)
    return read_secret(beside) if beside.exists() else None


async def serve(settings: ApiSettings, health: Health) -> None:
    """Run the API until cancelled. Comes up without NATS and without the database, and says so."""
    doorkeeper = Doorkeeper(
        read_secret(settings.token_file),
        settings.api_hosts.split(","),
        viewer_token=_viewer_token(settings),
    )
    line = Line(settings.nats_url, read_secret(settings.nats_password_file))
    ledger = Ledger(settings.database_url, read_secret(settings.database_password_file))
    desk = Desk.assemble(settings.trader, line, ledger, settings.alert_urls_file)
    channels = read_urls(settings.alert_urls_file)
    sessions = Sessions(line, doorkeeper)
    console = Console(desk, sessions, channels=len(channels))
    alerter = Alerter(channels)
    alarm = Alarm(desk.journal, settings.trader, alerter)
    with contextlib.closing(bind(settings.api_host, settings.api_port)) as listening:
        if settings.api_host not in LOOPBACK:
            log.warning("listening_beyond_loopback", host=settings.api_host)
        server = Server(
            uvicorn.Config(
                create_app(desk, doorkeeper, sessions, console.application),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=bool(settings.api_proxy),
                forwarded_allow_ips=settings.api_proxy,
                timeout_graceful_shutdown=_GRACE,
                timeout_keep_alive=30,
                limit_concurrency=512,
                backlog=256,
            )
        )
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        log.info("api_listening", host=settings.api_host, port=listening.getsockname()[1])
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_serve(server, listening, line))
                group.create_task(line.run())
                group.create_task(sessions.run())
                group.create_task(_open_console(server, console))
                group.create_task(ledger.probe())
                group.create_task(desk.journal.run())
                group.create_task(alerter.run())
                group.create_task(
                    GuardWatch(line, desk.watch, alarm, silent_after=settings.guard_silent_after).run()
                )
                group.create_task(_report(desk, health))
                group.create_task(_beat(line, health, settings.instance))
        finally:
            await line.close()
            await ledger.close()


async def _serve(server: Server, listening: socket.socket, line: Line) -> None:
    """The server, with an end of its own: streams are told to end, and the rest has a second."""
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        line.end_streams()
        server.should_exit = True
        await serving
        raise


async def _open_console(server: Server, console: Console) -> None:
    """The pages, once the API answers: they are not to make it answer later."""
    while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(0.05)
    await console.run()


async def _report(desk: Desk, health: Health) -> None:
    """Keep the health endpoint's word up to date."""
    while True:
        away = []
        if not desk.line.connected:
            away.append("nats")
        if desk.ledger.problem is not None:
            away.append("database")
        PART_UP.labels("nats").set(desk.line.connected)
        PART_UP.labels("database").set(desk.ledger.problem is None)
        for service in EXPECTED:
            HEARTBEAT_AGE.labels(service).set(desk.watch.silence(service))
        if away:
            health.unready("away: " + ", ".join(away))
        else:
            health.ready()
        await asyncio.sleep(_LOOK_EVERY)


async def _beat(line: Line, health: Health, instance: str) -> None:
    """Heartbeats, once there is a line."""
    bus: Bus | None = None
    while bus is None:
        try:
            bus = line.bus
        except BusError:
            await asyncio.sleep(0.2)
    await beat(bus, health, "api", instance)

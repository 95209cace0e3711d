"""A process's life, the same for all four services: settings, logs, signals, health, metrics, heartbeat.

A service gives `run_service` a coroutine; it is cancelled on SIGTERM (SIGINT is the launcher's business)
and has a few seconds to leave in order. Health and metrics are served from a thread, so that a stuck
event loop shows as not alive instead of not answering.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from prometheus_client import make_wsgi_app
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.shared import __version__, subjects
from services.shared.bus import Bus, told_to_leave
from services.shared.commands import HEARTBEAT, Heartbeat
from services.shared.errors import BusError, DeskError, InvalidInput
from services.shared.wire import explain

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = structlog.get_logger(__name__)

HEARTBEAT_EVERY = 1.0
_STUCK_AFTER = 15.0
_LEAVE_WITHIN = 5.0


class ServiceSettings(BaseSettings):
    """What every service is told, from `DESK_*` in the environment. Secrets are files, never values."""

    model_config = SettingsConfigDict(env_prefix="DESK_", extra="ignore")

    nats_url: str = "nats://127.0.0.1:4222"
    nats_password_file: Path
    http_host: str = "127.0.0.1"
    http_port: int = Field(default=0, ge=0, le=65535)
    instance: str = "1"
    log_level: str = "INFO"
    data_dir: Path = Path()
    stuck_limit: float = Field(default=0, ge=0)
    """Seconds the event loop may stand still before the process ends itself; 0: for ever, somebody else ends it."""


SettingsT = TypeVar("SettingsT", bound=ServiceSettings)


def load_settings(kind: type[SettingsT]) -> SettingsT:
    """Settings from the environment; raises InvalidInput naming every missing or wrong variable."""
    try:
        return kind()
    except ValidationError as error:
        raise InvalidInput(f"settings (environment variables DESK_…): {explain(error)}") from None


def read_secret(path: Path) -> str:
    """The content of a secret's file, stripped; raises InvalidInput when it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError as error:
        raise InvalidInput(f"secret file {path.name} cannot be read: {error.strerror}") from None


class Health:
    """How a service does, read by the health endpoint's thread and by its heartbeat.

    `ready` is the service's own word: None when it is, otherwise why not.
    """

    def __init__(self) -> None:
        self.not_ready: str | None = "starting"
        self.state = "starting"
        self.lag = 0
        self.began = datetime.now(UTC)
        self._ticked = time.monotonic()

    def ready(self, state: str = "ready") -> None:
        """Ready for work."""
        self.not_ready, self.state = None, state

    def unready(self, why: str) -> None:
        """Not ready, and why."""
        self.not_ready, self.state = why, why

    def tick(self) -> None:
        """The event loop is alive."""
        self._ticked = time.monotonic()

    @property
    def stuck(self) -> str | None:
        """How long the event loop has not run, when that is too long."""
        seconds = time.monotonic() - self._ticked
        return f"event loop stuck for {seconds:.0f} s" if seconds > _STUCK_AFTER else None


class _QuietHandler(WSGIRequestHandler):
    timeout = 5

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """The health endpoint is asked every second; nobody wants a line each."""


class HealthServer:
    """`/livez`, `/readyz` and `/metrics` on a port of their own, from a thread."""

    def __init__(self, health: Health, host: str, port: int) -> None:
        self._health = health
        self._metrics = make_wsgi_app()
        self._server: WSGIServer = make_server(host, port, self._answer, handler_class=_QuietHandler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            page: Iterable[bytes] = self._metrics(environ, start_response)
            return page
        if path == "/livez":
            problem = self._health.stuck
        elif path == "/readyz":
            problem = self._health.stuck or self._health.not_ready
        else:
            start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"not found: /livez, /readyz, /metrics\n"]
        status = "200 OK" if problem is None else "503 Service Unavailable"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [((problem or "ok") + "\n").encode()]

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


def configure_logging(service: str, level: str = "INFO", *, file: TextIO | None = None) -> None:
    """One JSON object a line on standard error (or `file`): constant event names with key-values."""
    out = file or sys.stderr
    logging.basicConfig(stream=out, level=level, format="%(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


async def beat(bus: Bus, health: Health, service: str, instance: str) -> None:
    """Publish a heartbeat each second for ever; NATS away is no reason to end."""
    subject = subjects.heartbeat(service, instance)
    while not told_to_leave():
        pulse = Heartbeat(
            service=service,
            instance=instance,
            version=__version__,
            time=datetime.now(UTC),
            state=health.state,
            lag=health.lag,
            began=health.began,
        )
        with contextlib.suppress(BusError):
            await bus.publish(subject, HEARTBEAT.dump_json(pulse))
        await asyncio.sleep(HEARTBEAT_EVERY)


async def _tick(health: Health, stuck_limit: float) -> None:
    while True:
        health.tick()
        if stuck_limit:
            # Needs no lock of the interpreter's: it ends also what holds that. First it tells where each thread is.
            faulthandler.dump_traceback_later(stuck_limit, exit=True)
        await asyncio.sleep(0.5)


async def _watch_parent(parent: int) -> None:
    """End when the launcher is gone (it was killed): nobody would ever stop us otherwise."""
    while os.getppid() == parent:  # noqa: ASYNC110 - no event tells of a parent's death
        await asyncio.sleep(1)
    log.warning("launcher_gone")
    os.kill(os.getpid(), signal.SIGTERM)


def run_service(service: str, settings: ServiceSettings, main: Callable[[Health], Awaitable[None]]) -> int:
    """Run `main(health)` until it ends or SIGTERM comes; returns the process's exit code.

    0 after an orderly end, 1 when `main` failed, with the reason in the log, or when the loop stood still for
    `stuck_limit`, with each thread's traceback. `main` is cancelled to stop it and has five seconds to leave.
    """
    configure_logging(service, settings.log_level)
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    health = Health()
    try:
        server = HealthServer(health, settings.http_host, settings.http_port)
    except OSError as error:
        log.error("health_port_taken", port=settings.http_port, detail=str(error))
        return 1
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_until_told(main, health, settings.stuck_limit))
    finally:
        server.close()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


async def _until_told(main: Callable[[Health], Awaitable[None]], health: Health, stuck_limit: float) -> int:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    with contextlib.suppress(NotImplementedError):  # Windows: the launcher terminates
        loop.add_signal_handler(signal.SIGTERM, told.set)
    helpers = [asyncio.create_task(_tick(health, stuck_limit))]
    if os.environ.get("DESK_LAUNCHER_PID"):
        helpers.append(asyncio.create_task(_watch_parent(int(os.environ["DESK_LAUNCHER_PID"]))))
    work = asyncio.ensure_future(main(health))
    waiter = asyncio.create_task(told.wait())
    await asyncio.wait({work, waiter}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        health.unready("stopping")
        work.cancel()
        await asyncio.wait({work}, timeout=_LEAVE_WITHIN)
    for task in (*helpers, waiter):
        task.cancel()
    if not work.done():
        log.error("left_in_disorder", after_seconds=_LEAVE_WITHIN)
        return 1
    if work.cancelled():
        return 0
    error = work.exception()
    if isinstance(error, DeskError):
        log.error("failed", error=type(error).__name__, detail=str(error))
        return 1
    if error is not None:
        log.error("failed", exc_info=error)
        return 1
    return 0

"""`desk up`: run the desk in this terminal until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
import webbrowser
from pathlib import Path
from typing import Any, TextIO, cast
from urllib.parse import urlsplit

import structlog
from nats.aio.msg import Msg

from services.launcher.client import Address, DeskClient
from services.launcher.data_dir import DataDir
from services.launcher.desk import Desk, DeskOptions
from services.launcher.screen import Screen
from services.launcher.service_process import probe
from services.shared.bus import Bus, end
from services.shared.errors import DeskError, InvalidInput, Refused
from services.shared.nats_configuration import nats_secret

log = structlog.get_logger(__name__)

DEFAULT_SPEED = "36000"
_DEMO_PATIENCE = 60.0
_REST_WITHIN = 10.0
_SHOWN = ("trade", "alert", "status", "limits")
_ACTIVE = frozenset({"DEPLOYED"})


def absolute_feed(feed: str | None) -> str | None:
    """`replay:FILE` or `replay:EURUSD=FILE,GBPUSD=FILE` with absolute paths; raises InvalidInput."""
    if feed is None:
        return None
    kind, _, rest = feed.partition(":")
    if kind != "replay" or not rest:
        raise InvalidInput(f"expected --feed replay:FILE or replay:EURUSD=FILE,…, was {feed!r}")
    if Path(rest).is_file():
        return f"replay:{Path(rest).absolute()}"
    named = []
    for part in rest.split(","):
        instrument, equals, name = part.partition("=")
        path = Path(name if equals else part)
        if not path.is_file():
            raise InvalidInput(f"--feed: there is no file {path}")
        named.append(f"{instrument}={path.absolute()}" if equals else str(path.absolute()))
    return "replay:" + ",".join(named)


async def run_desk(data: DataDir, options: DeskOptions, *, demo: bool, browser: bool) -> None:
    """Until told to stop. Raises AlreadyRunning, InvalidInput."""
    screen = Screen()
    began = time.monotonic()
    desk = Desk(data, options, screen.child_changed, screen.say)
    told = _stop_signals()
    await desk.start()
    helpers: list[asyncio.Task[None]] = []
    try:
        healthy = asyncio.create_task(_until_healthy(desk))
        waiting = asyncio.create_task(told.wait())
        await asyncio.wait({healthy, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if healthy.done():
            screen.overview(
                api_url=desk.api_url,
                token=desk.token,
                root=data.root,
                keepers=desk.keepers,
                took=time.monotonic() - began,
            )
            helpers.append(asyncio.create_task(_live_lines(data, desk, screen)))
            if demo:
                helpers.append(asyncio.create_task(_deploy_demo(desk, screen)))
            if browser and sys.stdout.isatty():
                helpers.append(asyncio.create_task(_open_console(desk.api_url)))
            await told.wait()
        healthy.cancel()
        waiting.cancel()
    finally:
        screen.say("stopping: services first, then NATS and PostgreSQL")
        await end(helpers)
        await desk.stop()
        screen.say("stopped; nothing is left running")


def _stop_signals() -> asyncio.Event:
    """Set by Ctrl-C, SIGTERM and a closed terminal."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is None:
            continue
        try:
            loop.add_signal_handler(number, told.set)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(told.set))
    return told


async def _until_healthy(desk: Desk) -> None:
    """Until the API answers and every child runs; some seconds after the API what runs is shown anyway."""
    while not await desk.healthy():  # noqa: ASYNC110 - another process's state is polled
        await asyncio.sleep(0.05)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_REST_WITHIN):
            for keeper in desk.keepers.values():
                await keeper.was_ready.wait()


async def _live_lines(data: DataDir, desk: Desk, screen: Screen) -> None:
    """A line for each trade, alert, phase and limit, as they are published."""
    from services.launcher.lines import describe
    from services.shared.wire import decode

    async def show(message: Msg) -> None:
        with contextlib.suppress(InvalidInput):
            event = decode(message.data)
            line = describe(event)
            if line is not None:
                screen.line(event.envelope.time, line)

    password = data.read_secret(nats_secret("operator"))
    try:
        bus = await Bus.connect(desk.nats_url, user="operator", password=password)
    except DeskError as error:
        screen.say(f"no live lines: {error}")
        return
    try:
        for family in _SHOWN:
            await bus.subscribe(f"{family}.>", show)
        await asyncio.Event().wait()
    finally:
        await bus.close()


async def _deploy_demo(desk: Desk, screen: Screen) -> None:
    """Deploy the paper strategy when nothing is deployed; a run of yesterday's goes on."""
    address = Address(desk.api_url, desk.token)
    deadline = time.monotonic() + _DEMO_PATIENCE
    while True:
        try:
            screen.say(await asyncio.to_thread(_deploy_when_nothing_is, address))
            return
        except Refused as error:
            screen.say(f"not deploying: {error}")
            return
        except DeskError as error:
            # The trader may still be starting.
            if time.monotonic() >= deadline:
                screen.say(f"the demonstration was not deployed: {error}")
                return
        await asyncio.sleep(0.1)


def _deploy_when_nothing_is(address: Address) -> str:
    with DeskClient(address) as client:
        status: dict[str, Any] = client.get("/api/status")
        if status.get("deployment_status") in _ACTIVE or status.get("halted"):
            return f"not deploying: the desk is {status.get('phase')}"
        client.post("/api/deploy", {"strategy": "donchian", "instrument": "EURUSD", "by": "demo"})
        return "deployed donchian on EURUSD, paper account"


async def _open_console(url: str) -> None:
    """Open the console where there is one to open."""
    page = await asyncio.to_thread(probe, urlsplit(url).port or 80, "/login")
    if page is not None and page[0] == 200 and "<html" in page[1].lower():
        await asyncio.to_thread(webbrowser.open, url)


class _Forgiving:
    """A log that loses lines on a full disk instead of failing whoever writes one."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> None:
        """Write, or not."""
        with contextlib.suppress(OSError):
            self._out.write(text)

    def flush(self) -> None:
        """Flush, or not."""
        with contextlib.suppress(OSError):
            self._out.flush()


def up(data: DataDir, options: DeskOptions, *, demo: bool, browser: bool) -> None:
    """Run the desk; logs of the launcher itself go to `logs/launcher.log`."""
    os.umask(0o077)
    data.make()
    with (data.logs / "launcher.log").open("a", buffering=1) as out:
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Forgiving(out))),
        )
        asyncio.run(run_desk(data, options, demo=demo, browser=browser))


__all__ = ["DEFAULT_SPEED", "absolute_feed", "run_desk", "up"]

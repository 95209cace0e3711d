"""A second trader process of a running desk's trader: another instance, on a disk of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from nats.aio.client import Client
from nats.aio.msg import Msg

from services.shared.commands import HEARTBEAT
from services.shared.events import EquityMarked
from services.shared.wire import decode
from tests.desk_process import ROOT, DeskProcess

PATIENCE = 60.0


class StandbyTrader:
    """`python -m services.trader` beside the desk's own, as instance `2`."""

    instance = "2"

    def __init__(self, running: DeskProcess, folder: Path, *, speed: str) -> None:
        folder.mkdir()
        self.log = folder.parent / f"{folder.name}.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DESK_")}
        environment |= {
            "DESK_NATS_URL": running.info()["nats_url"].rpartition("@")[2],
            "DESK_NATS_PASSWORD_FILE": str(running.folder / "secrets" / "nats-trader"),
            "DESK_DATA_DIR": str(folder),
            "DESK_SPEED": speed,
            "DESK_INSTANCE": self.instance,
            "DESK_STANDBY": "true",
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.trader"], cwd=ROOT, env=environment, stderr=log
            )

    def kill(self, how: signal.Signals = signal.SIGKILL) -> int:
        """End it; its exit code."""
        self.process.send_signal(how)
        return self.process.wait(PATIENCE)

    def __enter__(self) -> StandbyTrader:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


async def stands_by(client: Client, instance: str) -> None:
    """Wait until this instance of trader `main` is heard to stand by."""
    heard = asyncio.Event()

    async def hear(message: Msg) -> None:
        if HEARTBEAT.validate_json(message.data).state == "standby":
            heard.set()

    subscription = await client.subscribe(f"heartbeat.standby.main-{instance}", cb=hear)
    async with asyncio.timeout(PATIENCE):
        await heard.wait()
    await subscription.unsubscribe()


async def reaches(client: Client, step: int) -> None:
    """Wait until the run has come to `step`."""
    reached = asyncio.Event()

    async def hear(message: Msg) -> None:
        body = decode(message.data).body
        if isinstance(body, EquityMarked) and body.step >= step:
            reached.set()

    subscription = await client.subscribe("equity.main", cb=hear)
    async with asyncio.timeout(PATIENCE * 2):
        await reached.wait()
    await subscription.unsubscribe()


async def says(client: Client, subject: str, text: bytes) -> None:
    """Wait until a message on `subject` contains `text`."""
    heard = asyncio.Event()

    async def hear(message: Msg) -> None:
        if text in message.data:
            heard.set()

    subscription = await client.subscribe(subject, cb=hear)
    async with asyncio.timeout(PATIENCE):
        await heard.wait()
    await subscription.unsubscribe()

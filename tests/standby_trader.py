"""A second trader process of a running desk's trader: another instance, on a disk of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from nats.aio.client import Client

from tests.desk_process import ROOT, DeskProcess
from tests.hearing import until_state

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
    await until_state(client, "standby", f"main-{instance}", "standby")

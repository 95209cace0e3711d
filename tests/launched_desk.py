"""A desk brought up by `desk up`, and who of its processes lives."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import ROOT
from tests.looking import until

SERVICES = ("api", "trader", "risk", "recorder")


EVERY = (*SERVICES, "nats", "postgres")


class Up:
    """A `desk up` of the test's own, in a process group of its own, as a shell gives it."""

    def __init__(self, data: Path, *options: str, prefix: tuple[str, ...] = ()) -> None:
        self.data = data
        self.output = data.parent / f"{data.name}.out"
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "services.launcher", "up", "--no-browser", *options],
                cwd=ROOT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DESK_")}
        return {**kept, "DESK_DATA_DIR": str(self.data)}

    def cli(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command beside it."""
        return subprocess.run(
            [sys.executable, "-m", "services.launcher", *words],
            cwd=ROOT,
            env={**self._environment(), **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def said(self) -> str:
        """What it printed."""
        return self.output.read_text()

    def notice(self) -> dict[str, Any]:
        """`desk.json`, {} before it is written."""
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self.data / "desk.json").read_text())
            return found
        return {}

    def pids(self) -> dict[str, int]:
        """The child that runs under each name now."""
        children = self.notice().get("children", {})
        return {name: int(str(child["pid"])) for name, child in children.items() if child.get("pid")}

    def all_running(self) -> bool:
        """Whether every part is there and ready."""
        notice = self.notice()
        if notice.get("pid") != self.process.pid:
            return False  # not told yet, or by one that was killed
        children = notice.get("children", {})
        return set(children) == set(EVERY) and all(child["state"] == "running" for child in children.values())

    def until(self, holds: Callable[[], bool], what: str, patience: float = 150) -> None:
        """Poll until something holds; fails with what the desk said."""
        until(holds, what, within=patience, told=lambda: self.said()[-3000:])

    def until_up(self) -> Up:
        """Wait until every part runs."""
        self.until(self.all_running, "every part runs")
        return self

    def family(self) -> list[psutil.Process]:
        """The launcher and all processes below it."""
        launcher = psutil.Process(self.process.pid)
        return [launcher, *launcher.children(recursive=True)]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal the launcher alone and wait for its end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def clean(self) -> None:
        """After a test, however it went: nothing of it goes on."""
        if self.process.poll() is None:
            self.end()
        self.cli("down")


@contextlib.contextmanager
def desk_up(data: Path, *options: str, prefix: tuple[str, ...] = ()) -> Iterator[Up]:
    """A desk that is up, and gone afterwards."""
    up = Up(data, *options, prefix=prefix)
    try:
        yield up.until_up()
    finally:
        up.clean()


def living(family: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still do something; one that only waits to be reaped by its new parent does not."""
    return [
        process for process in family if process.is_running() and _status(process) != psutil.STATUS_ZOMBIE
    ]


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return str(psutil.STATUS_ZOMBIE)

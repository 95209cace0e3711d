"""Keeping a child process running, with real processes that do nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil

from services.launcher import process
from services.launcher.supervisor import Keeper
from services.shared.errors import InvalidInput

PROGRAM = "import time; time.sleep(60)"


class Sleeper:
    """A child that is ready at once and does nothing; `program` may be changed."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.program = PROGRAM
        self.started: list[int] = []

    def spawn(self) -> subprocess.Popen[bytes]:
        self.process = subprocess.Popen([sys.executable, "-S", "-c", self.program])
        self.started.append(self.process.pid)
        return self.process

    def ready(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def alive(self) -> bool:
        return self.ready()

    def stop(self, within: float = 5) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(within)
            self.process = None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


async def until(holds: Callable[[], bool]) -> None:
    """Poll until something holds."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - a process tells nobody of its state
            await asyncio.sleep(0.01)


async def keeping(
    child: Sleeper,
    work: Callable[[Keeper], Awaitable[None]],
    *,
    changed: Callable[[Keeper], None] = lambda _: None,
    before: Callable[[Keeper], None] = lambda _: None,
) -> None:
    """Do something while the child is kept; afterwards it is stopped."""
    keeper = Keeper("sleeper", child, changed=changed, before=before)
    keeper.start()
    try:
        await work(keeper)
    finally:
        await keeper.stop(5)
    assert child.process is None
    assert keeper.state == "stopped"


async def test_a_child_that_dies_is_started_again() -> None:
    child = Sleeper()

    async def work(keeper: Keeper) -> None:
        await until(lambda: keeper.state == "running")
        os.kill(child.started[0], signal.SIGKILL)
        await until(lambda: len(child.started) == 2 and keeper.state == "running")
        assert keeper.restarts == 1
        assert keeper.pid == child.started[1]

    await keeping(child, work)


async def test_a_child_that_cannot_live_is_tried_again_and_again_and_lives_when_it_can() -> None:
    child = Sleeper()
    child.program = "raise SystemExit(3)"

    async def work(keeper: Keeper) -> None:
        await until(lambda: len(child.started) >= 3)
        child.program = PROGRAM
        await until(lambda: keeper.state == "running" and keeper.pid == child.started[-1])

    await keeping(child, work)


async def test_settings_that_cannot_be_given_yet_are_tried_again() -> None:
    child = Sleeper()
    problems = [InvalidInput("no port"), OSError("disk full")]

    def before(_: Keeper) -> None:
        if problems:
            raise problems.pop()

    async def work(keeper: Keeper) -> None:
        await until(lambda: keeper.state == "running")
        assert len(child.started) == 1

    await keeping(child, work, before=before)


async def test_a_change_that_cannot_be_told_stops_nothing() -> None:
    child = Sleeper()

    def full(_: Keeper) -> None:
        raise OSError(28, "No space left on device")

    async def work(keeper: Keeper) -> None:
        await until(lambda: keeper.was_ready.is_set())
        os.kill(child.started[0], signal.SIGKILL)
        await until(lambda: len(child.started) == 2)

    await keeping(child, work, changed=full)


async def test_a_child_is_not_started_again_while_stopping() -> None:
    child = Sleeper()

    async def work(keeper: Keeper) -> None:
        await until(lambda: keeper.state == "running")

    await keeping(child, work)
    assert len(child.started) == 1


def test_a_pid_file_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    process.remember(tmp_path / "none" / "x.json", os.getpid())
    assert process.recall(tmp_path / "none" / "x.json") is None


def test_a_file_that_says_so_already_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "nats.conf"
    assert process.write_changed(path, "a")
    before = path.stat().st_mtime_ns
    assert not process.write_changed(path, "a")
    assert path.stat().st_mtime_ns == before
    assert process.write_changed(path, "b")
    assert path.read_text() == "b"


def test_a_process_that_ignores_the_request_is_ended_by_force() -> None:
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert process.end(psutil.Process(child.pid), signal_number=signal.SIGTERM, within=0.2)
        assert child.wait(5) == -signal.SIGKILL

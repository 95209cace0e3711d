"""Keeps one child process running: starts it, sees it become ready, starts it again when it dies or hangs.

What the children are and in which order they start and stop is `desk.py`'s business.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable
from typing import Literal, Protocol

import structlog

from services.launcher.backoff import Backoff
from services.shared.errors import DeskError

log = structlog.get_logger(__name__)

State = Literal["waiting", "starting", "running", "down", "stopped"]

_POLL_STARTING = 0.05
_POLL_RUNNING = 0.1
_CHECK_EVERY = 2.0
HANGS_AFTER = 30.0
"""Seconds without a sign of life after which a running child is killed and started again."""


class Child(Protocol):
    """A process that can be started, looked at and stopped; the calls block and run in a thread."""

    process: subprocess.Popen[bytes] | None

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it, without waiting for it."""

    def ready(self) -> bool:
        """Whether it does its work now."""

    def alive(self) -> bool:
        """Whether it shows a sign of life."""

    def stop(self, within: float = ...) -> None:
        """Stop it in order, by force after `within` seconds."""

    def kill(self) -> None:
        """End it at once."""


class Keeper:
    """One child and its state. `changed` is called whenever the state changes, `before` before each start,
    to give the child its settings; it may raise DeskError."""

    def __init__(
        self,
        name: str,
        child: Child,
        *,
        changed: Callable[[Keeper], None],
        before: Callable[[Keeper], None],
    ) -> None:
        self.name = name
        self.child = child
        self.state: State = "waiting"
        self.problem = ""
        self.restarts = -1
        self.was_ready = asyncio.Event()
        self._changed = changed
        self._before = before
        self._backoff = Backoff()
        self._leave = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep it running."""
        if self._task is None and not self._leave.is_set():
            self._task = asyncio.create_task(self._keep(), name=f"keep-{self.name}")

    async def stop(self, within: float) -> None:
        """Stop keeping it, and stop it; back when it is gone."""
        self._leave.set()
        if self._task is not None:
            await self._task
        await asyncio.to_thread(self.child.stop, within)
        self._enter("stopped")

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        process = self.child.process
        return process.pid if process is not None and process.poll() is None else None

    def _enter(self, state: State, problem: str = "") -> None:
        if (state, problem) != (self.state, self.problem):
            self.state, self.problem = state, problem
            try:
                self._changed(self)
            except OSError as error:
                # Nobody can be told (a full disk, a closed terminal): no reason to keep nothing running.
                log.warning("change_not_told", child=self.name, error=type(error).__name__)

    async def _keep(self) -> None:
        while not self._leave.is_set():
            self.restarts += 1
            self._enter("starting")
            healthy_for = 0.0
            try:
                self._before(self)
                process = await asyncio.to_thread(self.child.spawn)
            except (OSError, DeskError) as error:
                problem = f"could not be started: {error}"
            else:
                healthy_for = await self._watch(process)
                if self._leave.is_set():
                    return
                problem = f"ended with code {process.returncode}"
            log.warning("child_down", child=self.name, problem=problem, healthy_for=round(healthy_for, 1))
            self._enter("down", problem)
            await self._pause(self._backoff.after(healthy_for))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._leave.wait()
        except TimeoutError:
            return

    async def _watch(self, process: subprocess.Popen[bytes]) -> float:
        """Until the process ends or we leave; the seconds it had been ready."""
        ready_since: float | None = None
        last_check = last_sign = time.monotonic()
        while process.poll() is None and not self._leave.is_set():
            now = time.monotonic()
            if ready_since is None:
                if await asyncio.to_thread(self.child.ready):
                    ready_since = last_check = last_sign = time.monotonic()
                    self._enter("running")
                    self.was_ready.set()
                    continue
            elif now - last_check >= _CHECK_EVERY:
                last_check = now
                if await asyncio.to_thread(self.child.alive):
                    last_sign = time.monotonic()
                elif now - last_sign > HANGS_AFTER:
                    log.warning("child_hangs", child=self.name, silent_for=round(now - last_sign, 1))
                    await asyncio.to_thread(self.child.kill)
                    break
            await self._pause(_POLL_STARTING if ready_since is None else _POLL_RUNNING)
        return 0.0 if ready_since is None else time.monotonic() - ready_since


__all__ = ["HANGS_AFTER", "Child", "Keeper", "State"]

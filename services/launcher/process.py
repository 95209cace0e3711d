"""Starting and ending a server process of somebody else's, and knowing it again later.

Such a process gets a session of its own, because Ctrl-C reaches a whole process group and NATS would
stop on it. A pid is trusted only with the process's start time: pids are used again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil
import structlog

from services.shared.errors import DeskError

log = structlog.get_logger(__name__)

_POLL = 0.01


class StartFailed(DeskError):
    """A server process ended before it was ready; the text has the end of what it said."""


@dataclass(frozen=True, slots=True)
class Account:
    """The system user a process runs as, when it is not our own."""

    name: str
    uid: int
    gid: int


def spawn(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    output: IO[bytes] | int,
    cwd: Path | None = None,
    account: Account | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own with exactly the environment `env`."""
    options: dict[str, Any] = {}
    if account is not None:
        options = {"user": account.uid, "group": account.gid, "extra_groups": [], "umask": 0o077}
    if sys.platform == "win32":
        options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP
    else:
        options["start_new_session"] = True
    return subprocess.Popen(
        [str(part) for part in command],
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        **options,
    )


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], *, said: Path, patience: float | None
) -> None:
    """Wait until `ready()`; for ever when `patience` is None, as long as the process lives.

    Raises StartFailed when it ended or `patience` seconds have passed; `said` is its output.
    """
    deadline = None if patience is None else time.monotonic() + patience
    name = Path(str(process.args[0]) if isinstance(process.args, list) else str(process.args)).name
    while not ready():
        code = process.poll()
        if code is not None:
            raise StartFailed(f"{name} ended with code {code} at its start: {tail(said)}")
        if deadline is not None and time.monotonic() > deadline:
            raise StartFailed(f"{name} was not ready after {patience:.0f} s: {tail(said)}")
        time.sleep(_POLL)


def tail(path: Path, size: int = 600) -> str:
    """The end of a log file on one line, for an error message."""
    try:
        text = path.read_bytes()[-size:].decode(errors="replace")
    except OSError:
        return "it said nothing"
    return " | ".join(line.strip() for line in text.splitlines() if line.strip()) or "it said nothing"


def remember(path: Path, pid: int) -> None:
    """Write a pid file by which `recall` knows the process again.

    Never raises: a full disk must not make somebody start the same process twice.
    """
    try:
        path.write_text(json.dumps({"pid": pid, "started": psutil.Process(pid).create_time()}))
    except (OSError, psutil.Error) as error:
        log.warning("pid_file_not_written", file=path.name, error=type(error).__name__)


def write_changed(path: Path, text: str) -> bool:
    """Write a file for this user only, unless it says so already: a server must start on a full disk too.

    Returns whether it had to be written.
    """
    try:
        if path.read_text() == text:
            return False
    except OSError:
        pass  # not there, or not ours to read: it is written anew
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    return True


def recall(path: Path) -> psutil.Process | None:
    """The living process a pid file speaks of, or None; a pid that now belongs to another is None."""
    try:
        fact = json.loads(path.read_text())
        process = psutil.Process(int(fact["pid"]))
        same = abs(process.create_time() - float(fact["started"])) < 1.0
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None


def end(process: psutil.Process, *, signal_number: int, within: float) -> bool:
    """Ask a process that is not our child to end, then insist; True when it is gone."""
    try:
        process.send_signal(signal_number)
    except psutil.NoSuchProcess:
        return True
    return wait_gone(process, within) or kill_tree(process)


def wait_gone(process: psutil.Process, within: float) -> bool:
    """Wait until a process that is not our child has ended, reaped by its parent or not."""
    deadline = time.monotonic() + within
    while True:
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)


def kill_tree(process: psutil.Process) -> bool:
    """Kill a process and what it started; True when it is gone."""
    try:
        for child in process.children(recursive=True):
            child.kill()
        process.kill()
    except psutil.NoSuchProcess:
        return True
    return wait_gone(process, 5)


__all__ = [
    "Account",
    "StartFailed",
    "end",
    "kill_tree",
    "recall",
    "remember",
    "spawn",
    "tail",
    "wait_gone",
    "wait_until",
    "write_changed",
]

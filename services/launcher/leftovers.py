"""What a killed launcher left behind: its servers and services, found and ended before a new start.

NATS and PostgreSQL run in sessions of their own and outlive a launcher that was killed with -9. Two
servers on one store would ruin it, so besides pid files every process is looked at by its command line.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import psutil
import structlog

from services.launcher import process
from services.launcher.data_dir import DataDir

log = structlog.get_logger(__name__)

SERVICES = ("api", "trader", "risk", "recorder")
_SERVICE_WITHIN = 7.0
_NATS_WITHIN = 10.0
_POSTGRES_WITHIN = 30.0


def end_leftovers(data: DataDir) -> list[str]:
    """End every process of an earlier launcher on this data, in order; returns their names.

    To be called while holding the lock: nobody else may be using these processes.
    """
    ended = []
    for name in SERVICES:
        ended += _end(name, data.run / f"{name}.json", signal.SIGTERM, _SERVICE_WITHIN)
    ended += _end("nats", data.nats / "nats.pid.json", signal.SIGTERM, _NATS_WITHIN)
    fast = signal.SIGTERM if sys.platform == "win32" else signal.SIGINT
    ended += _end("postgres", data.postgres.with_name("postgres.pid.json"), fast, _POSTGRES_WITHIN)
    ended += _end_unregistered(data, fast)
    return ended


def _end(name: str, pid_file: Path, signal_number: int, within: float) -> list[str]:
    found = process.recall(pid_file)
    if found is not None:
        log.info("ending_leftover", child=name, pid=found.pid)
        process.end(found, signal_number=signal_number, within=within)
    pid_file.unlink(missing_ok=True)
    return [name] if found is not None else []


def _end_unregistered(data: DataDir, fast: int) -> list[str]:
    """A launcher killed between a start and its pid file leaves a server that no file names."""
    marks = {
        ("nats", str(data.nats / "nats.conf")): (signal.SIGTERM, _NATS_WITHIN),
        ("postgres", str(data.postgres / "data")): (fast, _POSTGRES_WITHIN),
    }
    ended = []
    for found in psutil.process_iter(["cmdline"]):
        words = found.info["cmdline"] or []
        for (name, mark), (signal_number, within) in marks.items():
            if mark in words[1:] and name in Path(words[0]).name:
                log.info("ending_leftover", child=name, pid=found.pid)
                process.end(found, signal_number=signal_number, within=within)
                ended.append(name)
    return ended


__all__ = ["SERVICES", "end_leftovers"]

"""One of the four services as a child process: `python -m services.<name>` with its settings.

It runs in the launcher's process group and ignores SIGINT; when the launcher is killed it ends by itself
(`DESK_LAUNCHER_PID`). Its log is a file, shortened when it grows beyond bounds.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from services.launcher import ports, process

LONGEST_LOG = 32 * 1024 * 1024
_PROBE_TIMEOUT = 2.0


def probe(port: int, path: str, timeout: float = _PROBE_TIMEOUT) -> tuple[int, str] | None:
    """Status and text of a GET on loopback, or None when nobody answers in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(2000).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def service_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Our own environment without any DESK_ variable that a person has set, and `settings`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DESK_", "PG"))}
    own = {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}
    if sys.platform != "win32":
        # On Windows a virtual environment's python starts another: the parent is never the launcher.
        own["DESK_LAUNCHER_PID"] = str(os.getpid())
    return {**kept, **own, **settings}


def service_command(name: str) -> list[str]:
    """How a service is started."""
    return [sys.executable, "-m", f"services.{name}"]


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """A child started in here never hears Ctrl-C, not even before it could say so itself."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ServiceProcess:
    """A service as a child. `http_port` is its health port; it changes when somebody takes it."""

    def __init__(self, name: str, *, folder: Path, log: Path, run: Path) -> None:
        self.name = name
        self.http_port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.log = log
        self.settings: Mapping[str, str] = {}
        self.pid_file = run / f"{name}.json"
        self._folder = folder

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it on a free health port."""
        if not self.http_port or not ports.is_free(self.http_port):
            self.http_port = ports.free_port()
        self.shorten_log()
        with self.log.open("ab") as log, deaf_to_interrupts():
            self.process = subprocess.Popen(
                service_command(self.name),
                env=service_environment({**self.settings, "DESK_HTTP_PORT": str(self.http_port)}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        process.remember(self.pid_file, self.process.pid)
        return self.process

    def ready(self) -> bool:
        """Whether it says so itself."""
        answer = probe(self.http_port, "/readyz")
        return answer is not None and answer[0] == 200

    def alive(self) -> bool:
        """Whether its event loop turns."""
        self.shorten_log()
        answer = probe(self.http_port, "/livez")
        return answer is not None and answer[0] == 200

    def stop(self, within: float = 8.0) -> None:
        """SIGTERM, and by force after `within` seconds."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None
        self.pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def shorten_log(self) -> None:
        """Keep one older log; the process goes on writing at the end of its own (append)."""
        try:
            if self.log.stat().st_size > LONGEST_LOG:
                shutil.copyfile(self.log, self.log.with_suffix(".old.log"))
                os.truncate(self.log, 0)
        except OSError:
            return


__all__ = ["ServiceProcess", "probe", "service_command", "service_environment"]

"""A whole desk as a person starts it: `desk up` in a process of its own, and the command line beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import nats
from nats.aio.client import Client

from services.shared.bus import Bus
from tests.looking import until

ROOT = Path(__file__).parent.parent
SERVICES = ("trader", "risk", "recorder", "api")


class DeskProcess:
    """`desk up` on a data directory. Ports are whatever is free."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder.parent / f"{folder.name}.log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DESK_")},
            "DESK_DATA_DIR": str(folder),
        }

    def start(self, patience: float = 120) -> None:
        """Start it and wait until its API is healthy."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.launcher", "up", "--no-browser", *self._options],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.until(lambda: self._healthy, patience, "the desk is healthy")

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self._process = None

    def cli(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `desk` command against it."""
        done = subprocess.run(
            [sys.executable, "-m", "services.launcher", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"desk {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def get(self, path: str) -> Any:
        """The JSON answer of the API; raises httpx.HTTPError, or OSError while there is no desk."""
        notice = json.loads((self.folder / "desk.json").read_text())
        token = (self.folder / "secrets" / "token").read_text().strip()
        answer = httpx.get(notice["api_url"] + path, headers={"Authorization": f"Bearer {token}"}, timeout=5)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, body: Any) -> Any:
        """The JSON answer of the API to something asked of it; raises httpx.HTTPError."""
        notice = json.loads((self.folder / "desk.json").read_text())
        token = (self.folder / "secrets" / "token").read_text().strip()
        answer = httpx.post(
            notice["api_url"] + path, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=30
        )
        answer.raise_for_status()
        return answer.json()

    @property
    def _healthy(self) -> bool:
        try:
            self.get("/api/status")  # takes our token, so that it is no other desk's API
            return bool(self.get("/api/health")["status"] == "ok")
        except (OSError, ValueError, KeyError, httpx.HTTPError):
            return False

    def status(self) -> dict[str, Any]:
        """`GET /api/status`, asked until it answers."""
        found: list[dict[str, Any]] = []

        def answered() -> bool:
            try:
                found.append(self.get("/api/status"))
            except (OSError, ValueError, httpx.HTTPError):
                return False
            return True

        self.until(answered, 120, "the API answers")
        return found[-1]

    def alerts(self, code: str) -> list[dict[str, Any]]:
        """The recorded alerts of a code."""
        return [alert for alert in self.get("/api/alerts")["alerts"] if alert["code"] == code]

    def info(self) -> dict[str, Any]:
        """`desk info --json`."""
        found: dict[str, Any] = json.loads(self.cli("info", "--json").stdout)
        return found

    def pid(self, service: str) -> int | None:
        """The process of a service now, or None while it has none."""
        try:
            number = int(json.loads((self.folder / "run" / f"{service}.json").read_text())["pid"])
            os.kill(number, 0)
        except (OSError, ValueError, KeyError):
            return None
        return number

    def kill(self, service: str, how: signal.Signals = signal.SIGKILL) -> bool:
        """Send a service a signal; whether there was one to send it to."""
        number = self.pid(service)
        if number is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, how)
            return True
        return False

    @contextlib.contextmanager
    def kept_dead(self, service: str) -> Iterator[None]:
        """Kill a service, and whatever the launcher starts in its place, until the end of the block."""
        over = threading.Event()
        killed = threading.Event()

        def keep() -> None:
            while not over.is_set():
                if self.kill(service):
                    killed.set()
                over.wait(0.005)

        thread = threading.Thread(target=keep)
        thread.start()
        try:
            assert killed.wait(30)
            yield
        finally:
            over.set()
            thread.join()

    def until(self, holds: Callable[[], bool], patience: float, what: str) -> None:
        """Poll until something holds; fails with the desk's log when it does not in time."""
        until(
            holds,
            what,
            within=patience,
            told=lambda: self._log.read_text()[-4000:],
            over=lambda: self._process is not None and self._process.poll() is not None,
        )

    def until_finished(self, patience: float) -> dict[str, Any]:
        """Wait for the end of the deployment and return its last status."""
        self.until(lambda: self.status().get("finished") is not None, patience, "the run ends")
        return self.status()

    async def rows(self, statement: str) -> list[asyncpg.Record]:
        """What its database answers the API's role."""
        port = json.loads((self.folder / "desk.json").read_text())["postgres_port"]
        password = (self.folder / "secrets" / "database-api").read_text().strip()
        connection = await asyncpg.connect(f"postgresql://api@127.0.0.1:{port}/desk", password=password)
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    async def recorded(self, run_id: str, phase: str) -> list[Any]:
        """The trader's events of a run in order, once the one that it came to `phase` is recorded."""
        rows: list[Any] = []
        async with asyncio.timeout(60):
            while not any(json.loads(row["body"]).get("phase") == phase for row in rows):
                rows = await self.rows(
                    "SELECT seq, time, type, body FROM events "
                    f"WHERE run_id = '{run_id}' AND emitter = 'trader' ORDER BY seq, time"
                )
        return rows

    def trades(self, out: Path) -> bytes:
        """The trades file of the last deployment."""
        self.cli("trades", "--csv", str(out))
        return out.read_bytes()

    def backed_up(self) -> Path:
        """The archive of a backup made now."""
        return self.folder / "backups" / self.cli("backup").stdout.split()[-1]


@contextlib.asynccontextmanager
async def listening(running: DeskProcess) -> AsyncIterator[Client]:
    """A NATS connection with the credentials that `desk info` gives out."""
    client = await nats.connect(running.info()["nats_url"], inbox_prefix=b"_INBOX_operator")
    try:
        yield client
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def administering(running: DeskProcess) -> AsyncIterator[Bus]:
    """A NATS connection with every right."""
    port = json.loads((running.folder / "desk.json").read_text())["nats_port"]
    password = (running.folder / "secrets" / "nats-admin").read_text().strip()
    bus = await Bus.connect(f"nats://127.0.0.1:{port}", user="admin", password=password)
    try:
        yield bus
    finally:
        await bus.close()


@contextlib.contextmanager
def desk(folder: Path, *options: str) -> Iterator[DeskProcess]:
    """A running desk, stopped at the end."""
    process = DeskProcess(folder, *options)
    try:
        process.start()
        yield process
    finally:
        process.stop()

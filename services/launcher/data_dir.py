"""The data directory: where everything of one desk is, who holds it, and how others find the desk.

```
desk.json            what runs now: address, ports, pids (0600; there while the desk is up)
desk.lock            held by the running `desk up`
secrets/             both tokens, NATS and database passwords, alert-urls (0600)
nats/  postgres/     the servers' data
logs/                one file a service
strategies/  rates/  what `desk deploy` copied here for the trader
run/                 pid files
```
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from services.launcher import process
from services.shared.errors import DeskError, DeskNotRunning, InvalidInput
from services.shared.file_lock import hold

ALERT_URLS = "alert-urls"
TOKEN = "token"  # noqa: S105 - the file's name
VIEWER_TOKEN = "viewer-token"  # noqa: S105 - the file's name


class AlreadyRunning(DeskError):
    """Another `desk up` holds this data directory."""


def default_root() -> Path:
    """`DESK_DATA_DIR`, otherwise this person's usual place for application data."""
    named = os.environ.get("DESK_DATA_DIR")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("tradedesk", appauthor=False))


class DataDir:
    """Paths of one desk's data, its lock, and its notice for others (`desk.json`)."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or default_root()).expanduser().absolute()
        self.secrets = self.root / "secrets"
        self.logs = self.root / "logs"
        self.run = self.root / "run"
        self.nats = self.root / "nats"
        self.postgres = self.root / "postgres"
        self.strategies = self.root / "strategies"
        self.rates = self.root / "rates"
        self.notice = self.root / "desk.json"
        self._lock: IO[bytes] | None = None

    def make(self) -> None:
        """Create what is missing; raises InvalidInput when the place cannot be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.secrets, self.logs, self.run, self.strategies, self.rates):
                folder.mkdir(exist_ok=True, mode=0o700)
            probe = self.root / ".writable"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise InvalidInput(f"expected a writable data directory, {self.root}: {error.strerror}") from None

    def lock(self) -> None:
        """Hold this data directory until the process ends; raises AlreadyRunning."""
        handle = (self.root / "desk.lock").open("ab")
        try:
            hold(handle)
        except OSError:
            handle.close()
            where = self.read_notice().get("api_url", "an address not yet known")
            raise AlreadyRunning(f"a desk already runs on {self.root}, at {where}") from None
        self._lock = handle

    def unlock(self) -> None:
        """Let go of the data directory."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write_notice(self, facts: Mapping[str, Any]) -> None:
        """Tell others what runs, readable by this user only, whole or not at all."""
        write_private(self.notice, json.dumps(dict(facts), indent=2) + "\n")

    def read_notice(self) -> dict[str, Any]:
        """What the running desk told, `{}` when it told nothing."""
        try:
            found = json.loads(self.notice.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def running(self) -> dict[str, Any]:
        """The notice of the desk that runs on this data; raises DeskNotRunning."""
        if process.recall(self.run / "launcher.json") is None:
            raise DeskNotRunning(f"no desk runs on {self.root}: start one with desk up")
        return self.read_notice()

    def secret(self, name: str) -> Path:
        """The file of a secret."""
        return self.secrets / name

    def read_secret(self, name: str) -> str:
        """A secret's text; raises DeskNotRunning when there is none yet."""
        try:
            return self.secret(name).read_text().strip()
        except OSError:
            raise DeskNotRunning(f"no desk was ever started on {self.root}: desk up") from None


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(text)
    draft.replace(path)


__all__ = [
    "ALERT_URLS",
    "TOKEN",
    "VIEWER_TOKEN",
    "AlreadyRunning",
    "DataDir",
    "default_root",
    "write_private",
]

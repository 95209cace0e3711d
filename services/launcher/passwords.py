"""The desk's secrets: generated at the first start, one file each, readable by their user only."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from services.launcher.data_dir import TOKEN, VIEWER_TOKEN, DataDir, write_private
from services.shared import subjects
from services.shared.database_roles import ROLES, SUPERUSER, database_secret
from services.shared.nats_configuration import nats_secret


@dataclass(frozen=True, slots=True)
class Passwords:
    """All of them. `renewed_database`: a database password is new, the cluster may still have the old."""

    token: str
    viewer_token: str
    nats: dict[str, str]
    database: dict[str, str]
    renewed_database: bool


def ensure(data: DataDir) -> Passwords:
    """Read every secret, making those that are missing or empty."""
    nats = {user.name: _one(data, nats_secret(user.name))[0] for user in subjects.USERS}
    database = {role: _one(data, database_secret(role)) for role in (*ROLES, SUPERUSER)}
    return Passwords(
        token=_one(data, TOKEN)[0],
        viewer_token=_one(data, VIEWER_TOKEN)[0],
        nats=nats,
        database={role: secret for role, (secret, _) in database.items()},
        renewed_database=any(new for _, new in database.values()),
    )


def _one(data: DataDir, name: str) -> tuple[str, bool]:
    path = data.secret(name)
    if path.exists():
        found = path.read_text().strip()
        if found:
            path.chmod(0o600)
            return found, False
    made = secrets.token_urlsafe(32)
    write_private(path, made + "\n")
    return made, True


__all__ = ["Passwords", "ensure"]

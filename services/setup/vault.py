"""The desk's secrets as containers have them: all in one folder, and of each a copy for whom it concerns.

Every container mounts a folder (a volume) of its own and can read that one only: the files belong to its
group, and nobody else's volume is there to be looked at. What is in the folders is made at the first start,
kept afterwards, and renewed by `begin` and `end`, between which old and new NATS logins are both good.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nacl.encoding import Base64Encoder
from nacl.public import PrivateKey, PublicKey

from services.shared import subjects
from services.shared.database_roles import ROLES, SUPERUSER, database_secret
from services.shared.errors import InvalidInput, Refused
from services.shared.nats_configuration import Cluster, Login, configuration, nats_secret

NATS_CONFIGURATION = "nats.conf"
ALERT_URLS = "alert-urls"
SMTP_PASSWORD = "smtp-password"  # noqa: S105 - its name
GIVEN = (ALERT_URLS, SMTP_PASSWORD)
"""What only a person can know: empty until it is given."""
SEALING = ("sealing-private", "sealing-public")
CLUSTER = "nats-cluster"
_OLD = ".old"
_MODE = 0o440


@dataclass(frozen=True, slots=True)
class Holder:
    """A container: its folder, the group it runs in, and what it is given to read."""

    name: str
    gid: int
    secrets: tuple[str, ...]


HOLDERS = (
    Holder("trader", 10001, ("nats-trader", SEALING[0])),
    Holder("risk", 10002, ("nats-risk", SEALING[0], ALERT_URLS)),
    Holder("recorder", 10003, ("nats-recorder", "database-recorder")),
    Holder(
        "api",
        10004,
        ("nats-api", "database-api", "token", "viewer-token", SEALING[1], ALERT_URLS),
    ),
    Holder("backup", 10005, ("nats-backup", "database-backup")),
    Holder("nats", 10006, (NATS_CONFIGURATION,)),
    Holder("timescaledb", 70, ("database-postgres",)),
    Holder("migrate", 10003, ("database-owner",)),
    Holder("grafana", 472, ("database-grafana", "grafana-admin", "grafana-key", SMTP_PASSWORD)),
)

RENEWED = (
    *(nats_secret(user.name) for user in subjects.USERS),
    *(database_secret(role) for role in (*ROLES, SUPERUSER)),
    "token",
    "viewer-token",
)
"""What a rotation renews. The sealing pair and Grafana's key have encrypted what is stored, the cluster's
password is one for nodes that must agree at any moment, and nobody can log in as Grafana's own admin."""


class Vault:
    """All secrets under `root`: `setup/` has every one, the others have their holders' copies."""

    def __init__(self, root: Path, *, change_groups: bool = True) -> None:
        self._root = root
        self._own = root / "setup"
        self._change_groups = change_groups

    def ensure(self, nodes: int = 1) -> list[str]:
        """Make what is missing and give everybody theirs; returns the names of what was made.

        `nodes` is the number of NATS servers, which know each other as `nats-1`, `nats-2`, ... when there are
        several. Raises InvalidInput when the folders are not there to be written.
        """
        made = [name for name, text in self._missing() if self._write(self._own / name, text)]
        self._deliver(nodes)
        return made

    def begin(self, nodes: int = 1) -> None:
        """Renew what `RENEWED` names. Services go on with what they have until they are restarted.

        Raises Refused while an earlier rotation has not been ended.
        """
        if any(self._own.glob(f"*{_OLD}")):
            raise Refused("a rotation is under way: end it first (rotate end)")
        for name in RENEWED:
            old = self.read(name)
            self._write(self._own / f"{name}{_OLD}", old)
            self._write(self._own / name, _renewed(name, old))
        self._deliver(nodes)

    def end(self, nodes: int = 1) -> None:
        """Let only the new be good, once every service has it."""
        for path in self._own.glob(f"*{_OLD}"):
            path.unlink()
        self._deliver(nodes)

    def give(self, name: str, text: str, nodes: int = 1) -> None:
        """Keep one of `GIVEN`, and hand it to those who use it: alert channels, a line each, or Grafana's password
        at its mail server."""
        self._write(self._own / name, text)
        self._deliver(nodes)

    def read(self, name: str) -> str:
        """A secret; raises InvalidInput when there is none."""
        try:
            return (self._own / name).read_text().strip()
        except OSError as error:
            raise InvalidInput(f"secret {name} cannot be read: {error.strerror}") from None

    def all_of(self, name: str) -> list[str]:
        """A secret as it is and, during a rotation, as it was."""
        there = [each for each in (name, f"{name}{_OLD}") if (self._own / each).exists()]
        return [self.read(each) for each in there]

    def _missing(self) -> Iterator[tuple[str, str]]:
        for name in (*RENEWED, CLUSTER, "grafana-admin", "grafana-key"):
            if not (self._own / name).exists():
                yield name, _renewed(name, "")
        yield from ((name, "") for name in GIVEN if not (self._own / name).exists())
        if not all((self._own / name).exists() for name in SEALING):
            pair = PrivateKey.generate()
            keys: tuple[PrivateKey | PublicKey, ...] = (pair, pair.public_key)
            for name, key in zip(SEALING, keys, strict=True):
                yield name, key.encode(Base64Encoder).decode()

    def _deliver(self, nodes: int) -> None:
        given: dict[str, Callable[[], str]] = {NATS_CONFIGURATION: lambda: self._nats_configuration(nodes)}
        for holder in HOLDERS:
            folder = self._root / holder.name
            if not folder.is_dir():
                continue  # a volume that this desk does without
            for name in holder.secrets:
                text = given[name]() if name in given else self.read(name) + "\n"
                self._write(folder / name, text, holder.gid)

    def _nats_configuration(self, nodes: int) -> str:
        routes = tuple(f"nats-{number}:6222" for number in range(1, nodes + 1))
        return configuration(
            host="0.0.0.0",  # noqa: S104 - inside its own network
            port=4222,
            store=PurePosixPath("/data"),
            logins={
                user.name: [Login.read(user.name, text) for text in self.all_of(nats_secret(user.name))]
                for user in subjects.USERS
            },
            name="$SERVER_NAME",
            monitoring="127.0.0.1:8222",
            cluster=Cluster("desk", routes, self.read(CLUSTER)) if nodes > 1 else None,
        )

    def _write(self, path: Path, text: str, gid: int | None = None) -> bool:
        """Whole or not at all, readable by its group only; returns whether it was another text."""
        try:
            if path.exists() and path.read_text() == text:
                return False
            draft = path.with_name(f".{path.name}")
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as out:
                out.write(text)
            if gid is not None and self._change_groups:
                os.chown(draft, -1, gid)
            draft.chmod(_MODE)
            draft.replace(path)
        except OSError as error:
            raise InvalidInput(
                f"secret {path.name} cannot be written to {path.parent}: {error.strerror}"
            ) from None
        return True


def _renewed(name: str, old: str) -> str:
    """A new secret. Of the letters Grafana and NATS leave alone: no `$`, no colon."""
    made = secrets.token_urlsafe(32)
    user = name.removeprefix("nats-")
    if name == CLUSTER or user == name:
        return made
    before, _, _ = old.rpartition(":")
    return f"{user if before != user else user + '.2'}:{made}"


__all__ = [
    "ALERT_URLS",
    "GIVEN",
    "HOLDERS",
    "RENEWED",
    "SMTP_PASSWORD",
    "Holder",
    "Vault",
]

"""`python -m services.setup`: run by one-shot containers, each time the desk is started.

`secrets` makes what secrets are missing, `prepare` the database's roles, the streams and the buckets. Both do
no harm when everything is there. `rotate begin` and `rotate end` renew the secrets of a running desk;
`alert-urls` keeps the alert channels it reads, a line each, `smtp-password` Grafana's password at its mail server.
`stop` and `halt` reach the desk over NATS, for when its API does not answer. `kubernetes` makes what is missing in
a folder of this machine, and prints what `kubectl apply` takes.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.setup.kubernetes import make_folders, manifests
from services.setup.vault import ALERT_URLS, SMTP_PASSWORD, Vault
from services.shared import subjects
from services.shared.bus import Bus
from services.shared.commands import CommandReply
from services.shared.database_roles import ROLES, SUPERUSER, database_secret
from services.shared.errors import DeskError, Refused
from services.shared.nats_configuration import nats_secret
from services.shared.streams import prepare

USAGE = """usage: python -m services.setup COMMAND
  secrets | prepare | rotate begin | rotate end | alert-urls < FILE | smtp-password < FILE | stop | halt REASON
  kubernetes"""


class SetupSettings(BaseSettings):
    """Where things are, from `DESK_*` in the environment. `secrets_groups`: each copy gets its holder's group;
    without, they are all the user's own, for Kubernetes."""

    model_config = SettingsConfigDict(env_prefix="DESK_", extra="ignore")

    secrets_dir: Path = Path("/secrets")
    secrets_groups: bool = True
    nats_url: str = "nats://nats:4222"
    nats_nodes: int = Field(default=1, ge=1, le=5)
    database_address: str = "timescaledb:5432"
    trader: str = subjects.DEFAULT_TRADER


async def _prepare(settings: SetupSettings, vault: Vault) -> None:
    from services.setup.roles import ensure_roles

    await ensure_roles(
        settings.database_address,
        vault.all_of(database_secret(SUPERUSER)),
        {role: vault.read(database_secret(role)) for role in ROLES},
    )
    bus = await Bus.connect(
        settings.nats_url, user="admin", password=vault.read(nats_secret("admin")), patience=60
    )
    try:
        await prepare(bus, nodes=settings.nats_nodes)
    finally:
        await bus.close()


async def _ask(
    settings: SetupSettings, vault: Vault, verb: Literal["stop", "halt"], reason: str
) -> CommandReply:
    """Raises Refused with the desk's reason, BusError when nobody answers."""
    password = vault.read(nats_secret("operator"))
    bus = await Bus.connect(settings.nats_url, user="operator", password=password, patience=10)
    try:
        asked = json.dumps({"by": "docker", **({"reason": reason} if reason else {})}).encode()
        answer = await bus.request(subjects.control(settings.trader, verb), asked, timeout=10)
    finally:
        await bus.close()
    reply = CommandReply.model_validate_json(answer)
    if reply.status != "accepted":
        raise Refused(reply.reason)
    return reply


def main(arguments: list[str]) -> int:
    """The process's exit code: 0 done, 1 failed, 2 used wrongly."""
    settings = SetupSettings()
    vault = Vault(settings.secrets_dir, change_groups=settings.secrets_groups and arguments != ["kubernetes"])
    try:
        match arguments:
            case ["secrets"]:
                made = vault.ensure(settings.nats_nodes)
                print(f"secrets: {len(made)} made" if made else "secrets: all there")
            case ["prepare"]:
                asyncio.run(_prepare(settings, vault))
                print("prepared: database roles, streams, buckets")
            case ["rotate", "begin"]:
                vault.begin(settings.nats_nodes)
                print("renewed: restart the services one after the other, then rotate end")
            case ["rotate", "end"]:
                vault.end(settings.nats_nodes)
                print("only the new secrets are good")
            case ["alert-urls"]:
                vault.give(ALERT_URLS, sys.stdin.read(), settings.nats_nodes)
                print("kept: restart risk and api")
            case ["smtp-password"]:
                vault.give(SMTP_PASSWORD, sys.stdin.read().strip(), settings.nats_nodes)
                print("kept: restart grafana")
            case ["stop" | "halt" as verb, *words]:
                reply = asyncio.run(_ask(settings, vault, verb, " ".join(words)))
                print(
                    f"{verb}: accepted as {reply.command_id}" + (f", {reply.reason}" if reply.reason else "")
                )
            case ["kubernetes"]:
                make_folders(settings.secrets_dir)
                vault.ensure(settings.nats_nodes)
                print(json.dumps(manifests(settings.secrets_dir)))
            case _:
                print(USAGE, file=sys.stderr)
                return 2
    except DeskError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

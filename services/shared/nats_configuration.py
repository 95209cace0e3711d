"""The NATS server's configuration, written from `subjects`: who may log in and use which subjects.

The launcher and the containers start their servers with it. Starting one is their business; streams and
buckets are made by `streams.prepare`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from services.shared import subjects

MAX_PAYLOAD = 1024 * 1024
_ROOM = 1024**3
"""For the key-value buckets, whose size no limit of their own holds."""


@dataclass(frozen=True, slots=True)
class Login:
    """A name and a password of one of `subjects.USERS`, who has two while its password is renewed.

    The secret's text is the password alone, where the name is the user's, or `name:password`.
    """

    name: str
    password: str

    @classmethod
    def read(cls, user: str, secret: str) -> Login:
        """Of a user, from a secret's text."""
        name, _, password = secret.rpartition(":")
        return cls(name or user, password)


def nats_secret(user: str) -> str:
    """The name of a NATS user's secret."""
    return f"nats-{user}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The other nodes, as `host:port`, and what they know each other by."""

    name: str
    routes: tuple[str, ...]
    password: str


def configuration(
    *,
    host: str,
    port: int,
    store: PurePath,
    logins: Mapping[str, Sequence[Login]],
    log: PurePath | None = None,
    sync_interval: str = "always",
    name: str = "desk",
    monitoring: str | None = None,
    cluster: Cluster | None = None,
) -> str:
    """The whole file. `logins` are those of each of `subjects.USERS`; each gets what the user is granted.

    `sync_interval` is `always` (what is acknowledged is on disk) or a duration such as `2m`. A `name` that
    begins with `$` is a variable of the server's environment. Without `log` it logs to standard error;
    without `monitoring` (`host:port`) it tells nobody how it does.
    """
    reserved = sum(stream.max_bytes for stream in subjects.STREAMS)
    sync = sync_interval if sync_interval == "always" else f'"{sync_interval}"'
    users = "\n".join(_user(user, login) for user in subjects.USERS for login in logins.get(user.name, ()))
    logging = (
        f"log_file: {_text(log)}\nlogfile_size_limit: {16 * 1024 * 1024}\nlogfile_max_num: 3\n" if log else ""
    )
    return f"""\
listen: "{host}:{port}"
server_name: {name if name.startswith("$") else _text(name)}
max_payload: {MAX_PAYLOAD}
max_connections: 256
max_pending: {64 * MAX_PAYLOAD}
max_subscriptions: 10000
write_deadline: "10s"
ping_interval: "20s"
{logging}{f"http: {monitoring}" + chr(10) if monitoring else ""}jetstream {{
  store_dir: {_text(store)}
  sync_interval: {sync}
  max_memory_store: {64 * 1024 * 1024}
  max_file_store: {reserved + _ROOM}
}}
authorization {{
  timeout: 5
  users: [
{users}
  ]
}}
{_cluster(cluster) if cluster else ""}"""


def _text(value: PurePath | str) -> str:
    return '"' + str(value).replace("\\", "/").replace('"', '\\"') + '"'


def _user(user: subjects.User, login: Login) -> str:
    publish = ", ".join(_text(subject) for subject in user.may_publish())
    subscribe = ", ".join(_text(subject) for subject in user.may_subscribe())
    answers = ', allow_responses: {max: 10, expires: "1m"}' if user.answers else ""
    return (
        f"    {{user: {_text(login.name)}, password: {_text(login.password)}, permissions: "
        f"{{publish: {{allow: [{publish}]}}, subscribe: {{allow: [{subscribe}]}}{answers}}}}}"
    )


def _cluster(cluster: Cluster) -> str:
    routes = ", ".join(_text(f"nats-route://desk:{cluster.password}@{route}") for route in cluster.routes)
    return f"""\
cluster {{
  name: {_text(cluster.name)}
  listen: "0.0.0.0:6222"
  authorization {{user: "desk", password: {_text(cluster.password)}, timeout: 5}}
  no_advertise: true  # clients are told all nodes by name; an address may be another's after a restart
  ping_interval: "2s"
  ping_max: 2
  routes: [{routes}]
}}
"""


__all__ = ["MAX_PAYLOAD", "Cluster", "Login", "configuration", "nats_secret"]

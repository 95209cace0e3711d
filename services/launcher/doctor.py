"""What `desk doctor` looks at: one function a part, each says how it is and what to do about it.

A check never raises: what it could not find out is a finding too.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from services.launcher import nats_server, ports, postgres
from services.launcher.client import DeskClient, find
from services.launcher.data_dir import ALERT_URLS, DataDir
from services.launcher.service_process import probe
from services.shared import subjects
from services.shared.alerts import channels, read_urls
from services.shared.bus import Bus
from services.shared.commands import WAITS_FOR_FILE
from services.shared.database_roles import DATABASE, database_secret
from services.shared.errors import DeskError, DeskNotRunning, InvalidInput
from services.shared.nats_configuration import nats_secret

State = Literal["ok", "note", "warning", "failed"]

_OLDEST_NATS = (2, 12)
_LITTLE_DISK = 5 * 1024**3
_TOO_LITTLE_DISK = 512 * 1024**2
_NOT_BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
_FULL = 0.8
_HEARD_LATELY = 15.0


@dataclass(frozen=True, slots=True)
class Finding:
    """How one part is; `cure` says what to do unless it is well."""

    part: str
    state: State
    text: str
    cure: str = ""


def check_machine(data: DataDir) -> Iterator[Finding]:
    """What a desk needs, whether it is up or not."""
    yield Finding("python", "ok", ".".join(map(str, sys.version_info[:3])))
    yield _nats_binary()
    yield _postgres_binary()
    yield from _directory(data)
    yield _clock(data)
    yield _alert_channels(data)


def _nats_binary() -> Finding:
    try:
        path = nats_server.binary()
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=20, check=False
        ).stdout
    except (InvalidInput, OSError, subprocess.SubprocessError) as error:
        return Finding("nats-server", "failed", str(error), "make install")
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", said)
    if found is None:
        return Finding("nats-server", "failed", f"{path} does not run", "make install")
    if (int(found[1]), int(found[2])) < _OLDEST_NATS:
        return Finding("nats-server", "failed", f"{found[0]} is older than 2.12", "make install")
    return Finding("nats-server", "ok", found[0])


def _postgres_binary() -> Finding:
    try:
        path = postgres.installation() / "bin" / "postgres"
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (InvalidInput, OSError, subprocess.SubprocessError) as error:
        return Finding("postgresql", "failed", str(error), "make install")
    if done.returncode != 0:
        return Finding(
            "postgresql", "failed", f"{path} does not run: {done.stderr.strip()[:200]}", "make install"
        )
    return Finding("postgresql", "ok", done.stdout.strip().removeprefix("postgres (PostgreSQL) "))


def _directory(data: DataDir) -> Iterator[Finding]:
    if not data.root.exists():
        yield Finding("data", "note", f"{data.root} does not exist yet", "desk up makes it")
        place = next(parent for parent in data.root.parents if parent.exists())
    else:
        place = data.root
        try:
            data.make()
            yield Finding("data", "ok", str(data.root))
        except InvalidInput as error:
            yield Finding("data", "failed", str(error), "choose another with --data-dir or DESK_DATA_DIR")
        yield from _open_secrets(data)
    free = shutil.disk_usage(place).free
    text = f"{free / 1024**3:.1f} GiB free"
    if free < _TOO_LITTLE_DISK:
        yield Finding(
            "disk", "failed", text, "free some: a full disk stops new entries, and nothing can be stored"
        )
    elif free < _LITTLE_DISK:
        yield Finding("disk", "warning", text, "free some: the streams alone may grow to 5 GiB")
    else:
        yield Finding("disk", "ok", text)


def _open_secrets(data: DataDir) -> Iterator[Finding]:
    if sys.platform == "win32" or not data.secrets.is_dir():
        return
    seen = [path.name for path in data.secrets.iterdir() if path.is_file() and path.stat().st_mode & 0o077]
    if seen:
        cure = f"chmod 600 {data.secrets}/*"
        yield Finding("secrets", "failed", f"other users may read {', '.join(sorted(seen))}", cure)


def _clock(data: DataDir) -> Finding:
    now = datetime.now(UTC)
    cure = "set the clock (timedatectl set-ntp true): orders, days and reports go by it"
    if now < _NOT_BEFORE:
        return Finding("clock", "failed", f"it says {now:%Y-%m-%d}", cure)
    for path in (data.notice, data.logs / "launcher.log"):
        if path.exists():
            written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            if written > now + timedelta(minutes=1):
                return Finding(
                    "clock", "failed", f"{path.name} was written {written - now} in the future", cure
                )
    return Finding("clock", "ok", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def _alert_channels(data: DataDir) -> Finding:
    path = data.secret(ALERT_URLS)
    cure = f"write Apprise URLs, one a line (mailto://…), into {path}, then desk alerts test"
    try:
        known = channels(read_urls(path))
    except (InvalidInput, ImportError) as error:
        return Finding("alerts", "failed", str(error), cure)
    if not known:
        return Finding("alerts", "note", "no channel: alerts are only shown and recorded", cure)
    plural = "s" if len(known) > 1 else ""
    return Finding("alerts", "ok", f"{len(known)} channel{plural}; desk alerts test sends one through each")


def check_desk(data: DataDir) -> Iterator[Finding]:
    """What can only be seen while the desk is up."""
    try:
        notice = data.running()
    except DeskNotRunning as error:
        yield Finding("desk", "note", str(error), "desk up")
        for usual in (8000, 4222, 5432):
            if not ports.is_free(usual):
                yield Finding("ports", "note", f"{usual} is taken", "desk up will choose a free one")
        return
    yield Finding("desk", "ok", f"up since {notice.get('started')}, at {notice.get('api_url')}")
    for name, child in notice.get("children", {}).items():
        yield _child(name, child, data)
    yield from _way_in(data)
    yield asyncio.run(_nats(data, notice))
    yield from asyncio.run(_database(data, notice))


def check_elsewhere(data: DataDir) -> Iterator[Finding]:
    """A desk that `DESK_URL` names: another machine's, or, in its own container, the one around us."""
    yield Finding("python", "ok", ".".join(map(str, sys.version_info[:3])))
    yield _clock(data)
    if data.secret(ALERT_URLS).exists():
        yield _alert_channels(data)
    yield from _way_in(data, services=True)


def _child(name: str, child: dict[str, Any], data: DataDir) -> Finding:
    cure = f"read {data.logs}/{name}.log; it is started again by itself"
    if child.get("state") != "running":
        return Finding(name, "failed", f"is {child.get('state')}", cure)
    again = f", started again {child['restarts']} times" if child.get("restarts") else ""
    port = child.get("health_port")
    if port is None:
        return Finding(name, "ok", f"runs, pid {child.get('pid')}{again}")
    answer = probe(int(port), "/readyz")
    if answer is None:
        return Finding(name, "failed", "does not answer", cure)
    if answer[0] != 200:
        return Finding(name, "failed", f"is not ready: {answer[1]}", cure)
    return Finding(name, "warning" if again else "ok", f"ready{again}", cure if again else "")


def _way_in(data: DataDir, *, services: bool = False) -> Iterator[Finding]:
    """The API with our token, what it hears of the `services`, and a deployment that cannot go on."""
    try:
        with DeskClient(find(data)) as desk:
            health = desk.get("/api/health")
            status = desk.get("/api/status")
    except DeskError as error:
        yield Finding("way in", "failed", str(error), "unset DESK_URL and DESK_TOKEN, or desk token")
        return
    for service in health.get("services", []) if services else ():
        # Not heard for a while is no failure: an instance may have left, or have been replaced by another.
        how: State = "ok" if service["age"] <= _HEARD_LATELY else "note"
        text = f"{service['instance']}: {service['state']}, heard {service['age']:.0f} s ago"
        yield Finding(service["service"], how, text)
    problems = health.get("problems", [])
    if problems:
        yield Finding("way in", "failed", "; ".join(problems), "see the parts and their logs")
    else:
        yield Finding("way in", "ok", "the API takes the token and calls the desk healthy")
    reason = str(status.get("reason") or "")
    if reason.startswith(WAITS_FOR_FILE):
        yield Finding("deployment", "warning", reason, "put that file back: the run goes on by itself")


async def _nats(data: DataDir, notice: dict[str, Any]) -> Finding:
    cure = f"read {data.nats / 'nats.log'}"
    try:
        url = f"nats://127.0.0.1:{notice.get('nats_port')}"
        password = data.read_secret(nats_secret("admin"))
        bus = await Bus.connect(url, user="admin", password=password, patience=3)
    except DeskError as error:
        return Finding("nats", "failed", str(error), cure)
    try:
        fill = []
        for stream in subjects.STREAMS:
            state = (await bus.js.stream_info(stream.name)).state
            fill.append((state.bytes / stream.max_bytes, stream.name, state.messages))
    except (DeskError, TimeoutError, OSError) as error:
        return Finding("streams", "failed", f"{type(error).__name__}: {error}", cure)
    finally:
        await bus.close()
    text = ", ".join(f"{name} {messages} messages, {share:.0%} full" for share, name, messages in fill)
    if any(share > _FULL for share, name, _ in fill if name != subjects.MARKET):
        return Finding(
            "streams", "failed", text, "the recorder frees them: see that it runs; a full stream refuses"
        )
    return Finding("streams", "ok", text)


async def _database(data: DataDir, notice: dict[str, Any]) -> list[Finding]:
    import asyncpg

    cure = f"read {data.postgres / 'log'} and {data.logs / 'migrate.log'}"
    try:
        connection = await asyncpg.connect(
            f"postgresql://api@127.0.0.1:{notice.get('postgres_port')}/{DATABASE}",
            password=data.read_secret(database_secret("api")),
            timeout=5,
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, DeskError) as error:
        return [Finding("database", "failed", f"{type(error).__name__}: {error}", cure)]
    try:
        events = await connection.fetchval("SELECT coalesce(sum(trader_events), 0) FROM run_totals")
        dead = await connection.fetchval("SELECT count(*) FROM dead_letters")
    except asyncpg.PostgresError as error:
        return [Finding("database", "failed", f"{type(error).__name__}: {error}", cure)]
    finally:
        await connection.close()
    found = [Finding("database", "ok", f"{events} of the trader's events recorded")]
    if dead:
        text = f"{dead} messages could not be recorded and are kept"
        look = "SELECT stream, subject, reason, received FROM dead_letters ORDER BY received DESC"
        found.append(Finding("dead letters", "warning", text, look))
    else:
        found.append(Finding("dead letters", "ok", "none"))
    return found


__all__ = ["Finding", "check_desk", "check_machine"]

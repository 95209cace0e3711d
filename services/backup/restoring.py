"""Makes a desk anew from an archive: on empty volumes, with nothing of it running.

Checks come first: of the archive's sums, of what it is, and of what is there. What fails leaves the desk as
empty as it was, so that it can be tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from services.backup import database, streams
from services.backup.archive import Archive, Manifest, Part
from services.backup.settings import BackupSettings
from services.backup.taking import FOLDERS, known
from services.recorder.migrate import migrate_async, newest
from services.shared import subjects
from services.shared.bus import Bus
from services.shared.errors import BusError, InvalidInput, Refused, StorageUnavailable
from services.shared.service import read_secret
from services.shared.streams import prepare

ADMIN: Final = "admin"
_HEARTBEATS_WITHIN: Final = 2.5
_EMPTY_IT: Final = "a restore needs an empty desk: docs/backup.md says how to have one"


async def restore(settings: BackupSettings, path: Path, tell: Callable[[str], None]) -> None:
    """Restore a whole archive, telling how far it is.

    Raises InvalidInput for an archive that is damaged or of a newer desk, Refused when the desk is not empty
    or runs, BusError and StorageUnavailable when NATS or the database fail.
    """
    with Archive(path) as archive:
        tell(f"checking {path.name}")
        await asyncio.to_thread(archive.verify)
        revision = archive.manifest.schema_revision
        if revision > newest():
            raise InvalidInput(
                f"{path.name} has tables of revision {revision}, this desk knows {newest()}: update it first"
            )
        password = read_secret(settings.database_password_file)
        bus = await Bus.connect(
            settings.nats_url, user=ADMIN, password=read_secret(settings.nats_password_file), patience=60
        )
        try:
            check_version(archive.manifest, bus.server_version)
            await _check_nobody_runs(bus)
            await _check_streams_unused(bus)
            _check_files_unused(settings.data_dir, archive)
            await _prepare_tables(settings, password, revision)
            await _fill(settings, password, bus, archive, tell)
            tell("bringing tables, streams and consumers up to date")
            await migrate_async(settings.database_url, password)
            await prepare(bus, nodes=settings.nats_nodes)
        finally:
            await bus.close()


def check_version(manifest: Manifest, here: str) -> None:
    """Raises InvalidInput when NATS is older than the one that packed the streams.

    It may not know their form, as 2.12 does not know 2.15's.
    """
    made_by = manifest.versions["nats"]
    if _minor(made_by) > _minor(here):
        raise InvalidInput(
            f"{manifest.name} was made with NATS {made_by}, here runs {here}: update NATS first"
        )


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split(".")[:2])


async def _check_nobody_runs(bus: Bus) -> None:
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def hear(message: Msg) -> None:
        if not heard.done():
            heard.set_result(message.subject.split(".")[1])

    subscription = await bus.subscribe(subjects.heartbeat("*", ">"), hear)
    try:
        async with asyncio.timeout(_HEARTBEATS_WITHIN):
            service = await heard
    except TimeoutError:
        return
    finally:
        await subscription.unsubscribe()
    raise Refused(f"{service} is running: stop the desk first; {_EMPTY_IT}")


async def _check_streams_unused(bus: Bus) -> None:
    for stream in streams.STREAMS:
        try:
            state = (await bus.js.stream_info(stream)).state
        except NotFoundError:
            continue
        except (TimeoutError, NatsError, OSError) as error:
            raise BusError(f"{stream}: {type(error).__name__}") from None
        if state.last_seq:
            raise Refused(f"stream {stream} has been used: {_EMPTY_IT}")


def _check_files_unused(data: Path, archive: Archive) -> None:
    if any(found for folder in (data, data / "trader") for found in folder.glob("trader-*.snapshot.json")):
        raise Refused(f"the trader's own volume is not empty: {_EMPTY_IT}")
    for part in _files(archive):
        path = data / part.name
        if path.exists() and path.read_bytes() != b"".join(archive.read(part.name)):
            raise Refused(f"{part.name} is there already, and another: move it away first")


def _files(archive: Archive) -> list[Part]:
    found = [part for folder in FOLDERS for part in archive.parts(folder)]
    for part in found:
        name = part.name.partition("/")[2]
        if not name or name != Path(name).name or name.startswith("."):
            raise InvalidInput(f"{archive.path.name}: {part.name[:80]!r} is no file's name")
    return found


async def _prepare_tables(settings: BackupSettings, password: str, revision: str) -> None:
    """Tables as the archive has them: later migrations then do to its rows what they did to others'."""
    async with database.connected(settings.database_url, password) as connection:
        tables = database.Import(connection)
        applied = await tables.revision()
        if used := applied and await tables.used():
            raise Refused(f"table {used} has been used: {_EMPTY_IT}")
    if applied != revision:
        await migrate_async(settings.database_url, password, anew_as=revision)


async def _fill(
    settings: BackupSettings, password: str, bus: Bus, archive: Archive, tell: Callable[[str], None]
) -> None:
    """Database, streams and files; all of it or nothing."""
    made: list[str] = []
    written: list[Path] = []
    async with contextlib.AsyncExitStack() as otherwise:
        otherwise.push_async_callback(_empty, bus, made, written, nodes=settings.nats_nodes)
        async with database.connected(settings.database_url, password) as connection:
            tables = database.Import(connection)
            async with tables.transaction():
                for part in archive.parts("database"):
                    await _fill_table(tables, archive, part, tell)
                await _restore_streams(bus, archive, tell, made)
                for part in _files(archive):
                    _write_file(settings.data_dir / part.name, archive, part, written)
        otherwise.pop_all()


async def _empty(bus: Bus, made: list[str], written: list[Path], *, nodes: int) -> None:
    """Undo what a restore that failed has done beside the database, which undoes its own."""
    for stream in made:
        with contextlib.suppress(TimeoutError, NatsError, OSError):
            await bus.js.delete_stream(stream)
    for path in written:
        path.unlink(missing_ok=True)
    await prepare(bus, nodes=nodes)


async def _fill_table(
    tables: database.Import, archive: Archive, part: Part, tell: Callable[[str], None]
) -> None:
    name = part.name.removeprefix("database/").removesuffix(".gz")
    table = database.Table(name, tuple(part.about["columns"]))
    rows = await tables.copy(table, archive.read(part.name, decompress=True))
    if rows != part.count:
        raise StorageUnavailable(f"table {name} took {rows} rows of {part.count}")
    if rows:
        tell(f"table {name}: {rows} rows")


async def _restore_streams(bus: Bus, archive: Archive, tell: Callable[[str], None], made: list[str]) -> None:
    parts = {
        part.name.partition("/")[2]: part
        for folder in ("buckets", "streams")
        for part in archive.parts(folder)
    }
    for stream, part in parts.items():
        with contextlib.suppress(NotFoundError):
            await bus.js.delete_stream(stream)
        made.append(stream)
        await streams.restore(bus, stream, part.about, archive.read(part.name))
        if part.count is not None:
            tell(f"stream {stream}: {part.count} messages")
    memory = {trader: each.memory for trader, each in (await known(bus)).items()}
    for stream, fence in archive.manifest.fences.items():
        gone = await streams.cut(bus, stream, fence, memory)
        if gone:
            tell(f"stream {stream}: {gone} messages left out, which the trader will say again")


def _write_file(path: Path, archive: Archive, part: Part, written: list[Path]) -> None:
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as out:
            written.append(path)
            for piece in archive.read(part.name):
                out.write(piece)
    except OSError as error:
        raise InvalidInput(f"{part.name} cannot be written: {error.strerror}") from None


__all__ = ["check_version", "restore"]

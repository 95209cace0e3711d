"""Takes a backup: the database as it is at one moment, then what the traders know, then the streams.

In this order everything that is restored fits: the database is completed from the streams, and of these what
the traders do not know is left out (`cut`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog

from services.backup import database, streams
from services.backup.archive import (
    CHUNK,
    Archive,
    ArchiveWriter,
    Manifest,
    as_json,
    checksum,
    drop_unfinished,
)
from services.backup.cut import Memory
from services.backup.keeping import archives, name_of, to_prune
from services.backup.settings import BackupSettings
from services.shared import __version__, subjects
from services.shared.bus import Bus
from services.shared.errors import DeskError, Refused, StorageUnavailable
from services.shared.file_lock import hold
from services.shared.service import read_secret

log = structlog.get_logger(__name__)

FOLDERS: Final = ("strategies", "rates")
USER: Final = "backup"
_PATIENCE: Final = 120.0
_LOOK_EVERY: Final = 0.05


async def take(settings: BackupSettings, now: datetime, *, patience: float = _PATIENCE) -> Path:
    """Make an archive, check it, note it in the database and throw old ones away; returns where it is.

    Raises Refused while another backup is under way or a replay stands still, StorageUnavailable, BusError
    and InvalidInput.
    """
    folder = settings.backup_dir
    try:
        with _alone(folder):
            drop_unfinished(folder)
            path = folder / name_of(now, (each.name for each in folder.iterdir()))
            try:
                await _write(settings, path, now, patience)
                with Archive(path) as archive:
                    await asyncio.to_thread(archive.verify)
                await _note(settings, path, None)
            except DeskError as error:
                path.unlink(missing_ok=True)
                await _note(settings, None, str(error))
                raise
            for name in to_prune((each.name for each in folder.iterdir()), now):
                (folder / name).unlink(missing_ok=True)
                log.info("pruned", archive=name)
    except OSError as error:
        problem = f"the archive could not be written to {folder}: {error.strerror or type(error).__name__}"
        await _note(settings, None, problem)
        raise StorageUnavailable(problem) from None
    return path


def there(folder: Path) -> dict[str, datetime]:
    """The archives in a folder, newest first."""
    return archives(path.name for path in folder.iterdir()) if folder.is_dir() else {}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("wb") as lock:
        try:
            hold(lock)
        except OSError:
            raise Refused("another backup is under way: wait for it") from None
        yield


async def _note(settings: BackupSettings, path: Path | None, problem: str | None) -> None:
    """Write down how it ended; with the database away the log has to do."""
    size, whole = await asyncio.to_thread(_size_and_sum, path) if path else (0, None)
    (log.info if problem is None else log.error)(
        "backup", archive=path.name if path else "", bytes=size, problem=problem
    )
    try:
        async with database.connected(
            settings.database_url, read_secret(settings.database_password_file)
        ) as connection:
            await database.note(connection, path.name if path else None, size, whole, problem)
    except DeskError as error:
        log.warning("backup_not_noted", detail=str(error))


def _size_and_sum(path: Path) -> tuple[int, str]:
    return path.stat().st_size, checksum(path)


async def _write(settings: BackupSettings, path: Path, now: datetime, patience: float) -> None:
    password = read_secret(settings.database_password_file)
    bus = await Bus.connect(
        settings.nats_url, user=USER, password=read_secret(settings.nats_password_file), patience=10
    )
    try:
        async with database.connected(settings.database_url, password) as connection:
            with ArchiveWriter(path) as archive:
                export = database.Export(connection)
                await export.begin()
                # Whatever the database has by now is at or before these places of the streams.
                fences = {stream: await bus.last_sequence(stream) for stream in streams.STREAMS}
                await _write_buckets(bus, archive, patience)
                for stream in streams.STREAMS:
                    with archive.member(f"streams/{stream}") as member:
                        member.about = await streams.snapshot(bus, stream, member.write)
                        member.count = member.about["state"]["messages"]
                for table in export.tables:
                    with archive.member(f"database/{table.name}.gz", compress=True) as member:
                        member.count = await export.copy(table, member.write)
                        member.about = {"columns": list(table.columns)}
                await asyncio.to_thread(_write_files, archive, settings.data_dir)
                # A slow disk may take minutes until all of it is there.
                await asyncio.to_thread(
                    archive.finish,
                    Manifest(
                        name=path.name,
                        made=now.astimezone(UTC).isoformat(),
                        versions={
                            "desk": __version__,
                            "nats": bus.server_version,
                            **export.versions,
                        },
                        schema_revision=export.revision,
                        fences=fences,
                        parts=archive.parts,
                    ),
                )
    finally:
        await bus.close()


async def _write_buckets(bus: Bus, archive: ArchiveWriter, patience: float) -> None:
    """The buckets, at a moment when the traders' memory has passed the fences and no run begins or ends."""
    deadline = asyncio.get_running_loop().time() + patience
    at_fences = await known(bus)
    while True:
        before = await known(bus)
        behind = [trader for trader, was in at_fences.items() if was.behind(before.get(trader))]
        if not behind:
            packed = [await _pack(bus, subjects.bucket_stream(bucket)) for bucket in streams.BUCKETS]
            if _same_runs(before, await known(bus)):
                break
        if asyncio.get_running_loop().time() > deadline:
            raise Refused(
                f"the replay of {', '.join(behind)} stands still in the middle: let it go on or stop it first"
                if behind
                else "runs begin and end all the time: try again"
            )
        await asyncio.sleep(_LOOK_EVERY)
    for name, pieces, about in packed:
        with archive.member(f"buckets/{name}") as member:
            for piece in pieces:
                member.write(piece)
            member.about = about


async def _pack(bus: Bus, stream: str) -> tuple[str, list[bytes], dict[str, Any]]:
    pieces: list[bytes] = []
    about = await streams.snapshot(bus, stream, pieces.append)
    return stream, pieces, about


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored of a trader, and the revision of the trader's own snapshot."""

    memory: Memory
    revision: int

    def behind(self, later: Known | None) -> bool:
        """Whether the trader may have said more than its snapshot, being this, knew, and still may.

        In lockstep alone: it stores its memory now and then, anybody else before anything leaves.
        """
        return self.memory.lockstep and later is not None and later.revision == self.revision


def _same_runs(before: dict[str, Known], after: dict[str, Known]) -> bool:
    return {trader: each.memory.same_while for trader, each in before.items()} == {
        trader: each.memory.same_while for trader, each in after.items()
    }


async def known(bus: Bus) -> dict[str, Known]:
    """What each trader and its guard have stored, by the trader's id. Raises BusError."""
    found: dict[str, dict[str, tuple[bytes, int]]] = {}
    for key in await streams.keys(bus, subjects.SNAPSHOTS):
        owner, _, trader = key.partition(".")
        value = await bus.get(subjects.SNAPSHOTS, key)
        if value is not None:
            found.setdefault(trader, {})[owner] = value
    nothing = (b"", 0)
    return {
        trader: Known(
            Memory.of(*(as_json(kept.get(owner, nothing)[0]) for owner in ("trader", "guard"))),
            kept.get("trader", nothing)[1],
        )
        for trader, kept in found.items()
    }


def _write_files(archive: ArchiveWriter, data: Path) -> None:
    for folder in FOLDERS:
        for path in sorted((data / folder).glob("[!.]*")):
            if not path.is_file() or path.is_symlink():
                continue
            with archive.member(f"{folder}/{path.name}") as member, path.open("rb") as file:
                while piece := file.read(CHUNK):
                    member.write(piece)


__all__ = ["FOLDERS", "Known", "known", "take", "there"]

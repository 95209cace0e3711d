"""The archive: a plain tar that is written as its members come, whatever their size, and checked by sums.

Its last members are `manifest.json`, which says what is in it, and `SHA256SUMS`, which `sha256sum -c` reads
once it is unpacked. What the members mean is told elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from services.shared.errors import InvalidInput
from services.shared.wire import explain

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
SUMS: Final = "SHA256SUMS"
CHUNK: Final = 128 * 1024
_PART: Final = ".part"
_GZIP: Final = 31  # zlib's word for a gzip header around it


class Part(BaseModel):
    """A member: its bytes as they are in the archive, and how many rows or messages these are."""

    model_config = ConfigDict(frozen=True)

    name: str
    bytes: int
    sha256: str
    count: int | None = None
    about: dict[str, Any] = {}


class Manifest(BaseModel):
    """What is in an archive. `schema_revision` is the migration its tables are of, `fences` are the last
    sequences of the streams before what the traders' memory was taken (see `cut`)."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    name: str
    made: str
    versions: dict[str, str]
    schema_revision: str
    fences: dict[str, int]
    parts: list[Part]


class Member:
    """A member that is being written; `write` takes its content, which `compress` makes smaller first."""

    def __init__(self, file: IO[bytes], *, compress: bool) -> None:
        self._file = file
        self._squeeze = zlib.compressobj(1, zlib.DEFLATED, _GZIP) if compress else None
        self._sum = hashlib.sha256()
        self.size = 0
        self.count: int | None = None
        self.about: dict[str, Any] = {}

    def write(self, data: bytes) -> None:
        """Add to its content."""
        self._put(data if self._squeeze is None else self._squeeze.compress(data))

    def close(self) -> str:
        """No more content; returns the checksum of what is in the archive."""
        if self._squeeze is not None:
            self._put(self._squeeze.flush())
        return self._sum.hexdigest()

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._sum.update(data)
        self.size += len(data)


class ArchiveWriter:
    """An archive that is there under its name once it is whole, and not before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(path.name + _PART)
        self._file = self._draft.open("xb")
        self.parts: list[Part] = []

    def __enter__(self) -> ArchiveWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._draft.unlink(missing_ok=True)

    @contextlib.contextmanager
    def member(self, name: str, *, compress: bool = False) -> Iterator[Member]:
        """Write a member; its size need not be known before."""
        head = self._file.tell()
        self._file.write(bytes(tarfile.BLOCKSIZE))
        member = Member(self._file, compress=compress)
        yield member
        checksum = member.close()
        self._file.write(bytes(-member.size % tarfile.BLOCKSIZE))
        end = self._file.tell()
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = member.size, 0o640
        self._file.seek(head)
        # GNU's format has room for any size in the one block.
        self._file.write(entry.tobuf(tarfile.GNU_FORMAT))
        self._file.seek(end)
        self.parts.append(
            Part(
                name=name,
                bytes=member.size,
                sha256=checksum,
                count=member.count,
                about=member.about,
            )
        )

    def finish(self, manifest: Manifest) -> None:
        """Write what it says of itself, and give it its name."""
        with self.member(MANIFEST) as out:
            out.write(manifest.model_dump_json(indent=1).encode() + b"\n")
        sums = "".join(f"{part.sha256}  {part.name}\n" for part in self.parts)
        with self.member(SUMS) as out:
            out.write(sums.encode())
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._draft.chmod(0o640)
        self._draft.replace(self._path)


class Archive:
    """An archive that is there. Close it after use."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidInput for what is no archive, is cut off, or is of a newer format."""
        self.path = path
        try:
            self._tar = tarfile.open(path, "r:")  # noqa: SIM115 - closed by `close`
        except (OSError, tarfile.TarError) as error:
            raise InvalidInput(f"{path.name} cannot be opened: {type(error).__name__}") from None
        try:
            self.manifest = Manifest.model_validate_json(b"".join(self.read(MANIFEST)))
        except ValidationError as error:
            self.close()
            raise InvalidInput(f"{path.name} is no archive of the desk's: {explain(error)}") from None
        except InvalidInput:
            self.close()
            raise
        if self.manifest.format > FORMAT:
            self.close()
            raise InvalidInput(f"{path.name} is of a newer desk (format {self.manifest.format}): update this")

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._tar.close()

    def part(self, name: str) -> Part:
        """What the manifest says of a member; raises InvalidInput for one it does not name."""
        found = next((part for part in self.manifest.parts if part.name == name), None)
        if found is None:
            raise InvalidInput(f"{self.path.name} has no {name}")
        return found

    def parts(self, folder: str) -> list[Part]:
        """The members below a folder."""
        return [part for part in self.manifest.parts if part.name.startswith(f"{folder}/")]

    def read(self, name: str, *, decompress: bool = False) -> Iterator[bytes]:
        """A member's content, a piece at a time. Raises InvalidInput when it cannot be read."""
        try:
            member = self._tar.extractfile(name)
            if member is None:
                raise InvalidInput(f"{self.path.name}: {name} is no file")
            expand = zlib.decompressobj(_GZIP) if decompress else None
            while piece := member.read(CHUNK):
                if expand is None:
                    yield piece
                    continue
                while piece:
                    yield expand.decompress(piece, CHUNK)
                    piece = expand.unconsumed_tail
            if expand is not None:
                yield expand.flush()
        except (OSError, EOFError, KeyError, tarfile.TarError, zlib.error) as error:
            raise InvalidInput(f"{self.path.name}: {name} cannot be read: {type(error).__name__}") from None

    def verify(self) -> None:
        """Compare every member with its checksum; raises InvalidInput naming the one that differs."""
        listed: dict[str, str] = {}
        for line in b"".join(self.read(SUMS)).decode(errors="replace").splitlines():
            checksum, _, name = line.partition("  ")
            listed[name] = checksum
        wanted = {part.name: part.sha256 for part in self.manifest.parts}
        if {name: listed.get(name) for name in wanted} != wanted or listed.keys() - wanted != {MANIFEST}:
            raise InvalidInput(f"{self.path.name} is damaged: {SUMS} and {MANIFEST} differ")
        for name, checksum in listed.items():
            found = hashlib.sha256()
            for piece in self.read(name):
                found.update(piece)
            if found.hexdigest() != checksum:
                raise InvalidInput(f"{self.path.name} is damaged: {name} is not what was written")


def checksum(path: Path) -> str:
    """Of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def drop_unfinished(folder: Path) -> None:
    """Throw away what a backup that was killed left."""
    for path in folder.glob(f"*{_PART}"):
        path.unlink(missing_ok=True)


def as_json(data: bytes) -> dict[str, Any]:
    """An object's fields, {} for what is none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


__all__ = [
    "CHUNK",
    "FORMAT",
    "Archive",
    "ArchiveWriter",
    "Manifest",
    "Member",
    "Part",
    "as_json",
    "checksum",
    "drop_unfinished",
]

"""`python -m services.backup` makes a backup a day; with a word it does one thing and ends.

`now` makes one, `list` shows which there are, `verify [ARCHIVE]` checks one or all, `restore ARCHIVE` makes an
empty desk what it was; `-` is an archive from standard input.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile

from services.backup.archive import Archive
from services.backup.keeping import made_at
from services.backup.settings import BackupSettings
from services.backup.taking import take, there
from services.shared.errors import DeskError, InvalidInput, Refused
from services.shared.service import configure_logging, load_settings

USAGE = "usage: python -m services.backup [now | list | verify [ARCHIVE] | restore (ARCHIVE | -)]"
FAILED, USED_WRONGLY, REFUSED = 1, 2, 4  # as `desk` has them


def _found(folder: Path, name: str) -> Path:
    """An archive by its path, or by its name in the folder."""
    for path in (Path(name), folder / name):
        if path.is_file():
            return path
    raise InvalidInput(f"there is no archive {name} (python -m services.backup list)")


def _list(folder: Path) -> None:
    found = there(folder)
    for name, made in found.items():
        try:
            with Archive(folder / name) as archive:
                events = archive.part("database/events.gz").count
                about = f"{events} events, revision {archive.manifest.schema_revision}"
        except InvalidInput as error:
            about = str(error)
        size = (folder / name).stat().st_size
        print(f"{name}  {made:%Y-%m-%d %H:%M} UTC  {size / 1e6:.1f} MB  {about}")
    if not found:
        print("no backup yet")


def _verify(folder: Path, names: list[str]) -> None:
    for name in names or list(there(folder)):
        with Archive(_found(folder, name)) as archive:
            archive.verify()
        print(f"{name}: whole")


def _restore(settings: BackupSettings, name: str) -> None:
    from services.backup.restoring import restore

    def tell(text: str) -> None:
        print(text, flush=True)

    if name != "-":
        asyncio.run(restore(settings, _found(settings.backup_dir, name), tell))
        return
    path = _taken_in(settings.backup_dir)
    tell(f"taken in as {path.name}")
    asyncio.run(restore(settings, path, tell))


def _taken_in(folder: Path) -> Path:
    """The archive on standard input, checked, and kept among the others."""
    try:
        with NamedTemporaryFile(dir=folder, suffix=".part") as draft:
            shutil.copyfileobj(sys.stdin.buffer, draft)
            draft.flush()
            with Archive(Path(draft.name)) as archive:
                archive.verify()
                name = archive.manifest.name
            if made_at(name) is None:
                raise InvalidInput(f"{name[:80]!r} is no archive's name")
            path = folder / name
            if not path.exists():
                path.hardlink_to(draft.name)
                path.chmod(0o660)
            return path
    except OSError as error:
        raise InvalidInput(f"the archive cannot be kept in {folder}: {error.strerror}") from None


def main(arguments: list[str]) -> int:
    """The process's exit code: 0 done, 1 failed, 2 an argument or archive is of no use, 4 refused, nothing done."""
    try:
        if not arguments:
            from services.backup.service import serve

            return serve()
        settings = load_settings(BackupSettings)
        configure_logging("backup", "ERROR")  # what a person should read is printed
        match arguments:
            case ["now"]:
                print(asyncio.run(take(settings, datetime.now(UTC))).name)
            case ["list"]:
                _list(settings.backup_dir)
            case ["verify", *names] if len(names) <= 1:
                _verify(settings.backup_dir, names)
            case ["restore", name]:
                _restore(settings, name)
                print("restored: start the desk")
            case _:
                print(USAGE, file=sys.stderr)
                return USED_WRONGLY
    except DeskError as error:
        print(f"backup: {error}", file=sys.stderr)
        if isinstance(error, InvalidInput):
            return USED_WRONGLY
        return REFUSED if isinstance(error, Refused) else FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

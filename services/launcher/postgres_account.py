"""The system user PostgreSQL runs as when the desk runs as root, and its way to the files it needs."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from services.launcher.process import Account
from services.shared.errors import InvalidInput

NAME = "tradedesk"


def system_account() -> Account | None:
    """None for an ordinary user; for root the system user `tradedesk`, made when it does not exist.

    Raises InvalidInput when it cannot be made.
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    import pwd

    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        _make()
        try:
            entry = pwd.getpwnam(NAME)
        except KeyError:
            raise InvalidInput(
                f"PostgreSQL refuses to run as root and the system user {NAME} could not be made; "
                f"make it (useradd --system {NAME}) or run the desk as an ordinary user"
            ) from None
    return Account(NAME, entry.pw_uid, entry.pw_gid)


def _make() -> None:
    commands = (
        ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
         "--shell", "/usr/sbin/nologin", NAME],
        ["adduser", "-S", "-D", "-H", "-s", "/sbin/nologin", NAME],
    )  # fmt: skip
    for command in commands:
        if shutil.which(command[0]):
            # Two desks starting at once race for this: whoever loses finds the user there.
            subprocess.run(command, check=False, capture_output=True)
            return


def let_through(folder: Path) -> None:
    """Let other users pass (not read) each directory from the root down to `folder`: `o+x`, no more."""
    for path in (*reversed(folder.absolute().parents), folder.absolute()):
        mode = path.stat().st_mode
        if not mode & stat.S_IXOTH:
            path.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


__all__ = ["NAME", "let_through", "system_account"]

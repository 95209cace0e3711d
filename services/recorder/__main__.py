"""`python -m services.recorder` records; `python -m services.recorder migrate` brings the tables up to date."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from services.shared.errors import DeskError, InvalidInput


def _password() -> str:
    """The owner's, from the file `DESK_DATABASE_PASSWORD_FILE` names."""
    name = os.environ.get("DESK_DATABASE_PASSWORD_FILE")
    if not name:
        raise InvalidInput("settings (environment variables DESK_…): database_password_file: Field required")
    try:
        return Path(name).read_text().strip()
    except OSError as error:
        raise InvalidInput(f"secret file {Path(name).name} cannot be read: {error.strerror}") from None


def main(arguments: list[str]) -> int:
    """The process's exit code: 0 done, 1 failed, 2 used wrongly."""
    try:
        if arguments == ["migrate"]:
            from services.recorder.migrate import migrate

            url = os.environ.get("DESK_DATABASE_URL", "postgresql://owner@127.0.0.1:5432/desk")
            migrate(url, _password())
            return 0
        if not arguments:
            from services.recorder.service import serve

            return serve()
    except DeskError as error:
        print(f"recorder: {error}", file=sys.stderr)
        return 1
    print("usage: python -m services.recorder [migrate]", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

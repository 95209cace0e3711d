"""`python -m services.recorder` records; `python -m services.recorder migrate` brings the tables up to date."""

from __future__ import annotations

import sys

from services.shared.errors import DeskError


def main(arguments: list[str]) -> int:
    """The process's exit code: 0 done, 1 failed, 2 used wrongly."""
    try:
        if arguments == ["migrate"]:
            from services.recorder.settings import MigrationSettings
            from services.recorder.migrate import migrate
            from services.shared.service import load_settings, read_secret

            settings = load_settings(MigrationSettings)
            migrate(settings.database_url, read_secret(settings.database_password_file))
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

"""`python -m services.api`: the API, told by `DESK_*` in the environment."""

from __future__ import annotations

import sys

from services.api.service import ApiSettings, serve
from services.shared.errors import InvalidInput
from services.shared.service import load_settings, run_service


def main() -> int:
    """Run until SIGTERM; returns the exit code."""
    try:
        settings = load_settings(ApiSettings)
    except InvalidInput as error:
        print(f"api: {error}", file=sys.stderr)
        return 2
    return run_service("api", settings, lambda health: serve(settings, health))


if __name__ == "__main__":
    raise SystemExit(main())

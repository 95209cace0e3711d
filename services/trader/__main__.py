"""`python -m services.trader`: the trader's process."""

from __future__ import annotations

import sys

from services.shared.errors import InvalidInput
from services.shared.service import load_settings, run_service
from services.trader.process import serve
from services.trader.settings import TraderSettings


def main() -> int:
    """Run until told to stop; 2 when the settings are wrong."""
    try:
        settings = load_settings(TraderSettings)
    except InvalidInput as error:
        sys.stderr.write(f"trader: {error}\n")
        return 2
    return run_service("trader", settings, lambda health: serve(settings, health))


if __name__ == "__main__":
    sys.exit(main())

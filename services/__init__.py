"""The four services of the desk, the library they share, and the launcher that runs them."""

import sys


def _import_structlog_without_rich() -> None:
    """structlog imports rich where there is one, for tracebacks in colour that no service prints: a
    quarter of the time that a service needs to start."""
    if "rich" in sys.modules or "structlog" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]


_import_structlog_without_rich()

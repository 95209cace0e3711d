"""Where the pages explain what to do about an alert: each code's place in the documentation. Pure."""

from __future__ import annotations

_EMERGENCY = "/docs/emergency"
_PLACES: dict[str, str] = {
    "guard_silent": f"{_EMERGENCY}#the-guard-is-silent",
    "risk_silent": f"{_EMERGENCY}#the-guard-is-silent",
    "trader_silent": f"{_EMERGENCY}#the-trader-is-silent",
    "trader_taken_over": f"{_EMERGENCY}#a-standby-has-taken-over",
    "recorder_silent": f"{_EMERGENCY}#nats-or-the-database-is-down",
    "nats_away": f"{_EMERGENCY}#nats-or-the-database-is-down",
    "files_missing": f"{_EMERGENCY}#a-file-of-the-run-is-gone",
    "run_failed": f"{_EMERGENCY}#a-run-has-failed",
    "reset_refused": f"{_EMERGENCY}#a-halt",
    "waiting_for_market": f"{_EMERGENCY}#it-will-not-stop",
    "alert_channel": "/docs/troubleshooting#alerts",
    "undersized_expected": "/docs/limits#why-an-order-was-denied",
    "test": "/docs/operations#alerts",
}
_DENIED = "denied_"


def place(code: str, severity: str) -> str:
    """The address of the page that says what to do; a halt's cause is named by its limit."""
    if code in _PLACES:
        return _PLACES[code]
    if code.startswith(_DENIED):
        return "/docs/limits#why-an-order-was-denied"
    if severity == "CRITICAL":
        return f"{_EMERGENCY}#a-halt"
    return "/docs/limits#what-the-actions-do" if severity == "WARNING" else "/docs/troubleshooting"


def named_places() -> tuple[str, ...]:
    """Every address there is, for a test that looks whether it leads anywhere."""
    unnamed = (
        place("denied_x", "WARNING"),
        place("x", "CRITICAL"),
        place("x", "WARNING"),
        place("x", "INFO"),
    )
    return (*_PLACES.values(), *unnamed)

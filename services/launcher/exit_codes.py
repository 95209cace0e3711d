"""The exit codes of `desk`, the same for every command; `desk --help` and the docs list them."""

from __future__ import annotations

DONE = 0
FAILED = 1
USAGE = 2
NOT_RUNNING = 3
REFUSED = 4
ALREADY_RUNNING = 5
UNDER_WAY = 6

MEANINGS = {
    DONE: "done",
    FAILED: "failed; the reason is on standard error",
    USAGE: "an option, an argument or a file cannot be used",
    NOT_RUNNING: "no running desk was found",
    REFUSED: "the desk refused, and said why",
    ALREADY_RUNNING: "another desk up already runs on this data directory",
    UNDER_WAY: "taken on, but not done within --wait seconds",
}

__all__ = [
    "ALREADY_RUNNING",
    "DONE",
    "FAILED",
    "MEANINGS",
    "NOT_RUNNING",
    "REFUSED",
    "UNDER_WAY",
    "USAGE",
]

"""What of the streams comes back: what the restored trader and guard know, and nothing they would say anew."""

from __future__ import annotations

from typing import Any

import pytest

from services.backup.cut import Memory, survives
from services.shared import subjects

LIVE = Memory.of(
    {
        "number": 40,
        "commands_seq": 3,
        "signals_seq": 7,
        "run": {"run_id": "run-2", "speed": 36000.0, "seqs": {"trader": 100, "feed": 50}},
    },
    {"seqs": {"run-1": 4, "run-2": 9, "desk.main.guard": 2}, "guard": {"run_id": "run-2", "mode": "live"}},
)
LOCKSTEP = Memory.of(
    {"run": {"run_id": "run-2", "speed": 0.0, "seqs": {}}}, {"guard": {"run_id": "run-2", "mode": "lockstep"}}
)


def _kept(emitter: str, run_id: str, seq: int, memory: Memory = LIVE) -> bool:
    said = {"trader": "main", "run_id": run_id, "emitter": emitter, "seq": seq}
    return survives(subjects.EVENTS, "status.main", said, {"main": memory})


@pytest.mark.parametrize(
    ("emitter", "run_id", "last"),
    [
        ("trader", "run-2", 100),
        ("feed", "run-2", 50),
        ("guard", "run-2", 9),
        ("guard", "desk.main.guard", 2),
        ("trader", "desk.main.command", 3 * 16 + 16),
        ("trader", "desk.main.waiting", 3 * 16 + 16),
        ("trader", "desk.main.signal", 7 * 16 + 16),
        ("trader", "desk.main.files", 40 * 16 + 16),
    ],
)
def test_up_to_the_last_seq_known_it_comes_back_and_not_beyond(emitter: str, run_id: str, last: int) -> None:
    assert _kept(emitter, run_id, last)
    assert not _kept(emitter, run_id, last + 1)


def test_a_run_that_began_later_does_not_come_back() -> None:
    assert not _kept("trader", "run-3", 1)
    assert not _kept("feed", "run-3", 1)
    assert not _kept("guard", "run-3", 1)
    assert not _kept("trader", "run-1", 1, Memory())


def test_what_has_no_seq_that_is_used_again_comes_back() -> None:
    assert _kept("api", "a process's life", 1)
    assert survives(subjects.EVENTS, "signal.main", {"id": "s1", "side": "buy"}, {"main": LIVE})
    assert survives(subjects.EVENTS, "signal.main", {}, {})


@pytest.mark.parametrize("said", [{"by": "a person"}, {"by": "guard", "run_id": "run-1"}, {}])
def test_every_command_of_a_person_comes_back(said: dict[str, Any]) -> None:
    for memory in (LIVE, LOCKSTEP):
        assert survives(subjects.COMMANDS, "command.main.halt", said, {"main": memory})
        assert survives(subjects.COMMANDS, "command.main.deploy", said, {"main": memory})


def test_a_guards_halt_comes_back_live_and_is_found_again_in_lockstep() -> None:
    said = {"by": "guard", "run_id": "run-2"}
    assert survives(subjects.COMMANDS, "command.main.halt", said, {"main": LIVE})
    assert not survives(subjects.COMMANDS, "command.main.halt", said, {"main": LOCKSTEP})

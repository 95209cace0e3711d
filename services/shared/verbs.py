"""The verbs of commands, by themselves: who needs only subjects need not wait for every message's model."""

from __future__ import annotations

from typing import Literal, TypeAlias

Verb: TypeAlias = Literal["deploy", "pause", "resume", "stop", "halt", "reset"]
VERBS: tuple[Verb, ...] = ("deploy", "pause", "resume", "stop", "halt", "reset")
ASKED: tuple[str, ...] = (*VERBS, "limits")
"""What `control.<t>.*` can be asked: every command, and limits, which the guard answers."""
STORED_BY_THE_GUARD: tuple[Verb, ...] = ("reset",)
"""Commands that clear what the guard has set: the trader may not store them, not even for somebody else."""

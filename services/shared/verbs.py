"""The verbs of commands, by themselves: who needs only subjects need not wait for every message's model."""

from __future__ import annotations

from typing import Literal, TypeAlias

Verb: TypeAlias = Literal["deploy", "pause", "resume", "stop", "halt", "reset"]
VERBS: tuple[Verb, ...] = ("deploy", "pause", "resume", "stop", "halt", "reset")
ASKED: tuple[str, ...] = (*VERBS, "limits")
"""What `control.<t>.*` can be asked: every command, and limits, which the guard answers."""
LOWERS_RISK: tuple[Verb, ...] = ("pause", "stop", "halt")
"""Commands that do no harm when they come late or twice, and may do some when they do not come."""

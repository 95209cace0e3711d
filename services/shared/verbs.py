"""The verbs of commands, by themselves: who needs only subjects need not wait for every message's model."""

from __future__ import annotations

from typing import Literal, TypeAlias

Verb: TypeAlias = Literal["deploy", "pause", "resume", "stop", "halt", "reset"]
VERBS: tuple[Verb, ...] = ("deploy", "pause", "resume", "stop", "halt", "reset")

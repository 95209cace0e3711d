"""What comes back for a command, a signal, a changed limit."""

from __future__ import annotations

from typing import Literal

from services.api.answers.base import RUN, Answer, Time, example


class DeployAnswer(Answer):
    """A deployment that has begun. `ignored` names fields of the request that mean nothing."""

    model_config = example(
        status="DEPLOYED",
        command_id="api-5d0b8f1e3b6f5a0c",
        run_id=RUN,
        phase="MONITORING",
        deployment_time="2026-11-22T20:00:00Z",
        expected_completion="2026-11-25T20:00:00Z",
        reason="",
        ignored=[],
    )

    status: Literal["DEPLOYED"]
    command_id: str
    run_id: str
    phase: str
    deployment_time: Time | None
    expected_completion: Time | None
    reason: str = ""
    ignored: tuple[str, ...] = ()


class CommandAnswer(Answer):
    """A command that is done, or under way: then `link` is where to look. `state` is how far it came."""

    model_config = example(
        status="done",
        command_id="api-5d0b8f1e3b6f5a0c",
        verb="stop",
        state="done",
        reason="",
        link="/api/commands/api-5d0b8f1e3b6f5a0c",
        ignored=[],
    )

    status: Literal["done", "under_way"]
    command_id: str
    verb: str
    state: Literal["stored", "accepted", "blocked", "flat", "done"]
    reason: str = ""
    link: str
    ignored: tuple[str, ...] = ()


class CommandStep(Answer):
    """One thing the desk said about a command, and when."""

    state: str
    reason: str
    time: Time


class CommandHistory(Answer):
    """A command's life so far."""

    model_config = example(
        command_id="api-5d0b8f1e3b6f5a0c",
        verb="stop",
        trader="main",
        state="done",
        final=True,
        reason="",
        steps=[{"state": "accepted", "reason": "", "time": "2026-11-22T20:00:00Z"}],
    )

    command_id: str
    verb: str
    trader: str
    state: str
    final: bool
    reason: str
    steps: list[CommandStep]


class SignalAnswer(Answer):
    """A signal that is stored; the strategy takes it from there. `place` is its sequence in the stream."""

    model_config = example(status="stored", id="my-signal-1", place=812)

    status: Literal["stored"]
    id: str
    place: int


class LimitsAnswer(Answer):
    """The limits in force after a change."""

    model_config = example(status="accepted", limits={"drawdown": "2500"}, reason="")

    status: Literal["accepted"]
    limits: dict[str, str]
    reason: str = ""


class ChannelTrial(Answer):
    """One alert channel, by its number and kind, and whether it took the trial alert."""

    channel: str
    taken: bool


class TrialAnswer(Answer):
    """What each alert channel made of a trial alert."""

    model_config = example(channels=[{"channel": "1-mailtos", "taken": True}])

    channels: list[ChannelTrial]

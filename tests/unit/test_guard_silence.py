"""TRADING 6: silence, and from when it counts."""

from __future__ import annotations

from services.risk.silence import Heartbeats


def said(beats: Heartbeats, now: float) -> list[tuple[str, str]]:
    """What is said at `now`."""
    return [(silence.service, silence.state) for silence in beats.look(now, {})]


def look_until(beats: Heartbeats, start: float, end: float) -> list[tuple[str, str]]:
    """Everything said from `start` to `end`, looking twice a second."""
    found, now = [], start
    while now <= end:
        found += said(beats, now)
        now += 0.5
    return found


def test_a_service_that_is_heard_is_never_silent() -> None:
    beats = Heartbeats(0, ["trader"])
    for now in range(60):
        beats.heard("trader", now)
        assert said(beats, now + 0.5) == []


def test_silence_is_said_after_fifteen_seconds_once_and_its_end_once() -> None:
    beats = Heartbeats(0, ["recorder"])
    assert look_until(beats, 0, 14.5) == []
    assert said(beats, 15) == [("recorder", "fell")]
    assert said(beats, 15.5) == [("recorder", "lasts")]
    beats.heard("recorder", 16)
    assert said(beats, 16) == [("recorder", "back")]
    assert said(beats, 16.5) == []


def test_silence_counts_from_the_guards_own_start_at_the_earliest() -> None:
    beats = Heartbeats(1000, ["trader"])
    assert beats.silent_for("trader", 1010) == 10


def test_a_reconnection_starts_the_count_over() -> None:
    beats = Heartbeats(0, ["trader"])
    assert look_until(beats, 0, 14) == []
    beats.start_over(14)
    assert beats.silent_for("trader", 28) == 14
    assert look_until(beats, 14.5, 28.5) == []
    assert said(beats, 29) == [("trader", "fell")]


def test_a_guard_that_stood_still_itself_accuses_nobody() -> None:
    beats = Heartbeats(0, ["trader"])
    assert said(beats, 0.5) == []
    # SIGSTOP for five minutes: the heartbeats of that time were not lost, they were not read.
    assert said(beats, 300) == []
    assert beats.silent_for("trader", 310) == 10


def test_each_service_may_have_its_own_patience() -> None:
    beats = Heartbeats(0, ["trader", "api"])
    for now in (0.5, 1, 1.5):
        assert beats.look(now, {"trader": 2}) == []
    (silence,) = beats.look(2, {"trader": 2})
    assert (silence.service, silence.state, silence.seconds) == ("trader", "fell", 2)


def test_a_service_nobody_asked_to_watch_is_not_watched() -> None:
    beats = Heartbeats(0, ["trader"])
    beats.heard("stranger", 1)
    assert {service for service, _ in look_until(beats, 0, 60)} == {"trader"}

"""TRADING 6: silence, and from when it counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.risk.silence import Heartbeats, Silence


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
    found = []
    for second in range(16, 40):
        beats.heard("recorder", second)
        found += said(beats, second)
    assert found == [("recorder", "back")]


_FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def lives(up: float, away: float, total: float) -> list[Silence]:
    """What is said of a trader that was well for a minute, and whose processes are then heard each second for `up`
    seconds and not at all for `away`."""
    beats, found = Heartbeats(-60, ["trader"]), list[Silence]()
    for tick in range(-120, int(total * 2)):
        now = tick / 2
        life, at = divmod(now, up + away) if now >= 0 else (-1, 0)
        if tick % 2 == 0 and at < up:
            beats.heard("trader", now, _FIRST + timedelta(seconds=life))
        found += beats.look(now, {})
    return found


def test_a_trader_that_hangs_at_each_start_is_away_from_the_first_time_on() -> None:
    found = lives(up=2, away=45, total=400)
    assert [silence.state for silence in found].count("fell") == 1
    assert "back" not in {silence.state for silence in found}
    longest = max(found, key=lambda silence: silence.seconds)
    assert longest.seconds > 390
    assert longest.started == 9
    # So it comes to what the guard halts at, and past it.
    assert {int(silence.seconds) for silence in found} >= {120, 121, 122, 123}


def test_a_trader_that_dies_at_each_start_is_never_long_silent_and_away_all_the_same() -> None:
    found = lives(up=3, away=4, total=200)
    assert found[0].state == "fell"
    assert found[0].started == 3
    assert found[0].seconds < 20
    assert {silence.state for silence in found} == {"fell", "lasts"}
    assert found[-1].seconds > 195


def test_a_trader_that_hangs_soon_after_its_first_start_was_silent_since_then() -> None:
    beats = Heartbeats(0, ["trader"])
    said = []
    for second in range(60):
        if second < 12:
            beats.heard("trader", second, _FIRST)
        said += beats.look(second, {})
    assert said[0] == Silence("trader", "fell", 15)


def test_one_restart_is_not_told() -> None:
    assert lives(up=100, away=4, total=200) == []


def test_a_trader_that_comes_back_late_has_time_to_be_well() -> None:
    beats = Heartbeats(0, ["trader"])
    seconds = []
    for second in range(200):
        if second < 20 or second > 137:
            beats.heard("trader", second, _FIRST if second < 20 else _FIRST + timedelta(1))
        seconds += [(second, each.state, each.seconds) for each in beats.look(second, {})]
    assert [each for each in seconds if each[2] >= 120] == []
    assert seconds[-1] == (153, "back", 0.0)


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

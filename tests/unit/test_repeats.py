"""What counts as a repeat of a command, and how long it is remembered."""

from __future__ import annotations

import pytest

from services.shared.commands import (
    AnyCommand,
    LimitsRequest,
    named_id,
    noting_ignored,
    parse_command,
    parse_limits_request,
)
from services.shared.errors import InvalidInput
from services.shared.repeats import CarriedOut, identity

STOPS = ("pause", "stop", "halt")


def known_as(verb: str, data: str) -> str:
    command: AnyCommand | LimitsRequest
    command, _ = (
        parse_limits_request(data.encode()) if verb == "limits" else parse_command(verb, data.encode())
    )
    return identity(verb, command)


@pytest.mark.parametrize(
    ("verb", "first", "second"),
    [
        ("stop", '{"command_id": "a"}', '{"command_id": "a", "mode": "flatten"}'),
        ("stop", '{"command_id": "a", "by": "ann"}', '{"command_id": "a", "by": "bob", "reason": "late"}'),
        (
            "deploy",
            '{"command_id": "a", "expires": "2026-01-01T00:00:00Z"}',
            '{"command_id": "a", "expires": "2026-01-01T00:01:00Z"}',
        ),
        (
            "limits",
            '{"command_id": "a", "values": {"drawdown": 300}}',
            '{"values": {"drawdown": "300"}, "command_id": "a"}',
        ),
    ],
)
def test_the_same_asked_again_under_its_id_is_a_repeat(verb: str, first: str, second: str) -> None:
    assert known_as(verb, first) == known_as(verb, second) != ""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("deploy", '{"command_id": "a"}'), ("stop", '{"command_id": "a"}')),
        (("stop", '{"command_id": "a"}'), ("halt", '{"command_id": "a"}')),
        (("stop", '{"command_id": "a"}'), ("stop", '{"command_id": "b"}')),
        (("stop", '{"command_id": "a", "mode": "graceful"}'), ("stop", '{"command_id": "a"}')),
        (("halt", '{"command_id": "a", "run_id": "r1"}'), ("halt", '{"command_id": "a", "run_id": "r2"}')),
        (("deploy", '{"command_id": "a"}'), ("deploy", '{"command_id": "a", "strategy": "rsi"}')),
        (
            ("limits", '{"command_id": "a", "values": {"drawdown": "300"}}'),
            ("limits", '{"command_id": "a", "values": {"drawdown": "200"}}'),
        ),
    ],
)
def test_another_verb_id_or_content_is_no_repeat(first: tuple[str, str], second: tuple[str, str]) -> None:
    assert known_as(*first) != known_as(*second)


def test_a_command_without_an_id_is_never_a_repeat() -> None:
    done = CarriedOut()
    done.note(known_as("stop", "{}"), 4)
    assert known_as("stop", "{}") not in done
    assert done.kept() == {}


def test_what_was_carried_out_is_remembered_with_its_place_and_over_a_restart() -> None:
    done = CarriedOut()
    done.note(known_as("stop", '{"command_id": "a"}'), 4)
    done.note(known_as("stop", '{"command_id": "a"}'), 9)
    again = CarriedOut(done.kept())
    assert again.place(known_as("stop", '{"command_id": "a"}')) == 4
    assert again.place(known_as("stop", '{"command_id": "b"}')) is None


def test_the_memory_is_bounded_and_forgets_the_oldest_first() -> None:
    done = CarriedOut()
    names = [known_as("stop", f'{{"command_id": "a{number}"}}') for number in range(1000)]
    for place, name in enumerate(names, start=1):
        done.note(name, place)
    assert list(done.kept()) == names[-len(done.kept()) :]
    assert 100 <= len(done.kept()) < 1000
    assert len(str(done.kept())) < 8 * 1024, "it is part of every snapshot"


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b"null", b"", b"{}", b'{"command_id": 7}', b'{"command_id": "a b"}', b"\xff"]
)
def test_a_request_whose_id_cannot_be_used_is_answered_under_a_new_one(data: bytes) -> None:
    assert named_id(data)
    assert named_id(data) != named_id(data)


def test_a_request_that_cannot_be_used_is_answered_under_its_own_id_where_that_can_be_read() -> None:
    assert named_id(b'{"command_id": "a", "mode": "now"}') == "a"


def test_an_empty_limits_request_changes_nothing_and_unknown_fields_are_named() -> None:
    asked, ignored = parse_limits_request(b" ")
    assert (asked.values, ignored) == ({}, ())
    assert parse_limits_request(b'{"values": {}, "oops": 1}')[1] == ("oops",)
    with pytest.raises(InvalidInput, match="values"):
        parse_limits_request(b"{}")


def test_ignored_fields_are_noted_behind_the_reason() -> None:
    assert noting_ignored("", ()) == ""
    assert noting_ignored("late", ()) == "late"
    assert noting_ignored("", ("a", "b")) == "ignored unknown fields: a, b"
    assert noting_ignored("late", ("a",)) == "late; ignored unknown fields: a"


def test_a_stop_of_an_earlier_run_is_none_of_this_one_but_a_deploy_or_reset_stays_done() -> None:
    commands = {
        verb: known_as(verb, '{"command_id": "a", "reason": "x"}') for verb in ("deploy", "reset", *STOPS)
    }
    done = CarriedOut()
    for place, known in enumerate(commands.values(), 1):
        done.note(known, place)
    done.run_began()
    assert {verb for verb, known in commands.items() if known in done} == {"deploy", "reset"}

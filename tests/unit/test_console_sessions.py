"""How long a session holds, what ends it, and what is made of what browsers and people say of themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.auth import Role
from services.api.console.login import own_path
from services.api.console.session_book import (
    LASTS,
    LONGEST,
    MOST,
    Session,
    SessionBook,
    agent_of,
    key_of,
    label_of,
    read_session,
    write_session,
)
from services.api.console.sessions import forget

NOW = 1_800_000_000.0
DAY = 86400.0
TOKENS: dict[Role, str | None] = {"operator": "first", "viewer": "second"}


def _session(key: str = "k", **changes: object) -> Session:
    begun = Session(key=key, label="Anna", role="operator", token="first", created=NOW, seen=NOW)
    return replace(begun, **changes)  # type: ignore[arg-type]


def _book(*sessions: Session) -> SessionBook:
    book = SessionBook(TOKENS.get)
    for number, session in enumerate(sessions, 1):
        book.keep(session, number)
    return book


def test_a_session_holds_for_a_week_from_its_last_use() -> None:
    book = _book(_session())
    assert book.find("k", NOW + LASTS - 1) is not None
    assert book.find("k", NOW + LASTS) is None
    book.use("k", NOW + 6 * DAY)
    assert book.find("k", NOW + 12 * DAY) is not None
    assert [session.key for session in book.over(NOW + 13 * DAY)] == ["k"]


def test_a_session_in_daily_use_ends_after_a_month_all_the_same() -> None:
    book = _book(_session())
    for day in range(40):
        book.use("k", NOW + day * DAY)
        assert (book.find("k", NOW + day * DAY) is not None) == (day < 30)
    assert _session(seen=NOW + 29 * DAY).until == NOW + LONGEST


def test_what_is_over_cannot_be_used_back_to_life() -> None:
    book = _book(_session())
    book.use("k", NOW + LASTS + 1)
    assert book.find("k", NOW + LASTS + 1) is None


def test_a_session_of_another_token_does_not_hold() -> None:
    tokens = dict(TOKENS)
    book = SessionBook(tokens.get)
    book.keep(_session("a"), 1)
    book.keep(_session("b", role="viewer", token="second"), 2)
    book.keep(_session("c", role="viewer", token="first"), 3)
    assert {session.key for session in book.holding(NOW)} == {"a", "b"}
    tokens["operator"] = "another"
    assert {session.key for session in book.holding(NOW)} == {"b"}
    tokens["viewer"] = None
    assert book.holding(NOW) == []


def test_what_was_ended_stays_ended_whatever_is_read_later() -> None:
    book = _book(_session())
    book.end("k")
    book.keep(_session(seen=NOW + 5), 9)
    assert book.find("k", NOW) is None


def test_an_older_copy_takes_nothing_back() -> None:
    book = _book()
    book.keep(_session(label="new", seen=NOW + 50), 8)
    book.keep(_session(label="old", seen=NOW + 99), 7)
    found = book.find("k", NOW)
    assert found is not None
    assert (found.label, found.seen) == ("new", NOW + 50)


def test_a_use_is_written_back_now_and_then_and_once() -> None:
    book = _book(_session())
    book.use("k", NOW + 60)
    assert book.unwritten() == []
    book.use("k", NOW + 400)
    ((session, revision),) = book.unwritten()
    assert (session.seen, revision) == (NOW + 400, 1)
    book.keep(session, 2)
    assert book.unwritten() == []


def test_beyond_the_most_the_longest_unused_end() -> None:
    book = _book(*(_session(str(number), seen=NOW + number) for number in range(MOST + 3)))
    assert {session.key for session in book.over(NOW + 1000)} == {"0", "1", "2"}


def test_a_session_reads_back_as_it_was_written_and_has_no_secret_in_it() -> None:
    session = _session(key_of("the cookie's secret"), agent="Firefox on Linux")
    assert read_session(write_session(session)) == session
    assert b"secret" not in write_session(session)
    for other in (b"", b"{}", b"\xff", b'{"key": 1}'):
        assert read_session(other) is None


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_cookie_is_of_one_host_and_port_and_secure_under_tls(scheme: str) -> None:
    cookie = forget({"type": "http", "scheme": scheme, "headers": [(b"host", b"desk.example:8443")]})
    parts = cookie.split("; ")
    assert parts[0] == "desk_session_8443="
    assert {"Path=/", "HttpOnly", "SameSite=Strict", "Max-Age=0"} <= set(parts)
    assert ("Secure" in parts) == (scheme == "https")
    assert "Domain" not in cookie


@pytest.mark.parametrize(
    ("typed", "label"),
    [
        ("  Anna  Berg ", "Anna Berg"),
        ("", ""),
        ("\x00\n\u202e", ""),
        ("x" * 99, "x" * 40),
        ("Ann\u0000a", "Ann a"),
    ],
)
def test_a_name_is_one_short_line(typed: str, label: str) -> None:
    assert label_of(typed) == label


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/156.0 Safari/537.36 Edg/156.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1",
            "Safari on iPhone",
        ),
        ("curl/8.5.0 <script>", "curl/8.5.0"),
        ("", ""),
    ],
)
def test_a_browser_is_named_in_words(header: str, words: str) -> None:
    assert agent_of(header) == words


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ("/trades", "/trades"),
        ("/runs?a=b#c", "/runs"),
        ("/", "/"),
        ("", "/"),
        ("trades", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("/login?next=/login", "/"),
        ("/logout", "/"),
        ("/api/export", "/"),
        ("/é", "/"),
        ("/" + "x" * 600, "/"),
    ],
)
def test_after_a_login_nobody_is_sent_elsewhere(wanted: str, path: str) -> None:
    assert own_path(wanted) == path


@given(st.text(max_size=60))
def test_whatever_is_wanted_a_path_of_ours_comes_of_it(wanted: str) -> None:
    path = own_path("/" + wanted)
    assert path.startswith("/")
    assert not path.startswith("//")
    assert "\\" not in path
    assert path.isprintable()

"""Nothing comes in that cannot be stored or sent back, and nobody without the token."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from services.api.auth import Doorkeeper, needs_token
from services.api.cursor import read_cursor, write_cursor
from services.api.door import LONGEST_ADDRESS, check_address, read_json
from services.api.problems import (
    AddressTooLong,
    ForeignHost,
    ForeignOrigin,
    MalformedRequest,
    NotAuthenticated,
    Problem,
    ViewerMayNot,
    tree,
)
from services.shared.errors import InvalidInput

TOKEN = "a-token-of-some-length"
VIEWER = "another-token-to-look-with"
KEEPER = Doorkeeper(TOKEN, ["desk.example"], viewer_token=VIEWER)


def _headers(**values: str) -> Headers:
    return Headers(
        {"host": "127.0.0.1:8000", **{name.replace("_", "-"): value for name, value in values.items()}}
    )


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "\\u0000"}',
        b'{"\\u0000": 1}',
        b'{"a": "\\ud800"}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": 0.' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b"[" * 40 + b"]" * 40,
        b'{"a": "\xff"}',
        b"\xff\xfe{",
        b"not json",
        b"",
    ],
)
def test_a_body_that_cannot_be_kept_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest) as caught:
        read_json(body)
    assert "999" not in caught.value.detail


def test_an_escaped_backslash_before_u0000_is_ordinary_text() -> None:
    assert read_json(b'{"a": "\\\\u0000"}') == {"a": "\\u0000"}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), st.lists, max_leaves=20
    )
)
def test_what_json_can_say_comes_through_unless_it_cannot_be_stored(value: Any) -> None:
    import json

    text = json.dumps(value)
    if "\\u0000" in text or "\x00" in str(value):
        return
    assert read_json(text.encode()) == value


@pytest.mark.parametrize(
    ("path", "query"),
    [("/api/trades", b"run_id=%00"), ("/api/trades", b"run_id=%ff"), ("/api/%00", b""), ("/api/%C3%28", b"")],
)
def test_an_address_that_is_no_text_is_malformed(path: str, query: bytes) -> None:
    with pytest.raises(MalformedRequest):
        check_address({"path": path, "raw_path": path.encode(), "query_string": query})


def test_an_address_longer_than_eight_kib_is_refused() -> None:
    with pytest.raises(AddressTooLong):
        check_address({"path": "/", "raw_path": b"/", "query_string": b"a" * LONGEST_ADDRESS})


@pytest.mark.parametrize(
    "authorization",
    ["", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ", "Bearer \xe9\xff"],
)
def test_anything_but_the_token_stays_out(authorization: str) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        KEEPER.check("GET", "/api/status", _headers(authorization=authorization))
    assert TOKEN not in caught.value.detail


def test_the_token_comes_in_whatever_the_case_of_its_scheme() -> None:
    KEEPER.check("GET", "/api/status", _headers(authorization=f"Bearer {TOKEN}"))
    KEEPER.check("POST", "/api/stop", _headers(authorization=f"bearer {TOKEN}"))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW", "get"])
def test_a_viewer_reads_and_changes_nothing(method: str) -> None:
    keys = _headers(authorization=f"Bearer {VIEWER}")
    for reading in ("GET", "HEAD"):
        KEEPER.check(reading, "/api/status", keys)
        KEEPER.check(reading, "/metrics", keys)
    with pytest.raises(ViewerMayNot) as caught:
        KEEPER.check(method, "/api/stop", keys)
    assert VIEWER not in caught.value.detail


def test_each_token_has_its_role_and_secrets_that_end_with_it() -> None:
    assert (KEEPER.role_of(TOKEN), KEEPER.role_of(VIEWER)) == ("operator", "viewer")
    assert KEEPER.role_of("") is None
    rotated = Doorkeeper(TOKEN, viewer_token=VIEWER + "2")
    assert rotated.key("operator", "x") == KEEPER.key("operator", "x") != KEEPER.key("operator", "y")
    assert rotated.key("viewer", "x") != KEEPER.key("viewer", "x") != KEEPER.key("operator", "x")
    alone = Doorkeeper(TOKEN)
    assert (alone.role_of(VIEWER), alone.key("viewer", "x")) == (None, None)
    with pytest.raises(InvalidInput):
        Doorkeeper(TOKEN, viewer_token=TOKEN)


def _with_session(method: str, path: str, **headers: str) -> bool:
    try:
        KEEPER.check(method, path, _headers(**headers), lambda: True)
    except Problem:
        return False
    return True


def test_a_session_downloads_from_our_own_pages_and_does_nothing_else() -> None:
    assert _with_session("GET", "/api/export")
    assert _with_session("HEAD", "/api/export", sec_fetch_site="same-origin")
    assert _with_session("GET", "/api/export", sec_fetch_site="none")
    with pytest.raises(NotAuthenticated):
        KEEPER.check("GET", "/api/export", _headers(), lambda: False)
    for site in ("cross-site", "same-site"):
        assert not _with_session("GET", "/api/export", sec_fetch_site=site)
    assert not _with_session("GET", "/api/export", authorization="Bearer wrong-token-of-some-length")
    for method, path in (
        ("POST", "/api/export"),
        ("GET", "/api/status"),
        ("GET", "/api/export/"),
        ("POST", "/api/stop"),
        ("PUT", "/api/risk"),
        ("GET", "/metrics"),
    ):
        assert not _with_session(method, path, origin="http://127.0.0.1:8000")


@pytest.mark.parametrize("path", ["/api/health", "/livez", "/readyz", "/", "/console", "/apiary"])
def test_health_probes_and_pages_need_no_token(path: str) -> None:
    assert not needs_token(path)


@pytest.mark.parametrize(
    "path", ["/api", "/api/", "/api/status", "/metrics", "/api/health/", "/api/openapi.json"]
)
def test_everything_else_of_the_api_does(path: str) -> None:
    assert needs_token(path)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000", "desk.example", "LOCALHOST:1"])
def test_a_request_to_one_of_our_names_is_ours(host: str) -> None:
    KEEPER.check("GET", "/livez", Headers({"host": host}))


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::1"]
)
def test_a_request_to_another_name_is_refused(host: str) -> None:
    with pytest.raises(ForeignHost):
        KEEPER.check("GET", "/livez", Headers({"host": host}))


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9000", "http://[", ""])
def test_a_foreign_origin_changes_nothing(origin: str) -> None:
    with pytest.raises(ForeignOrigin):
        KEEPER.check("POST", "/api/stop", _headers(authorization=f"Bearer {TOKEN}", origin=origin))


def test_our_own_origin_may_and_reading_is_not_asked() -> None:
    keys = {"authorization": f"Bearer {TOKEN}"}
    KEEPER.check("POST", "/api/stop", _headers(**keys, origin="http://127.0.0.1:8000"))
    KEEPER.check("GET", "/api/status", _headers(**keys, origin="https://evil.example"))


@pytest.mark.parametrize("token", ["", "short", "é" * 20, "with\nnewline-in-it-here"])
def test_a_token_that_is_none_is_refused_at_the_start(token: str) -> None:
    with pytest.raises(InvalidInput):
        Doorkeeper(token)


def test_a_cursor_reads_back_what_was_written() -> None:
    moment, known = datetime(2017, 4, 19, 9, 30, 1, 5, tzinfo=UTC), uuid4()
    assert read_cursor(write_cursor(moment, "run-1", 7), datetime, str, int) == (moment, "run-1", 7)
    assert read_cursor(write_cursor(moment, known), datetime, UUID) == (moment, known)


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=60))
def test_any_other_text_is_no_cursor(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_cursor(text, datetime, str, int)


@pytest.mark.parametrize(
    "key", [["x"], [True], [2**70], [1.5], [None], [[]], {"a": 1}, 5, "text"], ids=lambda key: repr(key)[:20]
)
def test_a_cursor_with_other_parts_is_refused(key: Any) -> None:
    import base64
    import json

    with pytest.raises(InvalidInput):
        read_cursor(base64.urlsafe_b64encode(json.dumps(key).encode()).decode(), int)


def test_every_problem_has_a_code_a_title_and_a_cure_of_its_own() -> None:
    kinds = list(tree())
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(issubclass(kind, Problem) and kind.title and kind.cure and kind.__doc__ for kind in kinds)

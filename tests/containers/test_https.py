"""The one door over https, with the certificate that the proxy signs itself for `localhost`."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator

import httpx
import pytest

from tests.containers.composed import GROUP, Composed, composed

pytestmark = [pytest.mark.xdist_group(GROUP), pytest.mark.timeout(900)]

_AUTHORITY = "/data/caddy/pki/authorities/local/root.crt"


@pytest.fixture(scope="module")
def desk() -> Iterator[Composed]:
    """A desk whose address begins with https."""
    with composed("https", https=True) as project:
        project.up()
        yield project


@pytest.fixture
def trust(desk: Composed) -> ssl.SSLContext:
    """Trusts the proxy's own authority, and nobody else."""
    return ssl.create_default_context(cadata=desk.exec("proxy", "cat", _AUTHORITY))


def test_http_leads_to_https_and_the_certificate_is_for_the_name(
    desk: Composed, trust: ssl.SSLContext
) -> None:
    asked = httpx.get(f"http://localhost:{desk.port}/trades?x=1", timeout=10)
    assert (asked.status_code, asked.headers["location"]) == (308, f"{desk.url}/trades?x=1")
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(desk.url, timeout=10)
    with httpx.Client(verify=trust, timeout=10) as browser:
        assert browser.get(f"{desk.url}/login").status_code == 200
        # HTTP/3's port is not published, so nobody is to try it.
        assert "alt-svc" not in browser.get(f"{desk.url}/login").headers


def test_a_login_over_https_is_kept_in_a_cookie_that_no_http_carries(
    desk: Composed, trust: ssl.SSLContext
) -> None:
    with httpx.Client(base_url=desk.url, verify=trust, timeout=10) as browser:
        entered = browser.post("/login", data={"token": desk.token}, headers={"Origin": desk.url})
        assert entered.status_code == 303
        [cookie] = entered.headers.get_list("set-cookie")
        assert {"Secure", "HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
        assert browser.get("/").status_code == 200
        assert browser.get("/dashboard").headers["location"].startswith("/grafana/d/")


def test_commands_and_events_pass_over_https(desk: Composed, trust: ssl.SSLContext) -> None:
    headers = {"Authorization": f"Bearer {desk.token}"}
    with httpx.Client(base_url=desk.url, verify=trust, headers=headers, timeout=60) as api:
        with api.stream("GET", "/api/events") as events:
            lines = events.iter_lines()
            next(lines)
            answer = api.post("/api/deploy", json={"strategy": "donchian"})
            assert answer.status_code == 200, answer.text
            heard = (json.loads(line[5:]) for line in lines if line.startswith("data:"))
            assert any(event.get("type") == "trade.opened" for event in heard)
        assert api.post("/api/stop", json={}).status_code in (200, 202)


def test_start_opens_the_https_address(desk: Composed) -> None:
    assert desk.url in desk.script("deploy/desktop/START.sh", "--pull", "never", *desk.without_grafana).stdout

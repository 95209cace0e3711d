"""The console's door over HTTP and its socket: sessions, origins, and what a page may load."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import InvalidStatus

from tests.api_process import ApiProcess
from tests.conftest import Database
from tests.recorded_runs import START, record_run

pytestmark = pytest.mark.xdist_group("console")


@pytest.fixture
def api(own_api: ApiProcess) -> ApiProcess:
    return own_api


async def _log_in(api: ApiProcess, token: str | None = None) -> httpx.Response:
    async def known() -> bool:
        return bool((await api.stranger.get("/console/session")).json()["session"] != "unknown")

    await api.until(known)
    return await api.stranger.post(
        "/login",
        content=f"token={token or api.token}",
        headers={"Content-Type": "application/x-www-form-urlencoded", "Origin": api.url},
    )


async def _page(api: ApiProcess) -> httpx.Response:
    """The overview, once NiceGUI is loaded."""
    found: list[httpx.Response] = []

    async def loaded() -> bool:
        found.append(await api.stranger.get("/"))
        return "is starting" not in found[-1].text

    await api.until(loaded)
    return found[-1]


async def test_without_a_session_there_is_only_the_login(api: ApiProcess) -> None:
    for path in ("/", "/trades", "/settings", "/nothing-there"):
        answer = await api.stranger.get(path)
        to = "/login" if path == "/" else f"/login?next={path}"
        assert (answer.status_code, answer.headers["location"]) == (303, to)
    for path in ("/_nicegui/x/static/nicegui.js", "/console/data/equity", "/_nicegui_ws/socket.io/?EIO=4"):
        assert (await api.stranger.get(path)).status_code == 401
    assert (await api.stranger.post("/")).status_code == 404
    page = await api.stranger.get("/login")
    assert page.status_code == 200
    assert "script-src" not in page.headers["content-security-policy"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert api.token not in page.text


async def test_a_wrong_token_begins_no_session(api: ApiProcess) -> None:
    for wrong in (api.token + "x", "%F0%9F%92%A5", "x" * 5000, f"{api.token}&token={api.token}"):
        answer = await _log_in(api, wrong)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "not this desk" in answer.text
    foreign = await api.stranger.post(
        "/login", content=f"token={api.token}", headers={"Origin": "https://evil.example"}
    )
    assert foreign.status_code == 403


async def test_a_session_is_a_strict_cookie_that_cannot_be_forged(api: ApiProcess) -> None:
    answer = await _log_in(api)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert api.token not in cookie
    ((name, morsel),) = SimpleCookie(cookie).items()
    assert name == f"desk_session_{api.url.rpartition(':')[2]}"
    for forged in (morsel.value[:-1], morsel.value + "x", morsel.value.swapcase(), "0" * 64, ".."):
        async with httpx.AsyncClient(base_url=api.url, cookies={name: forged}) as forger:
            assert (await forger.get("/")).headers["location"] == "/login"


async def test_a_page_names_its_scripts_and_loads_nothing_from_elsewhere(api: ApiProcess) -> None:
    await _log_in(api)
    first, second = await _page(api), await _page(api)
    policy = first.headers["content-security-policy"]
    (nonce,) = re.findall(r"'nonce-([^']+)'", policy)
    assert nonce not in second.text
    assert policy.startswith("default-src 'none'; script-src 'self' 'nonce-")
    scripts = re.findall(r"<script[^>]*>", first.text)
    assert len(scripts) > 5
    assert all(f'nonce="{nonce}"' in script for script in scripts)
    addresses = re.findall(r"(?:src|href)=\"([^\"]+)\"", first.text)
    assert addresses
    assert all(address.startswith(("/", "data:")) for address in addresses)
    assert first.headers["cache-control"] == "no-store"
    assert api.token not in first.text


async def test_the_socket_takes_our_own_pages_with_a_session_only(api: ApiProcess) -> None:
    answer = await _log_in(api)
    await _page(api)
    cookie = answer.headers["set-cookie"].partition(";")[0]
    address = api.url.replace("http", "ws") + "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"

    async def opens(headers: dict[str, str]) -> bool:
        try:
            async with open_socket(address, additional_headers=headers):
                return True
        except InvalidStatus as refused:
            return refused.response.status_code != 403

    assert await opens({"Cookie": cookie, "Origin": api.url})
    polled = address.replace("ws", "http", 1).replace("websocket", "polling")
    assert (await api.stranger.get(polled, headers={"Origin": api.url})).status_code == 400
    assert (await api.stranger.get(polled, headers={"Origin": "https://evil.example"})).status_code == 401
    assert not await opens({"Origin": api.url})
    assert not await opens({"Cookie": cookie})
    for foreign in ("https://evil.example", "null", "http://127.0.0.1:1", api.url + ".evil.example"):
        assert not await opens({"Cookie": cookie, "Origin": foreign})


async def test_the_api_itself_takes_no_cookie(api: ApiProcess) -> None:
    await _log_in(api)
    assert (await api.stranger.get("/api/status")).status_code == 401
    missing = await api.client.get("/api/nothing")
    assert (missing.status_code, missing.json()["type"]) == (404, "urn:tradedesk:problem:not-found")


async def test_logging_out_takes_the_cookie_away(api: ApiProcess) -> None:
    await _log_in(api)
    assert (await api.stranger.get("/login")).headers["location"] == "/"
    left = await api.stranger.post("/logout", headers={"Origin": api.url})
    assert (left.status_code, left.headers["location"]) == (303, "/login")
    assert (await api.stranger.get("/")).headers["location"] == "/login"


async def test_a_curve_is_bounded_and_of_this_trader(api: ApiProcess) -> None:
    await _log_in(api)
    await _page(api)
    empty = await api.stranger.get("/console/data/equity")
    assert empty.json() == {"run": None, "points": [], "trades": [], "complete": True}
    assert (await api.stranger.get("/console/data/equity?range=year")).status_code == 422
    asset = await api.stranger.get("/console/assets/desk.js")
    assert asset.headers["content-type"].startswith("text/javascript")
    for path in (
        "/console/assets/../entrance.py",
        "/console/assets/%2e%2e/entrance.py",
        "/console/assets/desk.py",
    ):
        assert (await api.stranger.get(path)).status_code != 200


async def test_an_open_page_does_not_hold_up_the_end(api: ApiProcess) -> None:
    answer = await _log_in(api)
    (client,) = re.findall(r"'client_id': '([0-9a-f-]+)'", (await _page(api)).text)
    address = (
        f"{api.url.replace('http', 'ws')}/_nicegui_ws/socket.io/?EIO=4&transport=websocket&client_id={client}"
        "&implicit_handshake=true&next_message_id=0&document_id=d&tab_id=t"
    )
    headers = {"Cookie": answer.headers["set-cookie"].partition(";")[0], "Origin": api.url}
    async with open_socket(address, additional_headers=headers) as socket:
        await socket.recv()  # engine.io's greeting
        await socket.send("40")
        said = ""
        while not said.startswith('42["desk"'):
            if said.startswith("40"):
                await socket.send('42["desk_here"]')
            said = str(await socket.recv())
        assert "first_steps" in said
        await api.stop()


async def test_dashboard_leads_to_grafana_with_the_last_run_in_its_own_time(
    api: ApiProcess, database: Database
) -> None:
    async def leads_to() -> tuple[str, dict[str, str]]:
        answer = await api.stranger.get("/dashboard")
        assert (answer.status_code, answer.headers["cache-control"]) == (302, "no-store")
        to = urlsplit(answer.headers["location"])
        return to.path, dict(parse_qsl(to.query))

    await _log_in(api)
    assert await leads_to() == ("/grafana/d/desk-trading", {})
    recorder = await database.connect("recorder")
    try:
        await record_run(recorder, api.trader, "replayed", trades=3)
        path, asked = await leads_to()
        assert (path, asked["var-trader"], asked["var-run"]) == (
            "/grafana/d/desk-trading",
            api.trader,
            "replayed",
        )
        first, last = START, START + timedelta(minutes=31)
        assert (asked["from"], asked["to"]) == tuple(str(int(at.timestamp() * 1000)) for at in (first, last))
        now = datetime.now(UTC)
        await record_run(recorder, api.trader, "live", trades=3, start=now - timedelta(minutes=30))
        assert (await leads_to())[1]["to"] != "now", "it is over"
        await recorder.execute("update runs set phase = 'MONITORING' where run_id = 'live'")
        assert (await leads_to())[1] == {
            "var-trader": api.trader,
            "var-run": "live",
            "from": str(int((now - timedelta(minutes=30)).timestamp() * 1000)),
            "to": "now",
        }
    finally:
        await recorder.close()

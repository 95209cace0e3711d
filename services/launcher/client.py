"""The command line's way to the running desk: its API over HTTP, found through the environment or data.

`DESK_URL` and `DESK_TOKEN` win; otherwise the notice in the data directory says where the desk is.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from services.launcher.data_dir import TOKEN, DataDir
from services.shared.errors import DeskError, DeskNotRunning, InvalidInput, Refused


class ApiError(DeskError):
    """The desk's API could not do it; the text is its own explanation."""


class NotNow(ApiError):
    """A part of the desk does not answer now, perhaps because it is being started: asking again may help."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and JSON of an answer that is not an error."""

    status: int
    body: Any


@dataclass(frozen=True, slots=True)
class Address:
    """Where the API is and its token."""

    url: str
    token: str


def elsewhere() -> str | None:
    """The address of a desk that is not this data directory's: `DESK_URL`."""
    return os.environ.get("DESK_URL") or None


def find(data: DataDir) -> Address:
    """The desk to talk to; raises DeskNotRunning when none is named and none runs."""
    url, token = elsewhere(), os.environ.get("DESK_TOKEN")
    if url is None:
        url = str(data.running().get("api_url") or "")
        if not url:
            raise DeskNotRunning(f"the desk on {data.root} is starting, and has no address yet")
    if token is None:
        token = data.read_secret(TOKEN)
    if not url.startswith(("http://", "https://")):
        raise InvalidInput(f"expected DESK_URL to begin with http:// or https://, was {url[:80]!r}")
    return Address(url.rstrip("/"), token)


class DeskClient:
    """Calls on the API; use as a context manager. Every call raises DeskNotRunning when nobody answers,
    Refused for a 403 or 409, InvalidInput for what the API cannot use, ApiError for the rest."""

    def __init__(self, address: Address) -> None:
        self.address = address
        parts = urlsplit(address.url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        # A stored answer may take the API its longest wait, 60 s; the system's proxies are none of ours.
        self._connection = kind(parts.hostname or "", parts.port or (443 if secure else 80), timeout=90)
        self._base = parts.path.rstrip("/")

    def __enter__(self) -> DeskClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """The JSON under `path`."""
        return self._ask("GET", path, None, query).body

    def post(self, path: str, body: Mapping[str, Any], query: Mapping[str, Any] | None = None) -> Answer:
        """Send JSON; returns status and JSON."""
        return self._ask("POST", path, body, query)

    def put(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Send JSON; returns status and JSON."""
        return self._ask("PUT", path, body, None)

    def download(self, path: str, query: Mapping[str, Any], out: Path) -> bool:
        """Stream `path` into the file `out`, which appears whole or not at all.

        Returns whether that is all there will ever be, by the API's own word.
        """
        draft = out.with_name(f".{out.name}.part")
        try:
            response = self._send("GET", path, None, query)
            try:
                _raise_for(response)
                complete = response.getheader("X-Desk-Complete") == "true"
                with draft.open("wb") as target:
                    while chunk := response.read(1 << 16):
                        target.write(chunk)
                draft.replace(out)
            except http.client.HTTPException:
                raise ApiError(f"{self.address.url} broke off in the middle of the file: try again") from None
            finally:
                self._connection.close()
        except OSError as error:
            raise InvalidInput(f"{out} cannot be written: {error.strerror}") from None
        finally:
            draft.unlink(missing_ok=True)
        return complete

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, Any] | None
    ) -> Answer:
        response = self._send(method, path, body, query)
        _raise_for(response)
        try:
            return Answer(response.status, json.loads(response.read()))
        except (ValueError, http.client.HTTPException):
            raise ApiError(f"{path} did not answer with JSON: is {self.address.url} the desk?") from None

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, Any] | None
    ) -> http.client.HTTPResponse:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"{self._base}{path}?{urlencode(given)}" if given else self._base + path
        headers = {"Authorization": f"Bearer {self.address.token}", "Accept": "*/*"}
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        try:
            self._connection.request(method, target, data, headers)
            return self._connection.getresponse()
        except TimeoutError:
            self._connection.close()
            raise ApiError(f"{self.address.url} did not answer in time") from None
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise DeskNotRunning(
                f"nobody answers at {self.address.url}: is the desk up? (desk status, desk doctor)"
            ) from None


def _raise_for(response: http.client.HTTPResponse) -> None:
    status = response.status
    if status < 400:
        return
    said = _detail(status, response.read())
    if status == 401:
        raise ApiError(f"the token was refused: {said} (desk token prints the right one)")
    if status == 403:
        raise Refused(f"{said} (desk token prints the operator's)")
    if status == 409:
        raise Refused(said)
    if status == 503:
        raise NotNow(said)
    if status in (400, 404, 413, 414, 415, 422):
        raise InvalidInput(said)
    raise ApiError(f"{said} (HTTP {status})")


def _detail(status: int, body: bytes) -> str:
    try:
        problem = json.loads(body)
        text = str(problem.get("detail") or problem.get("title") or "")
        fields = [f"{entry['where']}: {entry['message']}" for entry in problem.get("errors") or []]
    except (ValueError, AttributeError, KeyError, TypeError):
        return f"HTTP {status}"
    return "; ".join([text, *fields]) if text else f"HTTP {status}"


__all__ = ["Address", "Answer", "ApiError", "DeskClient", "NotNow", "find"]

"""The command line's way to the running desk: its API over HTTP, found through the environment or data.

`DESK_URL` and `DESK_TOKEN` win; otherwise the notice in the data directory says where the desk is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from services.launcher.data_dir import DataDir
from services.launcher.passwords import TOKEN
from services.shared.errors import DeskError, DeskNotRunning, InvalidInput, Refused


class ApiError(DeskError):
    """The desk's API could not do it; the text is its own explanation."""


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


def find(data: DataDir) -> Address:
    """The desk to talk to; raises DeskNotRunning when none is named and none runs."""
    url, token = os.environ.get("DESK_URL"), os.environ.get("DESK_TOKEN")
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
    Refused for a 409, InvalidInput for what the API cannot use, ApiError for the rest."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._http = httpx.Client(
            base_url=address.url,
            headers={"Authorization": f"Bearer {address.token}"},
            timeout=httpx.Timeout(10, read=90),
            trust_env=False,
        )

    def __enter__(self) -> DeskClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """The JSON under `path`."""
        return self._ask("GET", path, query=query).body

    def post(self, path: str, body: Mapping[str, Any], query: Mapping[str, Any] | None = None) -> Answer:
        """Send JSON; returns status and JSON."""
        return self._ask("POST", path, body=body, query=query)

    def put(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Send JSON; returns status and JSON."""
        return self._ask("PUT", path, body=body)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Answer:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            response = self._http.request(method, path, params=given, json=body)
        except httpx.HTTPError as error:
            raise self._nobody(error) from None
        _raise_for(response)
        try:
            return Answer(response.status_code, response.json())
        except ValueError:
            raise ApiError(f"{path} did not answer with JSON: is {self.address.url} the desk?") from None

    def _nobody(self, error: httpx.HTTPError) -> DeskError:
        if isinstance(error, httpx.TimeoutException):
            return ApiError(f"{self.address.url} did not answer in time")
        return DeskNotRunning(
            f"nobody answers at {self.address.url}: is the desk up? (desk status, desk doctor)"
        )

    def download(self, path: str, query: Mapping[str, Any], out: Path) -> int:
        """Stream `path` into the file `out`, which appears whole or not at all; returns its size."""
        given = {name: value for name, value in query.items() if value is not None}
        draft = out.with_name(f".{out.name}.part")
        try:
            with self._streamed(path, given) as response, draft.open("wb") as target:
                for chunk in response.iter_bytes(1 << 16):
                    target.write(chunk)
            draft.replace(out)
        except OSError as error:
            raise InvalidInput(f"{out} cannot be written: {error.strerror}") from None
        finally:
            draft.unlink(missing_ok=True)
        return out.stat().st_size

    @contextmanager
    def _streamed(self, path: str, query: Mapping[str, Any]) -> Iterator[httpx.Response]:
        try:
            with self._http.stream(
                "GET", path, params=query, timeout=httpx.Timeout(10, read=300)
            ) as response:
                if response.status_code >= 400:
                    response.read()
                _raise_for(response)
                yield response
        except httpx.HTTPError as error:
            raise self._nobody(error) from None


def _raise_for(response: httpx.Response) -> None:
    status = response.status_code
    if status < 400:
        return
    said = _detail(response)
    if status == 401:
        raise ApiError(f"the token was refused: {said} (desk token prints the right one)")
    if status == 409:
        raise Refused(said)
    if status in (400, 404, 413, 414, 415, 422):
        raise InvalidInput(said)
    raise ApiError(f"{said} (HTTP {status})")


def _detail(response: httpx.Response) -> str:
    try:
        problem = json.loads(response.text)
        text = str(problem.get("detail") or problem.get("title") or "")
        fields = [f"{entry['where']}: {entry['message']}" for entry in problem.get("errors") or []]
    except (ValueError, AttributeError, KeyError, TypeError):
        return f"HTTP {response.status_code}"
    return "; ".join([text, *fields]) if text else f"HTTP {response.status_code}"


__all__ = ["Address", "Answer", "ApiError", "DeskClient", "find"]

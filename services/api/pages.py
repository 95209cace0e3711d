"""The API's own documentation as one plain page: no script, nothing loaded from anywhere.

Made from the OpenAPI document, so it cannot say anything else. It needs no token, since it tells nothing
about this desk; what it describes does.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2733}
h1{margin-bottom:.2rem}h2{margin-top:2.5rem;border-bottom:1px solid #d5dde5}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:#f3f6f9;padding:.7rem;overflow-x:auto;border-radius:6px}
details{border:1px solid #d5dde5;border-radius:6px;margin:.5rem 0;padding:.4rem .8rem}
summary{cursor:pointer}.m{display:inline-block;min-width:3.2rem;font-weight:700;color:#0b62a8}
.PUT,.POST{color:#a8490b}table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid #e3e9ef;padding:.25rem .6rem .25rem 0;text-align:left;vertical-align:top}
@media(prefers-color-scheme:dark){body{background:#12181f;color:#d9e2ea}pre{background:#1b242d}
h2,details,td,th{border-color:#2c3945}.m{color:#6db6f0}.PUT,.POST{color:#f0a06d}}
"""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def documentation(openapi: dict[str, Any]) -> str:
    """The page of one OpenAPI document."""
    parts = []
    for tag in openapi.get("tags", []):
        parts.append(f"<h2>{escape(tag['name'])}</h2><p>{escape(tag['description'])}</p>")
        parts += [
            _operation(method.upper(), path, operation, openapi)
            for path, methods in openapi["paths"].items()
            for method, operation in methods.items()
            if tag["name"] in operation.get("tags", [])
        ]
    about = "".join(f"<p>{escape(line)}</p>" for line in openapi["info"]["description"].split("\n\n"))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>tradedesk API</title><style>{_STYLE}</style>"
        f"<h1>tradedesk API</h1><p>version {escape(openapi['info']['version'])}; the machine-readable form is "
        "<code>/api/openapi.json</code>, with the token.</p>"
        f"{about}{''.join(parts)}</html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any], openapi: dict[str, Any]) -> str:
    return (
        f'<details id="{escape(operation["operationId"])}"><summary><span class="m {method}">{method}</span> '
        f"<code>{escape(path)}</code> {escape(operation.get('summary', ''))}</summary>"
        f"<p>{escape(operation.get('description', ''))}</p>"
        f"{_parameters(operation)}{_request(operation)}{_responses(operation, openapi)}</details>"
    )


def _parameters(operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(item['name'])}</code></td><td>{escape(item['in'])}</td>"
        f"<td>{escape(item.get('description', item['schema'].get('description', '')))}</td>"
        f"<td><code>{escape(str(item['schema'].get('default', '')))}</code></td></tr>"
        for item in operation.get("parameters", [])
    )
    head = "<tr><th>parameter</th><th>in</th><th>what it is</th><th>default</th></tr>"
    return f"<table>{head}{rows}</table>" if rows else ""


def _request(operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return "".join(
        f"<p>Send, for example {escape(name)}:</p>{_json(case['value'])}"
        for name, case in content.get("examples", {}).items()
    )


def _responses(operation: dict[str, Any], openapi: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(status)}</td><td>{escape(answer['description'])}</td></tr>"
        for status, answer in sorted(operation["responses"].items())
    )
    shown = ""
    schema = (
        operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
    )
    named = schema.get("$ref", "").rpartition("/")[2]
    for value in openapi["components"]["schemas"].get(named, {}).get("examples", [])[:1]:
        shown = f"<p>Answers, for example:</p>{_json(value)}"
    return f"<table><tr><th>status</th><th>when</th></tr>{rows}</table>{shown}"


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=1, ensure_ascii=False))}</pre>"

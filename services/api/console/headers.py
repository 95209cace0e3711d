"""The headers of everything that the console answers."""

from __future__ import annotations

FIXED = {
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: with that a browser calls a form's origin null, and the gate lets no such form in.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
STORED_NOWHERE = {**FIXED, "Cache-Control": "no-store"}

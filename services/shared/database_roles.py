"""The database's name and roles, and how their passwords are set without any statement containing one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

SUPERUSER = "postgres"
OWNER = "owner"
ROLES = (OWNER, "recorder", "api", "grafana", "backup")
"""Who logs in: the owner of the tables, who migrates them, and the roles of those who use them."""
DATABASE = "desk"
_ITERATIONS = 4096


def database_secret(role: str) -> str:
    """The name of a role's secret."""
    return f"database-{role}"


def scram(password: str) -> str:
    """The verifier PostgreSQL stores for a password, so that no statement contains the password."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(_ITERATIONS, *parts)


def role_statement(verb: str, role: str, password: str) -> str:
    """`CREATE` or `ALTER` a role that logs in with a password."""
    return f"{verb} ROLE {role} LOGIN PASSWORD '{scram(password)}'"


__all__ = ["DATABASE", "OWNER", "ROLES", "SUPERUSER", "database_secret", "role_statement", "scram"]

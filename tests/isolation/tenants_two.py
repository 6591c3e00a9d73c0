"""Two tenants alike on one node, and names that stand for what the other one has beside what nobody has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from actors import tenant
from cli import layout
from cli.client import AdminClient
from cli.token_client import TokenClient
from eventlog.store import Snapshot

PASSWORD = "correct horse"
OWN, OTHER = "example", "zweiter"
EVE, NOBODY = "eve@zweiter.test", "nil@zweiter.test"
ROLES = ("tenant-admin", "help-desk", "auditor", "user", "scoped")


class World(NamedTuple):
    """What a test asks with: the administrator, callers of the tenant `example` by role, and ids of the other's."""

    admin: AdminClient
    callers: dict[str, AdminClient]
    other_token: str
    markers: tuple[str, ...]  # texts that show something of the other tenant


def build(admin: AdminClient, cell: layout.Cluster) -> World:
    """Both tenants have accounts, an alias, a group, roles, tokens, shares and mail of the same kinds."""
    tokens = {name: _people(admin, name) for name in (OWN, OTHER)}
    alice = "alice@example.test"
    admin.change("POST", "/v1/accounts", {"address": "carol@example.test", "password": PASSWORD})
    admin.change("PUT", "/v1/roles", {"address": alice, "role": "tenant-admin"})
    wanted: dict[str, dict[str, Any]] = {
        "tenant-admin": {"account": alice},
        "help-desk": {"tenant": OWN, "role": "help-desk"},
        "auditor": {"tenant": OWN, "role": "auditor"},
        "user": {"account": "carol@example.test"},
        "scoped": {"tenant": OWN, "scopes": ["*:read"]},
    }
    callers: dict[str, AdminClient] = {}
    for role, body in wanted.items():
        callers[role] = TokenClient.of_folder(cell, admin.change("POST", "/v1/tokens", body)["token"])
    other_id = next(one["id"] for one in admin.pages("/v1/tenants", "tenants") if one["name"] == OTHER)
    eve_id = next(one["id"] for one in admin.pages("/v1/accounts", "accounts") if one["address"] == EVE)
    return World(admin, callers, tokens[OTHER], (OTHER, other_id, eve_id, tokens[OTHER]))


def _people(admin: AdminClient, name: str) -> str:
    """Gives the id of a token of the tenant."""
    domain = f"{name}.test"
    first, second = {OWN: ("alice", "bob"), OTHER: ("eve", "mallory")}[name]
    admin.change("POST", "/v1/tenants", {"name": name, "domains": [domain]})
    for local in (first, second):
        admin.change("POST", "/v1/accounts", {"address": f"{local}@{domain}", "password": PASSWORD})
    admin.change("POST", "/v1/aliases", {"address": f"info@{domain}", "targets": [f"{first}@{domain}"]})
    admin.change("POST", "/v1/groups", {"address": f"all@{domain}", "members": [f"{first}@{domain}"]})
    admin.change("PUT", "/v1/roles", {"address": f"{second}@{domain}", "role": "auditor"})
    admin.change("POST", f"/v1/tenants/{name}/folders", {"name": "News"})
    app = {"name": "phone", "scopes": ["imap"]}
    admin.change("POST", f"/v1/accounts/{first}@{domain}/app-passwords", app)
    admin.change("POST", f"/v1/dkim/{domain}/keys", {})
    made: str = admin.change("POST", "/v1/tokens", {"tenant": name, "name": f"of {name}"})["id"]
    return made


def rows_of(snapshot: Snapshot, name: str) -> dict[bytes, dict[bytes, Any]]:
    """All that a tenant and its accounts have in the tables."""
    found = next(one.id for one in tenant.tenants(snapshot) if one.name == name)
    streams = [found, *(one.id for one in tenant.accounts(snapshot.view(found)))]
    return {stream: dict(snapshot.view(stream).range(b"")) for stream in streams}


def filled(model: type[BaseModel], names: Callable[[str], str | None]) -> dict[str, Any]:
    """A body or query that is valid: examples of the model, and where `names` knows a field, that."""
    return {
        name: value for name, field in model.model_fields.items() if (value := _value(name, field, names)) is not None
    }


def _value(name: str, field: Any, names: Callable[[str], str | None]) -> Any:
    known = names(name)
    if known is not None and "str" in str(field.annotation):
        return [known] if get_origin(field.annotation) is list else known
    if not field.is_required():
        return None
    if field.examples:
        return field.examples[0]
    kind = field.annotation
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return filled(kind, names)
    return {bool: False, int: 1, str: "x", float: 1.0, dict: {}, list: []}.get(get_origin(kind) or kind)

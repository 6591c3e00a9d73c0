"""DKIM keys over the admin API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from actors.dkim import Algorithm, Key
from nodes import dkim_keys
from nodes.dkim_admin import DkimAdmin, Published
from nodes.http import places, rows
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import bad_request
from nodes.http.models import Domain, Model, Nothing, Page, PageQuery, Query
from nodes.http.pages import page
from nodes.http.places import OWN, in_path
from nodes.record_json import utc

ENDPOINTS = Endpoints("dkim")
OF_DOMAIN = places.domain(in_path("domain"))
SELECTOR = r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?)?$"
MOST_MS = 10 * 366 * 86_400_000


class DkimKey(Model):
    """A key, and the record that publishes it."""

    selector: str = Field(examples=["2026a"])
    algorithm: str = Field(examples=["ed25519"])
    state: str = Field(examples=["active"])
    added: str = Field(examples=["2026-11-01T10:00:00.000Z"])
    activated: str | None
    retired: str | None
    record_name: str = Field(examples=["2026a._domainkey.example.test"])
    record_value: str
    zone_line: str


class Schedule(Model):
    """How often new keys take over, and how long the old ones' records stay. `every_ms` 0 ends it."""

    every_ms: int = Field(ge=0, le=MOST_MS, examples=[7776000000])
    overlap_ms: int = Field(ge=0, le=MOST_MS, examples=[604800000])


class DomainKeys(Model):
    """A domain that has no keys is not signed for."""

    domain: Domain
    keys: list[DkimKey]
    schedule: Schedule | None


class DomainKeysPage(Page):
    """Domains by name."""

    domains: list[DomainKeys]


class MadeKeys(Model):
    """The keys that were made."""

    domain: Domain
    keys: list[DkimKey]


class PublishedKey(DkimKey):
    """Whether its record is in DNS as it must be."""

    published: bool
    problem: str


class PublishedKeys(Model):
    """What DNS says."""

    domain: Domain
    keys: list[PublishedKey]


class NewKeys(Model):
    """All of it may be left out."""

    algorithms: list[Algorithm] = Field(list(dkim_keys.ALGORITHMS), min_length=1, max_length=2)
    rsa_bits: int = Field(2048, examples=list(dkim_keys.RSA_BITS))
    selector: str | None = Field(None, pattern=SELECTOR, max_length=63, description="A name of DNS in lower case.")
    active: bool = Field(False, description="Sign with them at once, whatever DNS says.")


class Rotation(Model):
    """Whether to sign with the new keys at once, whatever DNS says."""

    active: bool = False


class DeleteQuery(Query):
    """Whether to delete a key that signs."""

    force: Literal["0", "1"] = "0"


@ENDPOINTS.get("/v1/dkim", "dkim:read", OWN, DomainKeysPage)
async def list_keys(call: Call, query: PageQuery) -> dict[str, Any]:
    """List domains with their keys."""
    admin = DkimAdmin(call.services)
    with call.services.log.snapshot() as snapshot:
        seen = {one.id for one in call.tenants(snapshot)}
    mine = [domain for domain in admin.domains() if admin.require(domain)[1] in seen]
    found, following = page(mine, lambda one: (one,), query, lambda one: _domain_json(admin, one))
    return {"domains": found, "next": following}


@ENDPOINTS.get("/v1/dkim/{domain}", "dkim:read", OF_DOMAIN, DomainKeys, made_of=rows.signing)
async def show(call: Call) -> dict[str, Any]:
    """Show a domain's keys."""
    admin = DkimAdmin(call.services)
    domain, _ = admin.require(call.path["domain"])
    return _domain_json(admin, domain)


@ENDPOINTS.post("/v1/dkim/{domain}/keys", "dkim:write", OF_DOMAIN, MadeKeys, status=201, made_of=rows.signing)
async def generate(call: Call, body: NewKeys) -> dict[str, Any]:
    """Make keys for a domain."""
    if body.rsa_bits not in dkim_keys.RSA_BITS:
        raise bad_request(f"rsa_bits: must be one of {', '.join(map(str, dkim_keys.RSA_BITS))}")
    admin = DkimAdmin(call.services)
    made = await admin.generate(
        call.path["domain"],
        call.context,
        algorithms=list(dict.fromkeys(body.algorithms)),
        rsa_bits=body.rsa_bits,
        selector=body.selector,
        active=body.active,
    )
    return _made(admin, call, made)


@ENDPOINTS.post("/v1/dkim/{domain}/rotate", "dkim:write", OF_DOMAIN, MadeKeys, status=201, made_of=rows.signing)
async def rotate(call: Call, body: Rotation) -> dict[str, Any]:
    """Make new keys that take over from the present ones."""
    admin = DkimAdmin(call.services)
    return _made(admin, call, await admin.rotate(call.path["domain"], call.context, active=body.active))


@ENDPOINTS.post("/v1/dkim/{domain}/validate", "dkim:write", OF_DOMAIN, PublishedKeys)
async def validate(call: Call) -> dict[str, Any]:
    """Look into DNS; keys that wait take over where their records are right."""
    admin = DkimAdmin(call.services)
    domain, _ = admin.require(call.path["domain"])
    found = await admin.validate(domain, call.context)
    return {"domain": domain, "keys": [_published_json(domain, one) for one in found]}


@ENDPOINTS.put("/v1/dkim/{domain}/schedule", "dkim:write", OF_DOMAIN, DomainKeys, made_of=rows.signing)
async def set_schedule(call: Call, body: Schedule) -> dict[str, Any]:
    """Set how often new keys take over."""
    admin = DkimAdmin(call.services)
    await admin.set_schedule(call.path["domain"], body.every_ms, body.overlap_ms, call.context)
    return _domain_json(admin, admin.require(call.path["domain"])[0])


@ENDPOINTS.delete(
    "/v1/dkim/{domain}/keys/{selector}",
    "dkim:write",
    OF_DOMAIN,
    Nothing,
    problems=("no_such_key",),
    made_of=rows.signing,
)
async def delete(call: Call, query: DeleteQuery) -> dict[str, Any]:
    """Delete a key."""
    admin = DkimAdmin(call.services)
    await admin.delete(call.path["domain"], call.path["selector"], call.context, force=query.force == "1")
    return {}


def _made(admin: DkimAdmin, call: Call, selectors: list[str]) -> dict[str, Any]:
    domain, _ = admin.require(call.path["domain"])
    keys = [_key_json(domain, key) for key in admin.keys(domain) if key.selector in selectors]
    return {"domain": domain, "keys": keys}


def _domain_json(admin: DkimAdmin, domain: str) -> dict[str, Any]:
    schedule = admin.schedule(domain)
    return {
        "domain": domain,
        "keys": [_key_json(domain, key) for key in admin.keys(domain)],
        "schedule": None if schedule is None else schedule._asdict(),
    }


def _key_json(domain: str, key: Key) -> dict[str, Any]:
    return {
        "selector": key.selector,
        "algorithm": key.algorithm,
        "state": key.state,
        "added": utc(key.added_ms),
        "activated": utc(key.activated_ms) if key.activated_ms else None,
        "retired": utc(key.retired_ms) if key.retired_ms else None,
        "record_name": dkim_keys.record_name(domain, key.selector),
        "record_value": dkim_keys.record_value(key.algorithm, key.public),
        "zone_line": dkim_keys.zone_line(domain, key),
    }


def _published_json(domain: str, one: Published) -> dict[str, Any]:
    return {**_key_json(domain, one.key), "published": not one.problem, "problem": one.problem}

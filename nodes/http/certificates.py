"""Certificates of the log over the admin API. A key comes in, and never goes out."""

from __future__ import annotations

import re
import time
from typing import Any

from aiohttp import web

from actors import region
from actors.certificates import ClientAuthority, Stored
from actors.directory import tenant_named
from actors.region import REGION
from eventlog.record import NO_TENANT
from nodes.certificate_chain import BadCertificate
from nodes.certificates import CertificateAdmin
from nodes.http.admin import answer, catch_up, context, directory_for_change, json_body, services, text_field
from nodes.http.errors import bad_request
from nodes.record_json import utc

ROUTES = web.RouteTableDef()
MOST_PEM = 48 * 1024  # characters: a request has at most 64 KiB
DAY_MS = 86_400_000
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")


@ROUTES.get("/v1/certificates")
async def list_certificates(request: web.Request) -> web.Response:
    """Oldest first; ?tenant=NAME: those of one tenant."""
    stale = await catch_up(request)
    tenant = _tenant(request, request.query.get("tenant"))
    found = CertificateAdmin(services(request)).all(tenant)
    names = _tenant_names(request)
    return answer({"certificates": [certificate_json(one, names) for one in found]}, stale=stale)


@ROUTES.get("/v1/certificates/{wanted}")
async def show(request: web.Request) -> web.Response:
    """By fingerprint, the beginning of one, or a host name; with its chain."""
    stale = await catch_up(request)
    found = CertificateAdmin(services(request)).require(request.match_info["wanted"])
    return answer({**certificate_json(found, _tenant_names(request)), "chain": found.chain}, stale=stale)


@ROUTES.post("/v1/certificates")
async def add(request: web.Request) -> web.Response:
    """{"chain", "key", "names", "tenant"}: PEM texts; the names that it must cover and whose it is are optional."""
    body = await json_body(request)
    chain, key = text_field(body, "chain", MOST_PEM), text_field(body, "key", MOST_PEM)
    names = body.get("names", [])
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise bad_request("names: must be a list of texts")
    await directory_for_change(request)
    admin, tenant = CertificateAdmin(services(request)), _tenant(request, body.get("tenant"))
    try:
        made = await admin.add(chain.encode(), key.encode(), context(request), names=names, tenant=tenant)
    except BadCertificate as error:
        raise bad_request(str(error), error.hint) from None
    return web.json_response(certificate_json(made, _tenant_names(request)), status=201)


@ROUTES.delete("/v1/certificates/{wanted}")
async def remove(request: web.Request) -> web.Response:
    await directory_for_change(request)
    found = await CertificateAdmin(services(request)).remove(request.match_info["wanted"], context(request))
    return web.json_response(certificate_json(found, _tenant_names(request)))


@ROUTES.get("/v1/client-authorities")
async def list_authorities(request: web.Request) -> web.Response:
    """Whose certificates log clients in."""
    stale = await catch_up(request)
    names = _tenant_names(request)
    found = CertificateAdmin(services(request)).authorities()
    return answer({"authorities": [_authority_json(one, names) for one in found]}, stale=stale)


@ROUTES.put("/v1/client-authorities/{name}")
async def trust(request: web.Request) -> web.Response:
    """{"certificates": PEM, "tenant"}: without a tenant, for the accounts of all."""
    body = await json_body(request)
    pem, name, tenant = text_field(body, "certificates", MOST_PEM), _authority_name(request), body.get("tenant")
    await directory_for_change(request)
    try:
        await CertificateAdmin(services(request)).trust(tenant, name, pem.encode(), context(request))
    except BadCertificate as error:
        raise bad_request(str(error), error.hint) from None
    return web.json_response({"name": name, "tenant": tenant}, status=201)


@ROUTES.delete("/v1/client-authorities/{name}")
async def distrust(request: web.Request) -> web.Response:
    """?tenant=NAME where it is a tenant's."""
    name, tenant = _authority_name(request), request.query.get("tenant")
    await directory_for_change(request)
    await CertificateAdmin(services(request)).distrust(tenant, name, context(request))
    return web.json_response({})


def certificate_json(one: Stored, tenants: dict[bytes, str]) -> dict[str, Any]:
    """What is told of a certificate: everything but its key."""
    left_ms = one.not_after_ms - time.time_ns() // 1_000_000
    return {
        "fingerprint": one.fingerprint.hex(),
        "names": list(one.names),
        "tenant": tenants.get(one.tenant),
        "source": one.source,
        "not_before": utc(one.not_before_ms),
        "not_after": utc(one.not_after_ms),
        "days_left": left_ms // DAY_MS,
        "state": "expired" if left_ms <= 0 else "expiring" if left_ms <= 30 * DAY_MS else "valid",
        "added": utc(one.added_ms),
    }


def _authority_json(one: ClientAuthority, tenants: dict[bytes, str]) -> dict[str, Any]:
    owner = None if one.tenant == NO_TENANT else tenants.get(one.tenant)
    return {"name": one.name, "tenant": owner, "certificates": one.pem, "added": utc(one.added_ms)}


def _authority_name(request: web.Request) -> str:
    name = request.match_info["name"]
    if not _NAME.fullmatch(name):
        raise bad_request("name: 1 to 63 lower-case letters, digits, dots and dashes")
    return name


def _tenant(request: web.Request, name: object) -> bytes | None:
    if name is None:
        return None
    if not isinstance(name, str):
        raise bad_request("tenant: must be a tenant's name")
    with services(request).log.snapshot() as snapshot:
        return tenant_named(snapshot, name)


def _tenant_names(request: web.Request) -> dict[bytes, str]:
    with services(request).log.snapshot() as snapshot:
        return dict(region.tenant_ids(snapshot.view(REGION)))

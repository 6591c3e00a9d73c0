"""Certificates of the log over the admin API. A key comes in, and never goes out."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from actors.certificates import CERTIFICATES, Stored, row_key
from actors.directory import tenant_named
from eventlog.store import Snapshot
from nodes.doctor.finding import worst
from nodes.http.authority import STATE
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import ApiError
from nodes.http.models import Domain, Model, Page, PageQuery, TenantName
from nodes.http.pages import page
from nodes.http.places import CLUSTER
from nodes.http.rows import Rows
from nodes.record_json import utc
from nodes.tls.certificates import CertificateAdmin
from nodes.tls.chain import BadCertificate

ENDPOINTS = Endpoints("certificates")
READ, WRITE = "certificates:read", "certificates:write"
MOST_PEM = 48 * 1024  # characters: a request has at most 64 KiB
DAY_MS = 86_400_000
MOST_NAMES = 100

Pem = Annotated[str, Field(min_length=1, max_length=MOST_PEM, examples=["-----BEGIN CERTIFICATE-----\n..."])]
Time = Annotated[str, Field(examples=["2027-02-01T10:00:00Z"])]
Hosts = Annotated[list[Domain], Field(max_length=MOST_NAMES, examples=[["mail.example.test"]])]


class Certificate(Model):
    """A certificate of the log, without its key."""

    fingerprint: str = Field(description="SHA-256, hexadecimal.", examples=["5f" * 32])
    names: Hosts
    tenant: TenantName | None = Field(description="Whose domains all its names are in; null: nobody's alone.")
    source: Literal["given", "acme"]
    not_before: Time
    not_after: Time
    days_left: int = Field(examples=[60])
    state: Literal["valid", "expiring", "expired"]
    added: Time


class CertificateWithChain(Certificate):
    """As clients are shown it."""

    chain: Pem


class CertificatePage(Page):
    """Certificates by their first name."""

    certificates: list[Certificate]


class CertificateQuery(PageQuery):
    """Of one tenant alone, where it is named."""

    tenant: str | None = Field(None, max_length=63)


class NewCertificate(Model):
    """A chain, leaf first, and its key. `names` must be covered; `tenant` must have the domains of all its names."""

    chain: Pem
    key: Pem = Field(examples=["-----BEGIN PRIVATE KEY-----\n..."])
    names: Hosts = Field(default_factory=list)
    tenant: TenantName | None = None


class CertificateFinding(Model):
    """Something that an operator should know; "ok": that it is as it should be."""

    area: str = Field(examples=["log"])
    status: Literal["ok", "note", "warning", "error"]
    text: str = Field(examples=["mail.example.test: valid until 2027-02-01"])
    advice: str = Field(examples=[""])


class CertificateFindings(Model):
    """All of them, and the worst status among them."""

    worst: Literal["ok", "note", "warning", "error"]
    findings: list[CertificateFinding]


@ENDPOINTS.get("/v1/certificates", READ, CLUSTER, CertificatePage)
async def list_certificates(call: Call, query: CertificateQuery) -> dict[str, Any]:
    """List the certificates that mail clients are shown."""
    found = CertificateAdmin(call.services).all(_tenant(call, query.tenant))
    names = call.tenant_names()
    shown, following = page(
        found, lambda one: (one.names[0], one.fingerprint.hex()), query, lambda one: _json(one, names)
    )
    return {"certificates": shown, "next": following}


def _certificate(call: Call, _snapshot: Snapshot) -> Iterable[Rows]:
    found = CertificateAdmin(call.services).require(call.path["wanted"])
    yield Rows(CERTIFICATES, row_key(found.fingerprint))


@ENDPOINTS.get(
    "/v1/certificates/{wanted}",
    READ,
    CLUSTER,
    CertificateWithChain,
    problems=("no_such_certificate",),
    made_of=_certificate,
)
async def show(call: Call) -> dict[str, Any]:
    """Show a certificate: by fingerprint, the beginning of one, or a host name."""
    found = CertificateAdmin(call.services).require(call.path["wanted"])
    return {**_json(found, call.tenant_names()), "chain": found.chain}


@ENDPOINTS.post("/v1/certificates", WRITE, CLUSTER, Certificate, status=201, problems=("bad_certificate", "name_taken"))
async def add(call: Call, body: NewCertificate) -> dict[str, Any]:
    """Add a certificate, which every node shows from the next handshake on."""
    admin, tenant = CertificateAdmin(call.services), _tenant(call, body.tenant)
    try:
        made = await admin.add(body.chain.encode(), body.key.encode(), call.context, names=body.names, tenant=tenant)
    except BadCertificate as error:
        raise bad_certificate(error) from None
    return _json(made, call.tenant_names())


@ENDPOINTS.delete(
    "/v1/certificates/{wanted}", WRITE, CLUSTER, Certificate, problems=("no_such_certificate",), made_of=_certificate
)
async def remove(call: Call) -> dict[str, Any]:
    """Show a certificate no longer."""
    found = await CertificateAdmin(call.services).remove(call.path["wanted"], call.context)
    return _json(found, call.tenant_names())


@ENDPOINTS.get("/v1/certificate-findings", READ, CLUSTER, CertificateFindings, reads="local")
async def examine(call: Call) -> dict[str, Any]:
    """Examine this node's certificates, and those in the log: expiry, stapling, orders."""
    mail_tls = call.request.app[STATE].mail_tls if call.services is not None else None
    assert mail_tls is not None  # it is there before the services are
    found = mail_tls.findings(datetime.datetime.now(datetime.UTC))
    shown = [{"area": one.area, "status": one.status, "text": one.text, "advice": one.advice} for one in found]
    return {"worst": worst(found), "findings": shown}


def _tenant(call: Call, name: str | None) -> bytes | None:
    if name is None:
        return None
    with call.services.log.snapshot() as snapshot:
        return tenant_named(snapshot, name)


def bad_certificate(error: BadCertificate) -> ApiError:
    """What a certificate, a chain or an authority that can not be used is answered with."""
    return ApiError(400, "bad_request", str(error), error.hint, code="bad_certificate")


def _json(one: Stored, tenants: dict[bytes, str]) -> dict[str, Any]:
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

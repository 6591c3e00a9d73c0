"""Certificates of the log over the admin API. A key comes in, and never goes out."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from actors.acme import Account, Managed
from actors.certificates import CERTIFICATES, ClientAuthority, Stored, row_key
from actors.directory import tenant_named
from eventlog.record import NO_TENANT
from eventlog.store import Snapshot
from nodes.doctor.finding import worst
from nodes.http import rows
from nodes.http.authority import STATE
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import ApiError
from nodes.http.models import Domain, Model, Nothing, Page, PageQuery, Query, TenantName
from nodes.http.pages import page
from nodes.http.places import CLUSTER
from nodes.http.rows import Rows
from nodes.record_json import utc
from nodes.tls.acme_admin import AcmeAdmin
from nodes.tls.acme_client import OrderProblem
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


class TenantQuery(Query):
    """Of a tenant; of the cluster without one."""

    tenant: str | None = Field(None, max_length=63)


class LoginAuthority(Model):
    """Whose certificates log clients in."""

    name: str = Field(examples=["staff"])
    tenant: TenantName | None = Field(description="For whose accounts; null: for all.")
    certificates: Pem
    added: Time


class ClientAuthorities(Page):
    """Those for all tenants first, then by tenant and name."""

    authorities: list[LoginAuthority]


class TrustedAuthority(Model):
    """Certificates of authorities, for the accounts of one tenant or of all."""

    certificates: Pem
    tenant: TenantName | None = None


class AcmeAccount(Model):
    """The cell's account at an ACME authority (RFC 8555)."""

    directory: str = Field(examples=["https://acme.example/directory"])
    contacts: list[str] = Field(examples=[["mailto:hostmaster@example.test"]])
    url: str = Field(examples=["https://acme.example/acct/1"])


class NewAcmeAccount(Model):
    """`agreed`: to the authority's terms of service. `key_id` and `hmac_key`: where it demands an account elsewhere."""

    directory: str = Field(pattern="^https://", max_length=500, examples=["https://acme.example/directory"])
    contacts: list[Annotated[str, Field(pattern="^mailto:.+@.+", max_length=320)]] = Field([], max_length=5)
    agreed: Literal[True]
    key_id: str | None = Field(None, max_length=500)
    hmac_key: str | None = Field(None, max_length=500)


class KeptCertificate(Model):
    """A certificate that is ordered and renewed by itself, and how far that is."""

    names: Hosts
    tenant: TenantName | None
    challenge: Literal["http-01", "dns-01"]
    state: Literal["ordering", "waiting", "got", "failed"]
    due: Time | None = Field(description="When it is ordered next.")
    failures: int = Field(examples=[0])
    problem: str = Field(examples=[""])
    fingerprint: str | None = Field(examples=["5f" * 32])


class KeptCertificates(Page):
    """Certificates by their first name, and the account that orders them."""

    account: AcmeAccount | None
    kept: list[KeptCertificate]


class NewKeptCertificate(Model):
    """Names for one certificate. Wildcards need dns-01."""

    names: Hosts = Field(min_length=1)
    challenge: Literal["http-01", "dns-01"] = "http-01"


@ENDPOINTS.get("/v1/certificates", READ, CLUSTER, CertificatePage)
async def list_certificates(call: Call, query: CertificateQuery) -> dict[str, Any]:
    """List the certificates that mail clients are shown."""
    found = CertificateAdmin(call.services).all(_tenant(call, query.tenant))
    names = call.tenant_names()
    shown, following = page(
        found, lambda one: (one.names[0], one.fingerprint.hex()), query, lambda one: certificate_json(one, names)
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
    return {**certificate_json(found, call.tenant_names()), "chain": found.chain}


@ENDPOINTS.post("/v1/certificates", WRITE, CLUSTER, Certificate, status=201, problems=("bad_certificate", "name_taken"))
async def add(call: Call, body: NewCertificate) -> dict[str, Any]:
    """Add a certificate, which every node shows from the next handshake on."""
    admin, tenant = CertificateAdmin(call.services), _tenant(call, body.tenant)
    try:
        made = await admin.add(body.chain.encode(), body.key.encode(), call.context, names=body.names, tenant=tenant)
    except BadCertificate as error:
        raise _bad(error) from None
    return certificate_json(made, call.tenant_names())


@ENDPOINTS.delete(
    "/v1/certificates/{wanted}", WRITE, CLUSTER, Certificate, problems=("no_such_certificate",), made_of=_certificate
)
async def remove(call: Call) -> dict[str, Any]:
    """Show a certificate no longer."""
    found = await CertificateAdmin(call.services).remove(call.path["wanted"], call.context)
    return certificate_json(found, call.tenant_names())


@ENDPOINTS.get("/v1/certificate-findings", READ, CLUSTER, CertificateFindings, reads="local")
async def examine(call: Call) -> dict[str, Any]:
    """Examine this node's certificates, and those in the log: expiry, stapling, orders."""
    mail_tls = call.request.app[STATE].mail_tls if call.services is not None else None
    assert mail_tls is not None  # it is there before the services are
    found = mail_tls.findings(datetime.datetime.now(datetime.UTC))
    shown = [{"area": one.area, "status": one.status, "text": one.text, "advice": one.advice} for one in found]
    return {"worst": worst(found), "findings": shown}


@ENDPOINTS.get("/v1/client-authorities", READ, CLUSTER, ClientAuthorities, made_of=rows.CLIENT_AUTHORITIES)
async def list_authorities(call: Call, query: PageQuery) -> dict[str, Any]:
    """List whose certificates log clients in."""
    found, names = CertificateAdmin(call.services).authorities(), call.tenant_names()
    shown, following = page(
        found, lambda one: (one.tenant.hex(), one.name), query, lambda one: _authority_json(one, names)
    )
    return {"authorities": shown, "next": following}


@ENDPOINTS.put(
    "/v1/client-authorities/{name}",
    WRITE,
    CLUSTER,
    Nothing,
    status=201,
    problems=("bad_certificate",),
    made_of=rows.CLIENT_AUTHORITIES,
)
async def trust(call: Call, body: TrustedAuthority) -> dict[str, Any]:
    """Let certificates of these authorities log clients in."""
    try:
        await CertificateAdmin(call.services).trust(
            body.tenant, call.path["name"], body.certificates.encode(), call.context
        )
    except BadCertificate as error:
        raise _bad(error) from None
    return {}


@ENDPOINTS.delete("/v1/client-authorities/{name}", WRITE, CLUSTER, Nothing, made_of=rows.CLIENT_AUTHORITIES)
async def distrust(call: Call, query: TenantQuery) -> dict[str, Any]:
    """Take certificates of this authority for log-ins no longer."""
    await CertificateAdmin(call.services).distrust(query.tenant, call.path["name"], call.context)
    return {}


@ENDPOINTS.get("/v1/acme", READ, CLUSTER, KeptCertificates, made_of=rows.ACME)
async def list_kept(call: Call, query: PageQuery) -> dict[str, Any]:
    """List the certificates that are ordered and renewed by themselves."""
    admin, names = AcmeAdmin(call.services), call.tenant_names()
    account = admin.account()
    kept, following = page(
        admin.managed(), lambda one: (one.names[0], one.id.hex()), query, lambda one: _kept_json(one, names)
    )
    return {"account": _account_json(account) if account is not None else None, "kept": kept, "next": following}


@ENDPOINTS.put("/v1/acme/account", WRITE, CLUSTER, AcmeAccount, problems=("acme_failed",), made_of=rows.ACME)
async def set_account(call: Call, body: NewAcmeAccount) -> dict[str, Any]:
    """Register the cell at an ACME authority; orders go there from now on."""
    binding = (body.key_id, body.hmac_key) if body.key_id is not None and body.hmac_key is not None else None
    try:
        made = await AcmeAdmin(call.services).register(body.directory, body.contacts, binding, call.context)
    except OrderProblem as problem:
        hint = "the directory's address; acme.ca where the authority is one of your own"
        raise ApiError(502, "refused", f"the authority refused: {problem}", hint, code="acme_failed") from None
    return _account_json(made)


@ENDPOINTS.post("/v1/acme/kept", WRITE, CLUSTER, KeptCertificate, status=201, problems=("name_taken", "invalid_name"))
async def keep(call: Call, body: NewKeptCertificate) -> dict[str, Any]:
    """Order a certificate, and keep it valid."""
    made = await AcmeAdmin(call.services).keep(body.names, body.challenge, call.context)
    return _kept_json(made, call.tenant_names())


@ENDPOINTS.post("/v1/acme/kept/{name}/renew", WRITE, CLUSTER, KeptCertificate, problems=("no_such_certificate",))
async def renew(call: Call) -> dict[str, Any]:
    """Order the certificate of a host name anew, now."""
    return _kept_json(await AcmeAdmin(call.services).renew(call.path["name"], call.context), call.tenant_names())


@ENDPOINTS.delete(
    "/v1/acme/kept/{name}", WRITE, CLUSTER, KeptCertificate, problems=("no_such_certificate",), made_of=rows.ACME
)
async def release(call: Call) -> dict[str, Any]:
    """Renew the certificate of a host name no more; it stays until it is removed."""
    return _kept_json(await AcmeAdmin(call.services).release(call.path["name"], call.context), call.tenant_names())


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


def _kept_json(one: Managed, tenants: dict[bytes, str]) -> dict[str, Any]:
    state = "ordering" if one.order else "failed" if one.failures else "got" if one.fingerprint else "waiting"
    return {
        "names": list(one.names),
        "tenant": tenants.get(one.tenant),
        "challenge": one.challenge,
        "state": state,
        "due": utc(one.due_ms) if one.due_ms else None,
        "failures": one.failures,
        "problem": one.problem,
        "fingerprint": one.fingerprint.hex() or None,
    }


def _account_json(account: Account) -> dict[str, Any]:
    return {"directory": account.directory, "contacts": list(account.contacts), "url": account.url}


def _authority_json(one: ClientAuthority, tenants: dict[bytes, str]) -> dict[str, Any]:
    owner = None if one.tenant == NO_TENANT else tenants.get(one.tenant)
    return {"name": one.name, "tenant": owner, "certificates": one.pem, "added": utc(one.added_ms)}


def _bad(error: BadCertificate) -> ApiError:
    return ApiError(400, "bad_request", str(error), error.hint, code="bad_certificate")


def _tenant(call: Call, name: str | None) -> bytes | None:
    if name is None:
        return None
    with call.services.log.snapshot() as snapshot:
        return tenant_named(snapshot, name)

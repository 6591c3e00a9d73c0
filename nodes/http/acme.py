"""Certificates that are ordered and renewed by themselves (RFC 8555), over the admin API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from actors.acme import Account, Managed
from nodes.http import rows
from nodes.http.calls import Call
from nodes.http.certificates import READ, WRITE, Hosts, Time
from nodes.http.endpoint import Endpoints
from nodes.http.errors import ApiError
from nodes.http.models import Model, Page, PageQuery, TenantName
from nodes.http.pages import page
from nodes.http.places import CLUSTER
from nodes.record_json import utc
from nodes.tls.acme_admin import AcmeAdmin
from nodes.tls.acme_client import OrderProblem

ENDPOINTS = Endpoints("certificates")


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

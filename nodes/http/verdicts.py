"""The cell's policy on SPF, DKIM, ARC and DMARC over the admin API, and the tenants' own modes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from actors import tenant, verdicts
from actors.errors import InvalidName
from actors.names import normalise_domain
from actors.verdicts import CHOICES, VERDICTS, SetTenantMode, SetVerdictPolicy
from nodes.http import places, rows
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import bad_request
from nodes.http.models import Domain, Model, Nothing
from nodes.http.places import CLUSTER, in_path

ENDPOINTS = Endpoints("verdicts")
INHERIT = "inherit"
MOST_DOMAINS = 1000
Domains = Annotated[list[Domain], Field(max_length=MOST_DOMAINS)]


class VerdictPolicy(Model):
    """What is done about what SPF, DKIM, ARC and DMARC say."""

    dmarc: str = Field(examples=["enforce"])
    on_temporary: str = Field(examples=["accept"])
    ambiguous_author: str = Field(examples=["refuse"])
    partial_signatures: str = Field(examples=["ignore"])
    sealers: list[Domain] = Field(description="Whose ARC seals are believed.")


class Verdicts(Model):
    """The cell's policy, and the modes of tenants that have one of their own."""

    policy: VerdictPolicy
    tenants: dict[str, str] = Field(examples=[{"example": "mark"}])
    judge: Any = Field(description="Whether this node judges (verdicts.judge).")


class VerdictChange(Model):
    """What is left out stays as it is."""

    dmarc: Literal["enforce", "mark"] | None = None
    on_temporary: Literal["accept", "defer"] | None = None
    ambiguous_author: Literal["refuse", "mark"] | None = None
    partial_signatures: Literal["accept", "ignore"] | None = None
    trust: Domains = Field([], description="Sealers to believe.")
    distrust: Domains = Field([], description="Sealers to believe no more.")


class TenantMode(Model):
    """`inherit`: as the cell does."""

    dmarc: Literal["enforce", "mark", "inherit"]


@ENDPOINTS.get("/v1/verdicts", "policies:read", CLUSTER, Verdicts, made_of=rows.VERDICT_POLICY)
async def show(call: Call) -> dict[str, Any]:
    """Show the cell's policy on SPF, DKIM, ARC and DMARC."""
    with call.services.log.snapshot() as snapshot:
        view = snapshot.view(VERDICTS)
        names = {one.id: one.name for one in tenant.tenants(snapshot)}
        modes = {names.get(id_, id_.hex()): mode for id_, mode in verdicts.tenant_modes(view).items()}
        policy = verdicts.policy(view)._asdict()
    judge = call.services.config.verdicts.judge
    return {"policy": {**policy, "sealers": list(policy["sealers"])}, "tenants": modes, "judge": judge}


@ENDPOINTS.put("/v1/verdicts", "policies:write", CLUSTER, Nothing, made_of=rows.VERDICT_POLICY)
async def change(call: Call, body: VerdictChange) -> dict[str, Any]:
    """Change the cell's policy on SPF, DKIM, ARC and DMARC."""
    choices = {name: chosen for name in CHOICES if (chosen := getattr(body, name)) is not None}
    command = SetVerdictPolicy(
        **choices, trust=_domains(body.trust, "trust"), distrust=_domains(body.distrust, "distrust")
    )
    await call.services.runtime.ask(VERDICTS, command, call.context)
    return {}


@ENDPOINTS.put(
    "/v1/verdicts/tenants/{name}",
    "policies:write",
    places.tenant(in_path("name")),
    Nothing,
    made_of=rows.mail_policy,
)
async def change_tenant(call: Call, body: TenantMode) -> dict[str, Any]:
    """Set what is done about a tenant's mail that fails DMARC."""
    command = SetTenantMode(call.tenant, "" if body.dmarc == INHERIT else body.dmarc)
    await call.services.runtime.ask(VERDICTS, command, call.context)
    return {}


def _domains(names: list[str], field: str) -> tuple[str, ...]:
    try:
        return tuple(normalise_domain(one) for one in names)
    except InvalidName as error:
        raise bad_request(f"{field}: {error}") from None

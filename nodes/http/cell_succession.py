"""Another authority for the cell over the admin API, step by step, and administrators' certificates of it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from nodes.http.authority import admin_name
from nodes.http.calls import Call
from nodes.http.cell_certificates import MOST_PEM, AuthorityKey, NodeName, Pem
from nodes.http.endpoint import Endpoints
from nodes.http.errors import ApiError
from nodes.http.models import Model
from nodes.http.places import CLUSTER
from nodes.tls.node_certificates import CellAuthority
from nodes.tls.succession import Succession

ENDPOINTS = Endpoints("cell certificates")
PATH = "/v1/cluster/authority/succession"

Fingerprint = Annotated[str, Field(description="SHA-256, hexadecimal.", examples=["5f" * 32])]


class NodeStanding(Model):
    """How far a member is."""

    name: NodeName
    trusts_next: bool
    renewed: bool = Field(description="It shows a certificate of the authority in force.")


class AuthorityStanding(Model):
    """The authorities of the cell: in force, named as the next, and the one before while it is trusted."""

    in_force: Fingerprint | None = Field(description="null: it is not in the log.")
    next: Fingerprint | None
    former: Fingerprint | None
    nodes: list[NodeStanding]
    authorities: str = Field(
        max_length=4 * MOST_PEM,
        description="Certificates of all that are trusted, the one in force first.",
        examples=["-----BEGIN CERTIFICATE-----\n..."],
    )
    followers: list[str] = Field(description="Grants whose certificates are of the one before.")


class Retirement(Model):
    """`cut_followers`: although followers have certificates of it."""

    cut_followers: bool = False


class AdministratorRequest(Model):
    request: Pem = Field(description="PKCS #10, of a P-256 key.", examples=["-----BEGIN CERTIFICATE REQUEST-----\n..."])


class AdministratorCertificate(Model):
    """For the administrator that asked; `authorities`: all that are trusted, the one in force first."""

    certificate: Pem
    authorities: str = Field(max_length=4 * MOST_PEM, examples=["-----BEGIN CERTIFICATE-----\n..."])


@ENDPOINTS.get(PATH, "cluster:read", CLUSTER, AuthorityStanding)
async def standing(call: Call) -> dict[str, Any]:
    """Tell how far another authority is in taking the place of the cell's."""
    return Succession(call.services).state()


@ENDPOINTS.put(f"{PATH}/next", "cluster:write", CLUSTER, AuthorityStanding, problems=("not_allowed",))
async def name_next(call: Call, body: AuthorityKey) -> dict[str, Any]:
    """Name the cell's next authority, which every node trusts from then on beside the one in force."""
    await Succession(call.services).name(body.certificate, body.key.encode(), call.context)
    return Succession(call.services).state()


@ENDPOINTS.post(f"{PATH}/next", "cluster:write", CLUSTER, AuthorityStanding, problems=("not_allowed",))
async def make_next(call: Call) -> dict[str, Any]:
    """Make the cell's next authority here, where none is named: its key is nowhere but sealed in the log."""
    await Succession(call.services).make(call.context)
    return Succession(call.services).state()


@ENDPOINTS.post(f"{PATH}/promote", "cluster:write", CLUSTER, AuthorityStanding, problems=("not_allowed",))
async def promote(call: Call) -> dict[str, Any]:
    """Put the next authority in force once every member trusts it: each makes itself a certificate of it."""
    await Succession(call.services).promote(call.context)
    return Succession(call.services).state()


@ENDPOINTS.post(f"{PATH}/retire", "cluster:write", CLUSTER, AuthorityStanding, problems=("not_allowed",))
async def retire(call: Call, body: Retirement) -> dict[str, Any]:
    """Trust the authority before no more, once every member shows a certificate of the one in force."""
    await Succession(call.services).retire(body.cut_followers, call.context)
    return Succession(call.services).state()


@ENDPOINTS.post(
    "/v1/cluster/administrator", "cluster:write", CLUSTER, AdministratorCertificate, problems=("not_allowed",)
)
async def administrator(call: Call, body: AdministratorRequest) -> dict[str, Any]:
    """Issue an administrator, who has a certificate, another one for a new key."""
    name = admin_name(call.request)
    if name is None:
        text = "only who comes with an administrator's certificate is given another"
        raise ApiError(403, "forbidden", text, "mailraft cluster renew-admin DIR")
    certificate, authorities = CellAuthority(call.services).administrator(name, body.request)
    return {"certificate": certificate, "authorities": authorities}

"""The cell's own authority over the admin API: tokens with which nodes join, and new certificates for all nodes."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

from pydantic import Field

from actors.cell_authority import NO_TOKEN
from actors.errors import NotAllowed
from eventlog.members import Member
from eventlog.record import By, stream_id
from nodes.http import rows
from nodes.http.authority import STATE
from nodes.http.calls import Call
from nodes.http.endpoint import ANYBODY, Endpoints
from nodes.http.models import Id, Milliseconds, Model, Nothing, Page, PageQuery
from nodes.http.pages import page
from nodes.http.places import CLUSTER
from nodes.tls.joining_token import JoiningToken
from nodes.tls.node_certificates import CellAuthority

ENDPOINTS = Endpoints("cell certificates")
MOST_PEM = 16 * 1024
DAY_S = 86_400

Pem = Annotated[str, Field(min_length=1, max_length=MOST_PEM, examples=["-----BEGIN CERTIFICATE-----\n..."])]
NodeName = Annotated[str, Field(pattern="^[a-z][a-z0-9-]{0,31}$", examples=["n4"])]
Host = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9.:-]+$", examples=["192.0.2.4"])]
HostPort = Annotated[str, Field(min_length=3, max_length=270, examples=["192.0.2.4:7100"])]


class AuthorityKey(Model):
    """The cell's authority as `mailraft cluster init` made it, to be kept in the log with its key sealed."""

    certificate: Pem
    key: Pem = Field(examples=["-----BEGIN PRIVATE KEY-----\n..."])


class AuthorityState(Model):
    """Whether members can issue certificates."""

    kept: bool


class NewJoinToken(Model):
    """For one node, once."""

    name: NodeName
    ttl_s: int = Field(3600, ge=60, le=7 * DAY_S, description="How long it may be used.")


class JoinToken(Model):
    """A token that can be used."""

    id: Id
    name: NodeName
    expires_ms: Milliseconds


class IssuedJoinToken(JoinToken):
    """With its secret, which nobody is told again; `token` is all that a node must know to join."""

    secret: str = Field(examples=["5f" * 32])
    token: str = Field(examples=["mailraft-join-..."])


class JoinTokens(Page):
    """Tokens by the name of the node that they are for."""

    tokens: list[JoinToken]


class JoinRequest(Model):
    """What a node that joins sends; the token is all that it needs."""

    id: Id
    secret: str = Field(min_length=64, max_length=64, pattern="^[0-9a-f]+$", examples=["5f" * 32])
    request: Pem = Field(description="PKCS #10, of a P-256 key.", examples=["-----BEGIN CERTIFICATE REQUEST-----\n..."])
    hosts: list[Host] = Field(min_length=1, max_length=20)
    address: HostPort = Field(description="Its raft.listen as the others reach it.")


class CellMate(Model):
    name: NodeName
    address: HostPort


class Joined(Model):
    """What the node needs: its certificate, the cell's authority, the cell's key, and who the others are."""

    name: NodeName
    cell: str = Field(examples=["cell-0123456789ab"])
    certificate: Pem
    authority: Pem
    cluster_key: str = Field(examples=["5f" * 32])
    members: list[CellMate]


@ENDPOINTS.get("/v1/cluster/authority", "cluster:read", CLUSTER, AuthorityState, made_of=rows.AUTHORITY)
async def authority(call: Call) -> dict[str, Any]:
    """Tell whether the cell's authority is in its log."""
    return {"kept": CellAuthority(call.services).kept() is not None}


@ENDPOINTS.put("/v1/cluster/authority", "cluster:write", CLUSTER, Nothing, made_of=rows.AUTHORITY)
async def keep_authority(call: Call, body: AuthorityKey) -> dict[str, Any]:
    """Keep the cell's authority in the log, its key sealed, so that members can issue certificates."""
    await CellAuthority(call.services).keep(body.certificate, body.key.encode(), call.context)
    return {}


@ENDPOINTS.get("/v1/cluster/tokens", "cluster:read", CLUSTER, JoinTokens, made_of=rows.JOIN_TOKENS)
async def tokens(call: Call, query: PageQuery) -> dict[str, Any]:
    """List the tokens with which nodes can join."""
    found, following = page(
        CellAuthority(call.services).tokens(),
        lambda one: (one.name, one.id.hex()),
        query,
        lambda one: {"id": one.id.hex(), "name": one.name, "expires_ms": one.expires_ms},
    )
    return {"tokens": found, "next": following}


@ENDPOINTS.post("/v1/cluster/tokens", "cluster:write", CLUSTER, IssuedJoinToken, status=201, secret=True)
async def create_token(call: Call, body: NewJoinToken) -> dict[str, Any]:
    """Make a token with which a node joins."""
    admin = CellAuthority(call.services)
    id_, secret, expires_ms = await admin.token(body.name, body.ttl_s, call.context)
    token = JoiningToken(
        cell=call.services.config.node.cluster_id,
        authority="".join(admin.trusted()),
        admin=tuple(addresses_of(call, "admin").values()),
        name=body.name,
        id=id_.hex(),
        secret=secret,
    )
    return {"id": id_.hex(), "name": body.name, "expires_ms": expires_ms, "secret": secret, "token": token.text()}


@ENDPOINTS.delete("/v1/cluster/tokens/{id}", "cluster:write", CLUSTER, Nothing, made_of=rows.JOIN_TOKENS)
async def revoke_token(call: Call) -> dict[str, Any]:
    """Make a token worthless."""
    await CellAuthority(call.services).revoke(_id(call.path["id"]), call.context)
    return {}


@ENDPOINTS.post("/v1/cluster/join", ANYBODY, CLUSTER, Joined, status=201, secret=True)
async def join(call: Call, body: JoinRequest) -> dict[str, Any]:
    """Join the cell with a token: a certificate for the node, which becomes a member that learns."""
    admin, log = CellAuthority(call.services), call.services.log
    hosts = [_host(one) for one in body.hosts]
    token = next((one for one in admin.tokens() if one.id == _id(body.id)), None)
    if token is None:
        raise NotAllowed(NO_TOKEN)
    by = By("node", stream_id("node", token.name), f"node {token.name} {call.request.remote}, by a token")
    asked = call.context._replace(by=by)
    issued = await admin.issue(_id(body.id), body.secret, body.request, hosts, asked)
    if (token.name, body.address) not in [(one.name, one.address) for one in log.members()]:
        await log.add_member(token.name, body.address, asked.by, asked.cause)
    return {
        "name": token.name,
        "cell": call.services.config.node.cluster_id,
        "certificate": issued.certificate,
        "authority": issued.authority,
        "cluster_key": issued.cluster_key.hex(),
        "members": [_mate(one) for one in log.members()],
    }


@ENDPOINTS.post("/v1/cluster/rotate-certificates", "cluster:write", CLUSTER, Nothing)
async def rotate(call: Call) -> dict[str, Any]:
    """Have every node make itself a new key and certificate."""
    await CellAuthority(call.services).rotate(call.context)
    return {}


def addresses_of(call: Call, use: str) -> dict[str, str]:
    """Where the cell's nodes listen for `use`, by name, as this one hears of them."""
    cell = call.request.app[STATE].cell
    return cell.addresses(use) if cell is not None else {}


def _mate(one: Member) -> dict[str, str]:
    return {"name": one.name, "address": one.address}


def _id(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _host(text: str) -> str:
    """An address of IPv6 in its one form."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text.lower()

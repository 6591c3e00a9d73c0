"""Who may send mail as an account or on its behalf, over the admin API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from actors.sharing_admin import senders
from nodes.http import places, rows
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.models import Address, Milliseconds, Model, Page, PageQuery
from nodes.http.pages import page
from nodes.http.places import in_path

ENDPOINTS = Endpoints("senders")
NAMED = places.account(in_path("address"))
Whom = Annotated[
    str,
    Field(min_length=1, max_length=320, description="An address, or group:NAME@DOMAIN.", examples=["bob@example.test"]),
]


class Sender(Model):
    """`send-as`: like the account itself. `on-behalf`: with the own address in Sender."""

    whom: Whom
    how: Literal["send-as", "on-behalf"]
    since_ms: Milliseconds


class SenderPage(Page):
    """By name."""

    address: Address = Field(examples=["alice@example.test"])
    senders: list[Sender]


class NewSender(Model):
    """It takes the place of what was granted before."""

    whom: Whom
    how: Literal["send-as", "on-behalf", "none"] = Field(description="none: not any more.")


@ENDPOINTS.get("/v1/accounts/{address}/senders", "shares:read", NAMED, SenderPage, made_of=rows.senders)
async def show(call: Call, query: PageQuery) -> dict[str, Any]:
    """List who may send as the account or on its behalf."""
    address = call.path["address"]
    with call.services.log.snapshot() as snapshot:
        found, following = page(senders(snapshot, address), lambda one: (one.whom,), query, lambda one: one._asdict())
    return {"address": address, "senders": found, "next": following}


@ENDPOINTS.put(
    "/v1/accounts/{address}/senders", "shares:write", NAMED, NewSender, problems=("too_large",), made_of=rows.senders
)
async def let_send(call: Call, body: NewSender) -> dict[str, Any]:
    """Let an account or a group of the tenant send as this account, or not any more."""
    how = "" if body.how == "none" else body.how
    await call.directory.sharing.let_send(call.path["address"], body.whom, how, call.context)
    return {"whom": body.whom, "how": body.how}

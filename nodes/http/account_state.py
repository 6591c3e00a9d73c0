"""Over the admin API: accounts that are disabled or expire, and passwords that must be changed.

What is closed ends at once: sessions that are open are told so, log-ins and submissions are refused, tokens that speak
for the account let nobody in. What becomes of its mail is chosen.
"""

from __future__ import annotations

import time
from typing import Any, Literal

from pydantic import Field

from actors import account_state
from actors.account_state import (
    AccountStateCommand,
    DisableAccount,
    EnableAccount,
    MailFor,
    RequirePasswordChange,
    SetAccountExpiry,
)
from actors.directory import account_of
from nodes.http import places, rows
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import ApiError
from nodes.http.models import Address, Milliseconds, Model
from nodes.http.places import in_path

ENDPOINTS = Endpoints("accounts")
NAMED = places.account(in_path("address"))
MAIL = "What becomes of mail for it: taken, put off (4xx) or refused (5xx)."
PATH = "/v1/accounts/{address}/state"


class State(Model):
    """Whether somebody can come in to an account."""

    address: Address
    state: Literal["open", "disabled", "expired"]
    mail: MailFor = Field(description=MAIL)
    reason: str = Field(description="For administrators; the account's owner is not told.", examples=["has left"])
    since_ms: Milliseconds | None = Field(description="When it was disabled.")
    expires_ms: Milliseconds | None
    must_change_password: bool = Field(description="Mail programs need an app password until it is changed.")


class Change(Model):
    """What is given is changed, the rest stays."""

    disabled: bool | None = None
    mail: MailFor = Field("accept", description=MAIL)
    reason: str = Field("", max_length=account_state.MAX_REASON, examples=["has left"])
    expires_ms: Milliseconds | None = Field(None, description="From then on nobody comes in; 0: it does not expire.")
    must_change_password: bool | None = None


@ENDPOINTS.get(PATH, "accounts:read", NAMED, State, made_of=rows.account_state)
async def show_state(call: Call) -> dict[str, Any]:
    """Show whether an account is open."""
    return _shown(call)


@ENDPOINTS.patch(PATH, "credentials:write", NAMED, State, problems=("not_allowed",), made_of=rows.account_state)
async def change_state(call: Call, body: Change) -> dict[str, Any]:
    """Disable or enable an account, let it expire, or have its password changed."""
    target = call.directory.account(call.path["address"])
    if target.account == call.caller.account:  # who could, would stay beyond what was decided about them
        text = "nobody closes, opens or prolongs the account that they come in with"
        raise ApiError(403, "forbidden", text, "another administrator")
    steps: list[tuple[bytes, AccountStateCommand]] = [
        (target.tenant, command) for command in _commands(target.account, body)
    ]
    if steps:
        await call.directory.runtime.transact(steps, call.context)
    return _shown(call)


def _commands(account: bytes, body: Change) -> list[AccountStateCommand]:
    found: list[AccountStateCommand] = []
    if body.expires_ms is not None:
        found.append(SetAccountExpiry(account, body.expires_ms or None, body.mail))
    if body.disabled is not None:
        found.append(DisableAccount(account, body.mail, body.reason) if body.disabled else EnableAccount(account))
    if body.must_change_password is not None:
        found.append(RequirePasswordChange(account, body.must_change_password))
    return found


def _shown(call: Call) -> dict[str, Any]:
    with call.services.log.snapshot() as snapshot:
        target = account_of(snapshot, call.path["address"])
        found = account_state.state_of(snapshot.view(target.tenant), target.account)
    closed = found.closed(time.time_ns() // 1_000_000)
    return {
        "address": target.address,
        "state": "open" if closed is None else "disabled" if found.disabled else "expired",
        "mail": found.mail,
        "reason": found.reason,
        "since_ms": found.since_ms or None,
        "expires_ms": found.expires_ms,
        "must_change_password": found.must_change,
    }

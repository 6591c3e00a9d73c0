"""Directories over the admin API: accounts made as the LDAP directories of the node's file have them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from actors.account_state import MailFor
from actors.authentication import PasswordsAway
from actors.errors import NotAllowed
from nodes.http.account_state import MAIL
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import ApiError
from nodes.http.models import Address, Model
from nodes.http.places import CLUSTER
from nodes.tenants.directory_sync import Change, Done, Listing, carry_out, differences

ENDPOINTS = Endpoints("directories")
MOST_SUSPENDED = 10


class Sync(Model):
    """How it is done, or only looked at."""

    dry_run: bool = Field(False, description="Tells what differs, and changes nothing.")
    most_suspended: int = Field(
        MOST_SUSPENDED,
        ge=0,
        le=1_000_000,
        description="Where more accounts than this would be suspended, nothing at all is done.",
    )
    mail: MailFor = Field("accept", description=MAIL)


class AccountDifference(Model):
    """What differs of one account, and what became of it."""

    address: Address
    change: Literal["create", "suspend", "resume", "quota", "conflict"]
    detail: str = Field(examples=["directory: not in it"])
    outcome: Literal["done", "refused", "planned"]
    refused: str = Field(description="Why nothing was done.", examples=[""])


class Synced(Model):
    """By address; what is as in the directory does not stand here."""

    entries: int = Field(description="Whom the directories have in their domains.")
    differences: list[AccountDifference]


@ENDPOINTS.post("/v1/directory/sync", "accounts:write", CLUSTER, Synced, problems=("not_allowed",), once=False)
async def sync(call: Call, body: Sync) -> dict[str, Any]:
    """Add and suspend accounts, open them again and set their quotas, as the LDAP directories have them."""
    outside: object = call.directory.logins.outside
    if not isinstance(outside, Listing):
        raise NotAllowed("no directory is configured at this node: [ldap] in its file")
    try:
        listings = await outside.listed()
    except PasswordsAway as error:
        raise ApiError(503, "not_ready", str(error), "the same again when the directory answers") from None
    with call.services.log.snapshot() as snapshot:
        found = [one for config, entries in listings for one in differences(snapshot, entries, config.domains)]
    entries = sum(len(one) for _, one in listings)
    if body.dry_run:
        return {"entries": entries, "differences": [_shown(Done(one), "planned") for one in found]}
    _require_few(found, body.most_suspended)
    done = await carry_out(call.directory, found, body.mail, call.context)
    return {"entries": entries, "differences": [_shown(one, "refused" if one.refused else "done") for one in done]}


def _require_few(found: list[Change], most: int) -> None:
    """A directory that lost a branch must not close everybody's account. Raises NotAllowed."""
    suspended = sum(one.kind == "suspend" for one in found)
    if suspended > most:
        raise NotAllowed(
            f"{suspended} accounts would be suspended, and at most {most} may be: nothing was done "
            "(--dry-run shows them, --most-suspended allows more)"
        )


def _shown(done: Done, outcome: str) -> dict[str, Any]:
    change = done.change
    return {
        "address": change.address,
        "change": change.kind,
        "detail": change.detail,
        "outcome": outcome,
        "refused": done.refused,
    }

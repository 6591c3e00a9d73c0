"""Many accounts at once over the admin API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from actors import bulk
from nodes.http.accounts import Password
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.models import Address, Bytes, Model, OfLines
from nodes.http.places import OWN

ENDPOINTS = Endpoints("accounts")


class WantedAccount(Model):
    """An address in a domain of ours; without a password nobody can log in to it yet."""

    address: Address
    password: Password | None = None
    quota_bytes: Bytes | None = None


class AccountBatch(OfLines):
    """It may be given again: what is there already is left as it is."""

    accounts: list[WantedAccount] = Field(min_length=1, max_length=bulk.MOST_AT_ONCE)


class ImportedAccount(Model):
    """What became of one of them."""

    address: Address
    outcome: Literal["added", "exists", "refused"]
    detail: str = Field(description="Why it was refused.", examples=[""])


class ImportedBatch(Model):
    """In the order of the batch."""

    accounts: list[ImportedAccount]


@ENDPOINTS.post("/v1/accounts/batch", "accounts:write", OWN, ImportedBatch, problems=("overloaded",))
async def import_accounts(call: Call, body: AccountBatch) -> dict[str, Any]:
    """Add many accounts in one record."""
    wanted = [bulk.Wanted(one.address, one.password, one.quota_bytes) for one in body.accounts]
    found = await bulk.add_accounts(call.directory, wanted, call.context, call.caller.tenant)
    return {"accounts": [one._asdict() for one in found]}

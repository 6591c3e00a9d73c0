"""Over the admin API: app passwords, one-time codes, secrets for APOP, and logging in on the web with them.

A secret is in the answer of the request that made it, and never again.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from actors import apop, credentials
from actors.credentials import SCOPES
from actors.directory import Target, account_of
from nodes.http import places, rows
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import bad_request, of_code
from nodes.http.models import Address, Count, Id, Milliseconds, Model, Nothing
from nodes.http.places import CLUSTER, in_path
from nodes.logins import web as web_login
from nodes.logins.door import LoginRefused, Reason

ENDPOINTS = Endpoints("credentials")
NAMED = places.account(in_path("address"))
MOST_CODE = 64
Name = Annotated[str, Field(min_length=1, max_length=credentials.MAX_NAME, examples=["phone"])]
Scope = Annotated[str, Field(min_length=1, max_length=32, examples=["imap"])]
Code = Annotated[str, Field(min_length=1, max_length=MOST_CODE, examples=["123456"])]


class AppPassword(Model):
    """One of an account's, without what it is."""

    name: Name
    scopes: list[Scope]
    expires_ms: Milliseconds | None
    created_ms: Milliseconds
    used_ms: Milliseconds | None


class OneTimeCodes(Model):
    """Whether a code is asked for besides the password."""

    state: Literal["off", "unconfirmed", "on"]
    since_ms: Milliseconds | None
    recovery_codes_used: int


class Apop(Model):
    """The secret for APOP; whether the tenant allows it."""

    since_ms: Milliseconds | None
    allowed: bool


class RefusedLogins(Model):
    """What was tried in vain."""

    attempts: int
    last_ms: Milliseconds | None


class Credentials(Model):
    """All of an account's, without secrets, and what was refused."""

    address: Address
    app_passwords: list[AppPassword]
    totp: OneTimeCodes
    apop: Apop
    refused_logins: RefusedLogins


class NewAppPassword(Model):
    """What it is for. Without `expires_ms` it never expires."""

    name: Name
    scopes: list[Scope] = Field(min_length=1, max_length=len(SCOPES), examples=[["imap", "smtp"]])
    expires_ms: Count | None = Field(None, examples=[None])


class MadeAppPassword(NewAppPassword):
    """The password is in this answer, and never again."""

    password: str = Field(examples=["abcd-efgh-ijkl-mnop"])


class Enrolment(Model):
    """The secret is in this answer, and never again."""

    secret: str = Field(examples=["JBSWY3DPEHPK3PXP"])
    uri: str = Field(examples=["otpauth://totp/mailraft:alice@example.test?secret=JBSWY3DPEHPK3PXP"])
    recovery_codes: list[str]


class Confirmation(Model):
    """A code that the app shows now."""

    code: Code


class ApopSecret(Model):
    """What APOP takes from now on."""

    secret: str = Field(min_length=1, max_length=apop.MOST_CHARACTERS, examples=["correct horse battery"])


class Login(Model):
    """Somebody at the network address `client` who wants to be let in on the web."""

    login: Address
    password: str = Field(min_length=1, max_length=1024)
    code: Code | None = None
    client: str = Field(min_length=1, max_length=64, examples=["192.0.2.7"])
    new_password: str | None = Field(
        None, min_length=1, max_length=1024, description="Set where it must be changed; else passed over."
    )


class LoggedIn(Model):
    """Whose the login is."""

    address: Address
    id: Id


@ENDPOINTS.get("/v1/accounts/{address}/credentials", "credentials:read", NAMED, Credentials, made_of=rows.log_ins)
async def show(call: Call) -> dict[str, Any]:
    """Show how an account logs in, without secrets."""
    with call.services.log.snapshot() as snapshot:
        target = account_of(snapshot, call.path["address"])
        view = snapshot.view(target.tenant)
        apps = credentials.app_passwords(view, target.account)
        codes = credentials.one_time_codes(view, target.account)
        refused = credentials.refused_logins(view, target.account)
        secret, allowed = apop.secret_of(view, target.account), apop.is_allowed(view)
    return {
        "address": target.address,
        "app_passwords": [_app_json(one) for one in apps],
        "totp": _codes_json(codes),
        "apop": {"since_ms": secret.since_ms if secret else None, "allowed": allowed},
        "refused_logins": {"attempts": refused.attempts, "last_ms": refused.last_ms or None},
    }


@ENDPOINTS.post(
    "/v1/accounts/{address}/app-passwords", "credentials:write", NAMED, MadeAppPassword, status=201, secret=True
)
async def add_app_password(call: Call, body: NewAppPassword) -> dict[str, Any]:
    """Make an app password; the answer holds it."""
    if not set(body.scopes) <= set(SCOPES):
        raise bad_request(f"scopes: must be some of {', '.join(SCOPES)}")
    password = await call.directory.credentials.add_app_password(
        call.path["address"], body.name, body.scopes, body.expires_ms, call.context
    )
    return {
        "name": body.name,
        "scopes": sorted(set(body.scopes)),
        "expires_ms": body.expires_ms,
        "password": password,
    }


@ENDPOINTS.delete(
    "/v1/accounts/{address}/app-passwords/{name}", "credentials:write", NAMED, Nothing, made_of=rows.log_ins
)
async def revoke_app_password(call: Call) -> dict[str, Any]:
    """Revoke an app password."""
    await call.directory.credentials.revoke_app_password(call.path["address"], call.path["name"], call.context)
    return {}


@ENDPOINTS.post(
    "/v1/accounts/{address}/totp",
    "credentials:write",
    NAMED,
    Enrolment,
    status=201,
    secret=True,
    made_of=rows.log_ins,
)
async def enrol(call: Call) -> dict[str, Any]:
    """Make new one-time codes; they are asked for once a first code confirms them."""
    made = await call.directory.credentials.enrol(call.path["address"], call.context)
    return {"secret": made.secret, "uri": made.uri, "recovery_codes": list(made.recovery)}


@ENDPOINTS.put("/v1/accounts/{address}/totp", "credentials:write", NAMED, Nothing, made_of=rows.log_ins)
async def confirm(call: Call, body: Confirmation) -> dict[str, Any]:
    """Confirm one-time codes with a first one."""
    await call.directory.credentials.confirm(call.path["address"], body.code, call.context)
    return {}


@ENDPOINTS.delete("/v1/accounts/{address}/totp", "credentials:write", NAMED, Nothing, made_of=rows.log_ins)
async def disable(call: Call) -> dict[str, Any]:
    """Ask for no one-time codes any more."""
    await call.directory.credentials.disable(call.path["address"], call.context)
    return {}


@ENDPOINTS.put("/v1/accounts/{address}/apop", "credentials:write", NAMED, Nothing, made_of=rows.log_ins)
async def set_apop_secret(call: Call, body: ApopSecret) -> dict[str, Any]:
    """Set what APOP takes from now on."""
    await call.directory.credentials.set_apop_secret(call.path["address"], body.secret, call.context)
    return {}


@ENDPOINTS.delete("/v1/accounts/{address}/apop", "credentials:write", NAMED, Nothing, made_of=rows.log_ins)
async def remove_apop_secret(call: Call) -> dict[str, Any]:
    """Let APOP in no more."""
    await call.directory.credentials.remove_apop_secret(call.path["address"], call.context)
    return {}


@ENDPOINTS.post(
    "/v1/login",
    "credentials:write",
    CLUSTER,
    LoggedIn,
    problems=(
        "code_needed",
        "password_change_needed",
        "wrong_credentials",
        "login_suspended",
        "login_blocked",
        "not_allowed",
        "passwords_away",
    ),
    once=False,
)
async def log_in(call: Call, body: Login) -> dict[str, Any]:
    """Tell whether a person is let in on the web.

    The problem `code_needed` (401) says that only the one-time code is missing, `password_change_needed` (401) that all
    is right and another password must be chosen, `wrong_credentials` that something is wrong, `login_suspended` (403)
    that the account or its tenant is closed, `login_blocked` (429) that too many attempts were wrong before, and
    `passwords_away` (503) that whoever keeps the password can not be asked now.
    """
    asked = (body.client, body.login, body.password, body.code, call.context, body.new_password)
    try:
        found = await web_login.log_in(call.services, *asked)
    except web_login.ChangeNeeded:
        raise of_code("password_change_needed", "the password must be changed") from None
    except web_login.CodeNeeded:
        raise of_code("code_needed", "a one-time code is needed") from None
    except LoginRefused as refused:
        raise of_code(refused.code, _REFUSED.get(refused.reason, _TOO_MANY)) from None
    return _target_json(found)


_REFUSED: dict[Reason, str] = {
    "wrong": "wrong address, password or code",
    "suspended": "the account is closed, or its tenant is not served",
    "away": "passwords can not be checked now; try again later",
}
_TOO_MANY = "too many attempts; try again later"


def _target_json(target: Target) -> dict[str, Any]:
    return {"address": target.address, "id": target.account.hex()}


def _app_json(one: credentials.AppPassword) -> dict[str, Any]:
    return {
        "name": one.name,
        "scopes": list(one.scopes),
        "expires_ms": one.expires_ms,
        "created_ms": one.created_ms,
        "used_ms": one.used_ms,
    }


def _codes_json(codes: credentials.OneTimeCodes | None) -> dict[str, Any]:
    if codes is None:
        return {"state": "off", "since_ms": None, "recovery_codes_used": 0}
    state = "on" if codes.confirmed else "unconfirmed"
    return {"state": state, "since_ms": codes.since_ms, "recovery_codes_used": len(codes.used_recovery)}

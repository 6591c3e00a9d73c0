"""One request to an endpoint, from the first byte to the last: who asks, what is asked, whether they may, the answer.

The order is fixed, and nothing of it is left to the handlers: the caller is known before the body is read; body and
query are valid before anything is looked up; nothing is done before `permits` was asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from difflib import get_close_matches
from functools import partial
from typing import Any, NoReturn

from aiohttp import web
from pydantic import BaseModel, ValidationError

from actors.directory import Directory
from actors.errors import CommandRefused, InvalidName
from actors.region import REGION, tenant_ids
from actors.requests import AsSeen, Once
from actors.runtime import Context
from actors.tenant import TenantEntry
from eventlog.errors import OutcomeUnknown, Rejected
from eventlog.record import Guard
from eventlog.store import Snapshot
from nodes.http.asking import require_still_good
from nodes.http.authority import STATE, services_of
from nodes.http.endpoint import ANYBODY, ANYBODY_KNOWN, JSON_LINES, Answered, Endpoint
from nodes.http.errors import STALE, STALE_HEADER, ApiError, FieldError
from nodes.http.models import described, line_of
from nodes.http.once import HEADER, carry_out, header_of, once_of
from nodes.http.places import OWN, Place, Subject
from nodes.http.rows import MadeOf, Rows
from nodes.logins.bound_tenants import tenant_name
from nodes.logins.callers import Caller, knows, permits
from nodes.logins.identities import outranks
from nodes.services import Services
from nodes.trail import TRAIL, cause_of, current_id

CATCH_UP_S = 3.0
LETS_IN = "credentials:write"  # it makes one who could come in as the account
MOST_ERRORS = 20
ETAG_CHARACTERS = 32
VERSION_CHARACTERS = 16


class Call:
    """What a handler is given. `subject` is whose thing it is about, once that is found and allowed."""

    def __init__(self, endpoint: Endpoint, request: web.Request, caller: Caller) -> None:
        self.endpoint = endpoint
        self.request = request
        self.caller = caller
        self.path = request.match_info
        self.body: BaseModel | None = None
        self.query: BaseModel | None = None
        self.subject = Subject(None)
        self.stale = False
        self.once: Once | None = None
        self.version = ""  # of what a GET shows; it is of before it was shown
        self.seen: AsSeen | None = None

    @property
    def services(self) -> Services:
        """The node's parts. Raises ApiError while it has none."""
        return services_of(self.request)

    @property
    def directory(self) -> Directory:
        return self.services.directory

    @property
    def context(self) -> Context:
        """Who asks, for the record."""
        doing = f"{self.request.method} {self.endpoint.path}"  # as declared: an address in the path can not be erased
        cause = cause_of(doing, (current_id(),))
        found = Context(self.caller.by, cause, timeout_s=self.services.config.raft.propose_timeout_s)
        found = found._replace(once=self.once, seen=self.seen)
        return found if self.subject.tenant is None else found._replace(tenant=self.subject.tenant)

    @property
    def tenant(self) -> bytes:
        """The tenant that it is about, of an endpoint whose place is one."""
        assert self.subject.tenant is not None
        return self.subject.tenant

    def still_good(self) -> None:
        """Raises ApiError (401) where the token that asks has ended while the body came."""
        require_still_good(self.request, self.request.app[STATE].identities)

    def require(self, place: Place, permission: str | None = None) -> Subject:
        """Whose another thing is that the request names; the same rules. Raises ApiError, CommandRefused."""
        with self.services.log.snapshot() as snapshot:
            return _find(self, place, permission or self.endpoint.permission, snapshot)

    def tenant_names(self) -> dict[bytes, str]:
        """What each tenant of the cell is called; for endpoints of the cluster."""
        with self.services.log.snapshot() as snapshot:
            return dict(tenant_ids(snapshot.view(REGION)))

    def tenants(self, snapshot: Snapshot, first: bytes = b"") -> Iterator[TenantEntry]:
        """All that the caller may see, the oldest first; from the one with the id `first` on."""
        own = self.caller.tenant
        for key, row in snapshot.view(REGION).range(b"t", max(first, own or b""), own and own + b"\0"):
            yield TenantEntry(key[1:], row[0])


async def answer(endpoint: Endpoint, request: web.Request, caller: Caller) -> web.StreamResponse:
    """Carries out one request. Raises what `of_exception` knows."""
    call = Call(endpoint, request, caller)
    _name(call)
    call.query = _query(endpoint, request)
    call.body = await _body(endpoint, request)
    await _catch_up(call)
    if endpoint.body is not None:
        call.still_good()
    if HEADER in request.headers and endpoint.takes_key:
        call.once = once_of(endpoint, request, caller, await request.read(), call.directory)
    return _response(call, await carry_out(endpoint, call.once, partial(_handled, call)))


def _name(call: Call) -> None:
    """Lines of the log say who asks."""
    trail, state = TRAIL.get(), call.request.app[STATE]
    if trail is not None and state.services is not None:
        trail.account = call.caller.name
        trail.tenant = tenant_name(state.services.log, call.caller.tenant) or ""


async def _handled(call: Call) -> Answered:
    call.subject = _authorised(call)
    given: dict[str, Any] = {}
    if call.query is not None:
        given["query"] = call.query
    if call.body is not None:
        given["body"] = call.body
    wanted, made_of = call.request.headers.get("If-Match"), call.endpoint.made_of
    if call.endpoint.method == "GET" and made_of is not None:
        call.version, _ = _version(call, made_of)
    if wanted is None or call.endpoint.method == "GET" or (call.once is not None and call.once.is_repeated):
        return await call.endpoint.handler(call, **given)
    call.seen = _as_seen(call, wanted, made_of)
    try:
        return await call.endpoint.handler(call, **given)
    except Rejected as error:
        if error.reason == "guard":
            raise _has_changed() from None
        raise


def _as_seen(call: Call, wanted: str, made_of: MadeOf | None) -> AsSeen:
    """Guards that what is changed is what the client has seen (RFC 9110 13.1.1). Raises ApiError (412).

    Of an ETag it is the version that counts: what it is made of. How much of a quota is used may be another thing now.
    """
    if made_of is None:
        text = "this has no version that could be compared: leave out If-Match"
        raise ApiError(412, "precondition", text, code="no_version")
    version, guards = _version(call, made_of)
    tags = {one.strip().strip('"').partition(".")[0] for one in wanted.split(",")}
    if wanted.strip() != "*" and version not in tags:
        raise _has_changed()
    return AsSeen(guards)


def _version(call: Call, made_of: MadeOf) -> tuple[str, tuple[Guard, ...]]:
    """What tells the thing from what it was before, and the rows that it is made of as they are now."""
    with call.services.log.snapshot() as snapshot:
        guards = tuple(guard for rows in made_of(call, snapshot) for guard in _guards(rows, snapshot))
    text = b"".join(one.stream + one.key + one.version.to_bytes(8, "big") for one in guards)
    return hashlib.sha256(text).hexdigest()[:VERSION_CHARACTERS], guards


def _guards(rows: Rows, snapshot: Snapshot) -> Iterator[Guard]:
    view = snapshot.view(rows.stream)
    keys = [key for key, _ in view.range(rows.key)] if rows.every else [rows.key]
    return (Guard(rows.stream, key, view.version(key)) for key in keys)


def _has_changed() -> ApiError:
    return ApiError(412, "precondition", "it has changed since you read it", "read it again", code="has_changed")


# What is asked


def _query(endpoint: Endpoint, request: web.Request) -> BaseModel | None:
    model = endpoint.query
    if model is None:
        if request.query:
            _unknown(sorted(set(request.query)), [])
        return None
    several = {name for name, field in model.model_fields.items() if "list" in str(field.annotation)}
    given: dict[str, Any] = {name: value for name, value in request.query.items() if name not in several}
    given |= {name: request.query.getall(name) for name in several if name in request.query}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _invalid("query", model, error) from None


def _unknown(names: list[str], known: list[str]) -> NoReturn:
    errors = [FieldError("query", name, _no_field(name, known)) for name in names[:MOST_ERRORS]]
    raise _wrong(errors)


async def _body(endpoint: Endpoint, request: web.Request) -> BaseModel | None:
    model = endpoint.body
    if not isinstance(model, type):
        return None
    data = await request.read()
    if not data and not any(field.is_required() for field in model.model_fields.values()):
        data = b"{}"
    if request.content_type in JSON_LINES and line_of(model) is not None:
        (name,) = model.model_fields
        data = b'{"%s": [%s]}' % (name.encode(), b",".join(line for line in data.splitlines() if line.strip()))
    try:
        return model.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise _invalid("body", model, error) from None


def _invalid(where: str, model: type[BaseModel], error: ValidationError) -> ApiError:
    found = error.errors(include_url=False, include_input=False)[:MOST_ERRORS]
    known = list(model.model_fields)
    errors = []
    for one in found:
        field = ".".join(map(str, one["loc"]))
        text = described(one["type"], one.get("ctx", {}), one["msg"])
        if one["type"] == "extra_forbidden":
            text = _no_field(field, known)
        errors.append(FieldError(where, field, text))
    return _wrong(errors)


def _no_field(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1)
    return "there is no such field" + (f"; did you mean {near[0]}?" if near else "")


def _wrong(errors: list[FieldError]) -> ApiError:
    text = "; ".join(f"{one.field[:64] or f'the {one.where}'}: {one.message}" for one in errors)
    return ApiError(400, "bad_request", text, "/v1/openapi.json describes it", code="invalid_request", errors=errors)


async def _catch_up(call: Call) -> None:
    """So that it is decided on what is, or said that this is not known."""
    if call.endpoint.reads == "local":
        return
    try:
        await call.services.log.barrier(CATCH_UP_S)
    except OutcomeUnknown:
        if call.endpoint.reads == "strict":
            text = "no majority of the cell answers, so nothing was "
            text += "read" if call.endpoint.method == "GET" else "changed"
            raise ApiError(503, "not_ready", text, "start more nodes", code="no_majority_answers") from None
        call.stale = call.request[STALE] = True


# Whether they may


def _authorised(call: Call) -> Subject:
    """Raises ApiError (403), CommandRefused (404: what a caller may not know of is not there)."""
    caller, endpoint = call.caller, call.endpoint
    if endpoint.permission in (ANYBODY, ANYBODY_KNOWN):
        return Subject(caller.tenant)
    if endpoint.place is OWN:
        if not permits(caller, endpoint.permission, caller.tenant):
            raise forbidden(caller, endpoint.permission)
        return Subject(caller.tenant)
    if endpoint.place.find is None:
        if not permits(caller, endpoint.permission, None):
            raise forbidden(caller, f"{endpoint.permission} of the whole cluster")
        return Subject(None)
    with call.services.log.snapshot() as snapshot:
        found = _find(call, endpoint.place, endpoint.permission, snapshot)
        if endpoint.permission == LETS_IN and not outranks(snapshot, caller, found):
            raise forbidden(caller, "all that the account's own role may")
        return found


def _find(call: Call, place: Place, permission: str, snapshot: Snapshot) -> Subject:
    assert place.find is not None
    assert place.missing is not None
    try:
        found = place.find(snapshot, call)
    except InvalidName:
        raise
    except CommandRefused:
        raise place.missing(call) from None
    if permits(call.caller, permission, found.tenant, found.account):
        return found
    if not knows(call.caller, found.tenant):
        raise place.missing(call)
    raise forbidden(call.caller, permission)


def forbidden(caller: Caller, permission: str) -> ApiError:
    """The caller may know that it is there, and may not do it."""
    return ApiError(
        403, "forbidden", f"{caller.name} ({caller.role}) may not: it needs {permission}", "another role, or token"
    )


# The answer


def _response(call: Call, answered: Answered) -> web.StreamResponse:
    if isinstance(answered, web.StreamResponse):
        return answered
    text = json.dumps(answered).encode()
    headers = stale_header(call.stale) | header_of(call.once)
    if call.request.method != "GET":
        return web.Response(body=text, status=call.endpoint.status, content_type="application/json", headers=headers)
    headers["ETag"] = '"' + (f"{call.version}." if call.version else "") + etag_of(text) + '"'
    headers["Cache-Control"] = "private, no-cache"
    if _is_known(call.request, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    return web.Response(body=text, content_type="application/json", headers=headers)


def stale_header(stale: bool) -> dict[str, str]:
    """Says that what is read may be old, so that the body is the same in every case."""
    return {STALE_HEADER: "1"} if stale else {}


def etag_of(text: bytes) -> str:
    """What a representation is told from others by."""
    return hashlib.sha256(text).hexdigest()[:ETAG_CHARACTERS]


def _is_known(request: web.Request, etag: str) -> bool:
    """RFC 9110 13.1.2, by the weak comparison."""
    given = request.headers.get("If-None-Match", "")
    return given.strip() == "*" or etag in (one.strip().removeprefix("W/") for one in given.split(","))

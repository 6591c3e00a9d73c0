"""Lists in pages: a cursor is the key of the last item that was given, so that nothing is lost or told twice while
things are added and removed. It is opaque to clients, and tells nothing that they may not know.
"""

from __future__ import annotations

import base64
import binascii
import heapq
import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from actors.directory import tenant_named
from actors.errors import NoSuchTenant
from actors.region import REGION
from eventlog.store import Snapshot
from eventlog.views import View
from nodes.http.errors import ApiError, FieldError
from nodes.http.models import PageQuery

if TYPE_CHECKING:
    from nodes.http.calls import Call

Item = TypeVar("Item")
Key = tuple[Any, ...]


class Found(NamedTuple):
    """A row of a list over many tenants, by what follows the list's prefix in its key. `tenant` None: the cluster."""

    view: View
    tenant: str | None
    key: bytes


def page(
    items: Iterable[Item], key: Callable[[Item], Key], query: PageQuery, shown: Callable[[Item], Any]
) -> tuple[list[Any], str | None]:
    """The items of a page as they are `shown`, and its `next`. `items` in any order, `key` as unlike as they are.

    Raises ApiError for a cursor that no page gave.
    """
    after = cursor_key(query.after)
    try:
        wanted = [one for one in items if after is None or key(one) > after]
    except TypeError:
        raise wrong_cursor() from None
    some = heapq.nsmallest(query.limit, wanted, key)
    following = cursor(key(some[-1])) if len(wanted) > query.limit else None
    return [shown(one) for one in some], following


def page_of_tenants(
    call: Call,
    snapshot: Snapshot,
    query: PageQuery,
    prefix: bytes,
    shown: Callable[[Found], Any],
    *,
    named: str | None = None,
    cluster: bool = False,
) -> tuple[list[Any], str | None]:
    """A page of the rows with a prefix, in all tenants that the caller may see, as they are `shown` (None: not at all).

    It is read from the cursor on: a page costs what it shows. `named`: of this tenant only. `cluster`: first those of
    the cluster, for who may see them. Raises NoSuchTenant, ApiError for a cursor that no page gave.
    """
    after_stream, after_key = _row_of(query.after)
    found: list[Any] = []
    last: Key = ()
    for stream, name in _streams(call, snapshot, named, after_stream, cluster):
        view = snapshot.view(stream)
        start = after_key + b"\0" if stream == after_stream else b""
        for key, _ in view.range(prefix, start):
            one = shown(Found(view, name, key[len(prefix) :]))
            if one is None:
                continue
            if len(found) == query.limit:
                return found, cursor(last)
            found.append(one)
            last = (stream.hex(), key[len(prefix) :].hex())
    return found, None


def _row_of(after: str) -> tuple[bytes, bytes]:
    """Stream and key of the last row that was given; empty for none. Raises ApiError."""
    try:
        stream, key = map(bytes.fromhex, cursor_key(after) or ("", ""))
    except (TypeError, ValueError):
        raise wrong_cursor() from None
    return stream, key


def _streams(
    call: Call, snapshot: Snapshot, named: str | None, after: bytes, cluster: bool
) -> Iterator[tuple[bytes, str | None]]:
    """From that of the cursor on: the cluster's, then those of tenants, the oldest first."""
    if named is not None:
        yield _visible(call, snapshot, named)
        return
    if cluster and call.caller.tenant is None and after in (b"", REGION):
        yield REGION, None
    for entry in call.tenants(snapshot, b"" if after == REGION else after):
        yield entry.id, entry.name


def _visible(call: Call, snapshot: Snapshot, named: str) -> tuple[bytes, str]:
    """Raises NoSuchTenant for one that is not there, and for another's in the same words."""
    try:
        wanted = tenant_named(snapshot, named)
    except NoSuchTenant:
        wanted = b""
    first = next(call.tenants(snapshot, wanted), None)
    if first is None or first.id != wanted:
        raise NoSuchTenant(f"there is no tenant {named}")
    return first.id, first.name


def cursor(key: Key) -> str:
    """The key of an item as clients are given it."""
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode().rstrip("=")


def cursor_key(text: str) -> Key | None:
    """What `cursor` was made of; None for none. Raises ApiError."""
    if not text:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raise wrong_cursor() from None
    if not isinstance(found, list) or not found:
        raise wrong_cursor()
    return tuple(found)


def wrong_cursor() -> ApiError:
    """What is given as `after` was never a `next`."""
    text = "is not the `next` of a page of this list"
    errors = [FieldError("query", "after", text)]
    return ApiError(400, "bad_request", f"after: {text}", "begin without it", code="invalid_cursor", errors=errors)

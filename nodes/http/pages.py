"""Lists in pages: a cursor is the key of the last item that was given, so that nothing is lost or told twice while
things are added and removed. It is opaque to clients, and holds nothing that the page did not.
"""

from __future__ import annotations

import base64
import binascii
import heapq
import json
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from nodes.http.errors import ApiError, FieldError
from nodes.http.models import PageQuery

Item = TypeVar("Item")
Key = tuple[Any, ...]


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

"""An item of a queue as the admin API knows it: in which state it is, which ones are meant, and how it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from actors.queue import Item
from actors.standing import Standing


class Place(NamedTuple):
    """What an item's state depends on besides itself."""

    domain: str
    stream: bytes
    suspended: str  # why nothing is sent to the domain; empty while there is no such reason
    throttled_until_ms: int
    inactive: Mapping[bytes, Standing]  # tenants whose mail waits, wherever it goes


class Filter(NamedTuple):
    """Which items are meant; what is None or empty counts for all."""

    domain: str = ""
    sender: str | None = None
    recipient: str = ""
    state: str = ""
    older_ms: int = 0
    ids: frozenset[bytes] = frozenset()
    tenant: bytes | None = None

    def takes(self, place: Place, item: Item, now_ms: int) -> bool:
        if self.tenant is not None and item.tenant != self.tenant:
            return False
        if self.ids and item.id not in self.ids:
            return False
        if self.sender is not None and item.sender.casefold() != self.sender.casefold():
            return False
        if self.recipient and not any(_matches(one.address, self.recipient) for one in item.recipients):
            return False
        if self.older_ms and item.queued_ms > now_ms - self.older_ms:
            return False
        return not self.state or state_of(place, item, now_ms) == self.state


def state_of(place: Place, item: Item, now_ms: int) -> str:
    """A State (nodes/http/queue_models.py): why the item is not being sent, or that it is."""
    if item.claim is not None and item.claim.until_ms > now_ms:
        return "sending"
    if item.held:
        return "held"
    if _suspended(place, item):
        return "suspended"
    if item.options.hold_until_ms > now_ms and not item.attempts:
        return "scheduled"
    if place.throttled_until_ms > now_ms:
        return "throttled"
    return "deferred" if item.attempts else "waiting"


def _suspended(place: Place, item: Item) -> str:
    """Why nothing is sent until somebody resumes it; empty where nothing was suspended."""
    standing = place.inactive.get(item.tenant)
    return place.suspended or (standing.text if standing is not None else "")


def item_json(place: Place, item: Item, now_ms: int) -> dict[str, Any]:
    """An item as the API tells it."""
    held = item.claim is not None and item.claim.until_ms > now_ms
    return {
        "id": item.id.hex(),
        "domain": place.domain,
        "state": state_of(place, item, now_ms),
        "suspended_because": _suspended(place, item) or None,
        "sender": item.sender,
        "recipients": [
            {
                "address": one.address,
                "state": one.state,
                "next_ms": one.next_ms,
                "reason": one.reason,
                "code": one.code,
                "enhanced": one.enhanced,
                "host": one.host,
                "notify": list(one.options.notify),
                "orcpt": one.options.orcpt,
            }
            for one in item.recipients
        ],
        "session": item.session.hex(),
        "size": item.size,
        "sha256": item.digest.hex(),
        "attempts": item.attempts,
        "possible_duplicates": item.duplicates,
        "queued_ms": item.queued_ms,
        "next_ms": _next_ms(place, item, now_ms),
        "expires_ms": item.expires_ms,
        "held_by": item.claim.node if item.claim is not None and held else None,
        "route": item.route,
        "warned": item.warned,
        "options": item.options._asdict(),
    }


def _next_ms(place: Place, item: Item, now_ms: int) -> int | None:
    """When it is tried at the earliest; None while somebody must release or resume it first."""
    state = state_of(place, item, now_ms)
    if item.next_ms is None or state in ("held", "suspended"):
        return None
    return max(item.next_ms, place.throttled_until_ms) if state == "throttled" else item.next_ms


def _matches(address: str, wanted: str) -> bool:
    return address.casefold() == wanted.casefold()

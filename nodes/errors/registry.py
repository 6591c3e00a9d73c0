"""Every kind of error, by its code. What a code says of itself anywhere, it has from here."""

from __future__ import annotations

from nodes.errors import log, mail, refused, requests
from nodes.errors.kinds import ErrorKind

_ALL = (*refused.KINDS, *log.KINDS, *requests.KINDS, *mail.KINDS)
REGISTRY: dict[str, ErrorKind] = {one.code: one for one in sorted(_ALL)}
INTERNAL = REGISTRY["internal"]


def kind_of(code: str) -> ErrorKind:
    """What is known of a code; of one that nobody registered, that the node failed (which a test keeps from being)."""
    return REGISTRY.get(code, INTERNAL)

"""Whom a logged-in client may speak for: in MAIL FROM, and in From, Sender and Resent-From (RFC 6409 6.1 and 8.1).

An address of this cell has to lead to the account, or to one that lets the account send as it (actors/delegation.py).
Where others see an author who is not the one that sent, Sender says who did: on behalf of somebody, of several, or of
somebody elsewhere, whom nobody here can ask. It stands in front of the message, like what it lacked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors import delegation, tenant_policy
from actors.delegation import ON_BEHALF, SEND_AS
from actors.directory import resolve
from actors.errors import InvalidName, NotLocal, TooLarge
from nodes.mime.addresses import addresses
from nodes.mime.header import Field, fields, header_end, selected_lines, value_of
from nodes.smtp import replies
from nodes.smtp.replies import Refused

if TYPE_CHECKING:
    from actors.directory import Target
    from eventlog.log import EventLog, Snapshot

OWN, ELSEWHERE = "own", "elsewhere"
HEADER_BYTES = 1024 * 1024
MOST_FIELD_BYTES = 16 * 1024
MOST_ADDRESSES = 50
AUTHOR, SENDER, RESENT = b"from", b"sender", b"resent-from"
LOOKED_AT = frozenset((AUTHOR, SENDER, RESENT))
SHOWN = {AUTHOR: "From", SENDER: "Sender", RESENT: "Resent-From"}


def standing(snapshot: Snapshot, account: Target, address: str) -> str | None:
    """What the address is to the account: OWN, SEND_AS, ON_BEHALF, ELSEWHERE; None for somebody else's of this cell."""
    try:
        targets = resolve(snapshot, address) or ()
    except (NotLocal, InvalidName):
        return ELSEWHERE
    except TooLarge:
        return None
    if any(one.account == account.account for one in targets):
        return OWN
    view = snapshot.view(account.tenant)
    owners = {one.account for one in targets if one.tenant == account.tenant and not one.is_outside}
    ways = {delegation.way(view, owner, account.account) for owner in owners}
    return next((way for way in delegation.WAYS if way in ways), None)


def sender_line(log: EventLog, account: Target, data: bytes) -> bytes:
    """The Sender line that a message lacks, with CRLF, or nothing. `data` may be the header alone.

    Raises Refused for an author, a sender, or who sends it again, whom the account may not speak for.
    """
    named = _named(data)
    own = account.address.casefold()
    if list(named) == [AUTHOR] and [one.casefold() for one in named[AUTHOR]] == [own]:
        return b""
    with log.snapshot() as snapshot:
        found = {field: {one: standing(snapshot, account, one) for one in those} for field, those in named.items()}
        refuses = tenant_policy.settings(snapshot.view(account.tenant)).get("authors_elsewhere") == "refuse"
    _check(found, refuses)
    authors = found.get(AUTHOR, {})
    if SENDER in found or (len(authors) == 1 and set(authors.values()) <= {OWN, SEND_AS}):
        return b""
    return f"Sender: <{account.address}>\r\n".encode()


def _check(found: dict[bytes, dict[str, str | None]], refuses_elsewhere: bool) -> None:
    for field, those in found.items():
        for address, one in those.items():
            if one is None:
                raise Refused(replies.not_your_author(SHOWN[field], address))
    authors = set(found.get(AUTHOR, {}).values())
    if refuses_elsewhere and ELSEWHERE in authors:
        raise Refused(replies.AUTHOR_ELSEWHERE)
    for address, one in found.get(SENDER, {}).items():
        # what came from elsewhere and is sent again keeps the Sender that it has (RFC 5322 3.6.6)
        allowed = {OWN} if ON_BEHALF in authors else {OWN, SEND_AS}
        if one not in (allowed | {ELSEWHERE} if authors == {ELSEWHERE} else allowed):
            raise Refused(replies.not_your_author(SHOWN[SENDER], address))


def _named(data: bytes) -> dict[bytes, list[str]]:
    """The addresses in the fields that are looked at; what is no address leads to nobody here. Raises Refused."""
    end = header_end(data, 0, min(len(data), HEADER_BYTES))
    lines = selected_lines(data, 0, end, LOOKED_AT, keep=True)
    found: dict[bytes, list[str]] = {}
    for field in fields(lines, 0, len(lines)):
        found.setdefault(field.name, []).extend(_addresses(lines, field))
    if sum(map(len, found.values())) > MOST_ADDRESSES:
        raise Refused(replies.TOO_MANY_AUTHORS)
    return found


def _addresses(lines: bytes, field: Field) -> list[str]:
    if field.end - field.start > MOST_FIELD_BYTES:
        raise Refused(replies.TOO_MANY_AUTHORS)
    read = addresses(value_of(lines, field))
    return [f"{_text(one.mailbox)}@{_text(one.host)}" for one in read if one.mailbox and one.host]


def _text(part: bytes | None) -> str:
    return (part or b"").decode("utf-8", "replace")

"""GETMETADATA and SETMETADATA (RFC 5464): what people write on mailboxes and on the server.

What is written on the server is each account's own. The shared entries of the server are ours: whom to write to. What
a mailbox of one's own is for (RFC 6154) can be read as an entry, and is said when the mailbox is made.
"""

from __future__ import annotations

from collections.abc import Iterable

from actors import mailbox as actor
from actors.errors import InvalidName
from actors.mailbox import SERVER, folder
from actors.mailbox_annotations import MAX_VALUE_BYTES, OWNER, normalise_entry
from actors.tenant import POSTMASTER
from eventlog.views import View
from nodes.imap import render
from nodes.imap.errors import Refusal, refusal_of
from nodes.imap.metadata_commands import GetMetadata, SetMetadata
from nodes.imap.places import enter
from nodes.imap.session import Session
from nodes.imap.shared import Handler

SPECIAL_USE = "/private/specialuse"  # RFC 6154 4


async def get_metadata(session: Session, command: GetMetadata) -> str:
    folder_id = enter(session, command.name, "r").id if command.name else SERVER
    _check_names(entry for entry in command.entries if command.depth == 0 or entry not in ("/private", "/shared"))
    with session.reading() as reading:
        present = _all(session, reading.view, folder_id)
    found, longest = select(present, command)
    if found:
        session.write(response(command.name, found, session.features.utf8))
    code = "" if longest is None else f"[METADATA LONGENTRIES {longest}] "
    return f"{code}GETMETADATA completed"


def _all(session: Session, view: View, folder_id: bytes) -> dict[str, bytes]:
    present = dict(actor.annotations_of(view, folder_id, _reader(session)))
    if folder_id == SERVER:  # RFC 5464 6.2.1
        domain = session.target.address.rpartition("@")[2]
        present["/shared/admin"] = f"mailto:{POSTMASTER}@{domain}".encode()
    elif session.place is None and (found := folder(view, folder_id)) is not None and found.special_use:
        present[SPECIAL_USE] = found.special_use.encode()
    return present


def _reader(session: Session) -> bytes:
    """Whose private entries are meant."""
    return OWNER if session.place is None else session.target.account


def select(present: dict[str, bytes], command: GetMetadata) -> tuple[list[tuple[str, bytes | None]], int | None]:
    """What is answered, and the size of the largest value that is not because it has more than MAXSIZE (4.2.1)."""
    named = {entry: present.get(entry) for entry in command.entries}
    if command.depth != 0:
        named |= {entry: value for entry, value in present.items() if _is_below(entry, command)}
        named = {entry: value for entry, value in named.items() if value is not None}
    limit = command.max_size
    if limit is None:
        return sorted(named.items()), None
    left_out = [len(value) for value in named.values() if value is not None and len(value) > limit]
    kept = [(entry, value) for entry, value in sorted(named.items()) if value is None or len(value) <= limit]
    return kept, max(left_out, default=None)


def _is_below(entry: str, command: GetMetadata) -> bool:
    """Whether the entry stands within the depth below one that is asked for (RFC 5464 4.2.2)."""
    return any(
        entry.startswith(one + "/") and (command.depth is None or entry.count("/") == one.count("/") + 1)
        for one in command.entries
    )


def response(name: str, found: Iterable[tuple[str, bytes | None]], utf8: bool) -> bytes:
    """METADATA with values (RFC 5464 4.4.1)."""
    pairs = b" ".join(render.string(entry.encode()) + b" " + _value(value) for entry, value in found)
    return b"* METADATA " + render.mailbox(name, utf8) + b" (" + pairs + b")\r\n"


def _value(value: bytes | None) -> bytes:
    if value is not None and b"\x00" in value:
        return b"~" + render.literal(value)
    return render.nstring(value)


def listed(session: Session, view: View, folder_id: bytes, entries: tuple[str, ...], name: str) -> bytes:
    """What LIST returns beside a mailbox (RFC 9590 3): each entry that was asked for, NIL where it is not there."""
    present = _all(session, view, folder_id)
    return response(name, [(entry, present.get(entry)) for entry in entries], session.features.utf8)


async def set_metadata(session: Session, command: SetMetadata) -> str:
    _check_names(entry for entry, _ in command.changes)
    if not command.name and any(entry.startswith("/shared/") for entry, _ in command.changes):
        raise Refusal("the shared entries of the server are its administrators'", "NOPERM")
    if any(value is not None and len(value) > MAX_VALUE_BYTES for _, value in command.changes):
        raise Refusal("a value is too large", f"METADATA MAXSIZE {MAX_VALUE_BYTES}")  # RFC 5464 4.3
    folder_id = enter(session, command.name, "r").id if command.name else SERVER
    if session.place is None and any(entry.lower() == SPECIAL_USE for entry, _ in command.changes):
        raise Refusal("what a mailbox is for is said when it is made", "USEATTR")
    await session.ask(actor.SetAnnotations(folder_id, _reader(session), command.changes))
    return "SETMETADATA completed"


def _check_names(entries: Iterable[str]) -> None:
    for entry in entries:
        try:
            normalise_entry(entry)
        except InvalidName as error:
            raise refusal_of(error) from None


HANDLERS: dict[type, Handler] = {GetMetadata: get_metadata, SetMetadata: set_metadata}

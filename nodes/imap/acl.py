"""SETACL, DELETEACL, GETACL, LISTRIGHTS and MYRIGHTS (RFC 4314), and MYRIGHTS beside LIST (RFC 8440).

The owner has all rights and keeps them. Rights of others are written in one record with the note, in the tenant's
stream, of where they find the mailbox.
"""

from __future__ import annotations

import re

from actors import groups, tenant
from actors.mailbox_acl import ANYONE, RIGHTS, Entry, SetRights, entries, ordered
from actors.sharing import NoteShare
from nodes.imap import places, render
from nodes.imap.acl_commands import GetAcl, ListRights, MyRights, SetAcl
from nodes.imap.errors import Refusal, no_such_mailbox
from nodes.imap.places import Place
from nodes.imap.session import Session
from nodes.imap.shared import Handler


async def set_acl(session: Session, command: SetAcl) -> str:
    place = _administered(session, command.name)
    owner = place.owner or session.target
    whom = places.identifier(session, command.identifier)
    if whom is None:
        raise Refusal("there is nobody of that name", "CANNOT")
    if whom == owner.account:
        raise Refusal("the owner has all rights and keeps them", "CANNOT")
    change = SetRights(place.folder.id, whom, command.negative, command.rights, command.mode)
    session.place = place.owner
    steps = [session.step(place.owner, change)]
    if command.rights and command.mode != "remove":
        steps.append((session.target.tenant, NoteShare(whom, owner.account)))
    await session.ask_all(steps)
    return "DELETEACL completed" if not command.rights and command.mode == "replace" else "SETACL completed"


def _administered(session: Session, name: str) -> Place:
    place = places.find(session, name)
    if place is None:
        raise no_such_mailbox()
    place.require("a")
    return place


async def get_acl(session: Session, command: GetAcl) -> str:
    place = _administered(session, command.name)
    owner = place.owner or session.target
    pairs = [(owner.address, RIGHTS)] if owner.address else []
    with session.reading_of(place.owner) as reading:
        found = entries(reading.view, place.folder.id)
    pairs += [(name, entry.rights) for entry in found if (name := _named(session, entry))]
    text = b"".join(b" " + _written(name) + b" " + shown(rights) for name, rights in pairs)
    session.write(b"* ACL " + render.mailbox(command.name, session.features.utf8) + text + b"\r\n")
    return "GETACL completed"


def _named(session: Session, entry: Entry) -> str | None:
    """The identifier of a line; None where the account has gone."""
    sign = "-" if entry.negative else ""
    if entry.whom == ANYONE:
        return sign + "anyone"
    with session.services.log.snapshot() as snapshot:
        view = snapshot.view(session.target.tenant)
        account = tenant.account(view, entry.whom)
        name = account.address if account is not None else groups.identifier(view, entry.whom)
    return None if name is None else sign + name


def _written(name: str) -> bytes:
    """An identifier, bare where it may be: IMAPClient takes the quotes for a part of it."""
    text = name.encode()
    return text if re.fullmatch(rb"[A-Za-z0-9@._+=:-]+", text) else render.string(text)


async def list_rights(session: Session, command: ListRights) -> str:
    """Who is nobody gets the answer for somebody: who asks does not learn who is there."""
    place = _administered(session, command.name)
    owner = place.owner or session.target
    mine = places.identifier(session, command.identifier) == owner.account
    choice = shown(RIGHTS) if mine else b'"" ' + b" ".join(b"%c" % right for right in shown(RIGHTS))
    name = _written(command.identifier)
    session.write(
        b"* LISTRIGHTS " + render.mailbox(command.name, session.features.utf8) + b" " + name + b" " + choice + b"\r\n"
    )
    return "LISTRIGHTS completed"


async def my_rights(session: Session, command: MyRights) -> str:
    place = places.find(session, command.name)
    if place is None:
        raise no_such_mailbox()
    session.write(my_rights_line(place, session.features.utf8))
    return "MYRIGHTS completed"


def my_rights_line(place: Place, utf8: bool) -> bytes:
    return b"* MYRIGHTS " + render.mailbox(place.folder.name, utf8) + b" " + shown(ordered(place.rights)) + b"\r\n"


def shown(rights: str) -> bytes:
    """With the rights of RFC 2086 for old clients (RFC 4314 2.1.1)."""
    return (rights + "c" * ("k" in rights) + "d" * bool(set("tex") & set(rights))).encode("ascii")


HANDLERS: dict[type, Handler] = {
    SetAcl: set_acl,
    GetAcl: get_acl,
    ListRights: list_rights,
    MyRights: my_rights,
}

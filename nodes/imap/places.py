"""Mailboxes of others by name: `Other Users/<address>/...` and `Public/...` (RFC 2342), beside one's own.

One's own names come first, so that what somebody called Public stays theirs. What is another's is found only in the
account's own tenant, and only where the account may know of it: everything else is answered alike. A look back shows
them as they were, to who had access then and has it now (past_sharing.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from actors import groups, tenant
from actors.directory import Target, account_of
from actors.errors import InvalidName, NoSuchAccount
from actors.mailbox import DELIMITER, Folder, folder_by_name, folders, is_open
from actors.mailbox_acl import ANYONE, RIGHTS
from actors.sharing import owners, public_stream
from eventlog.store import Snapshot
from nodes.imap.errors import Refusal, no_such_mailbox
from nodes.imap.session import Session

OTHERS = "Other Users"
PUBLIC = "Public"
ALL = frozenset(RIGHTS)


class Place(NamedTuple):
    """A mailbox as the session calls it; `owner` None: its own account."""

    owner: Target | None
    folder: Folder
    rights: frozenset[str]

    def require(self, rights: str) -> None:
        """Raises Refusal."""
        missing = [right for right in rights if right not in self.rights]
        if missing:
            raise Refusal(f"you do not have the right {missing[0]!r} there", "NOPERM")


class Named(NamedTuple):
    """Whose mailbox a name speaks of, and what it is called there."""

    owner: Target | None
    name: str


def find(session: Session, name: str) -> Place | None:
    """The mailbox of that name, if there is one that the account may know of."""
    with session.reading_of(None) as reading:
        own = folder_by_name(reading.view, name)
    if own is not None:
        return Place(None, own, ALL)
    named = speaks_of(session, name)
    if named is None or named.owner is None:
        return None
    with session.reading_of(named.owner) as reading:
        found = folder_by_name(reading.view, named.name)
        if found is None:
            return None
    rights = session.rights_in(named.owner, found.id)
    shown = found._replace(name=name, special_use=None)
    return Place(named.owner, shown, rights) if "l" in rights else None


def enter(session: Session, name: str, rights: str, code: str = "NONEXISTENT") -> Folder:
    """The mailbox of that name; from here on it is what the command is about. Raises Refusal."""
    place = find(session, name)
    if place is None:
        raise no_such_mailbox(code)
    place.require(rights)
    session.place = place.owner
    return place.folder


def speaks_of(session: Session, name: str) -> Named | None:
    """Whose mailbox a name speaks of, be there such a folder or not; None where there is nobody to share it."""
    prefix, _, rest = name.partition(DELIMITER)
    if not is_of_others(name):
        return Named(None, name)
    with session.services.log.snapshot() as snapshot:
        if prefix == PUBLIC:
            owner, inner = public_owner(snapshot, session.target.tenant), rest
        else:
            address, _, inner = rest.partition(DELIMITER)
            owner = _account(snapshot, session.target, address)
    return Named(owner, inner) if owner is not None and session.shows(owner) else None


def is_of_others(name: str) -> bool:
    """Whether a name stands in the namespace of others, or of all."""
    prefix, delimiter, _ = name.partition(DELIMITER)
    return bool(delimiter) and prefix in (OTHERS, PUBLIC)


def public_owner(snapshot: Snapshot, tenant_id: bytes) -> Target | None:
    """The tenant's public folders, where it has any."""
    stream = public_stream(tenant_id)
    return Target(tenant_id, stream, "") if is_open(snapshot.view(stream)) else None


def _account(snapshot: Snapshot, own: Target, address: str) -> Target | None:
    try:
        found = account_of(snapshot, address)
    except (NoSuchAccount, InvalidName):
        return None
    return found if found.tenant == own.tenant and found.account != own.account else None


def sharing(session: Session) -> list[tuple[str, Target]]:
    """Who may share something with the account now, and what stands in front of their mailboxes' names."""
    own = session.target
    with session.services.log.snapshot() as snapshot:
        view = snapshot.view(own.tenant)
        public = public_owner(snapshot, own.tenant)
        found = [(f"{PUBLIC}{DELIMITER}", public)] if public is not None else []
        for account_id in owners(view, own.account, session.who[1:]):
            account = tenant.account(view, account_id)
            if account is not None and not set(account.address) & set("/*%"):
                owner = Target(own.tenant, account_id, account.address)
                found.append((f"{OTHERS}{DELIMITER}{account.address}{DELIMITER}", owner))
    return found


def shared_with(session: Session, subscribed: frozenset[str]) -> Iterator[Place]:
    """All that others share with the account, and what is public."""
    for prefix, owner in sharing(session):
        if not session.shows(owner):
            continue
        with session.reading_of(owner) as reading:
            present = folders(reading.view)
            of_each = session.rights_among(owner, [one.id for one in present], reading)
        for one, rights in zip(present, of_each, strict=True):
            if "l" in rights:
                name = prefix + one.name
                yield Place(owner, one._replace(name=name, special_use=None, subscribed=name in subscribed), rights)


def identifier(session: Session, text: str) -> bytes | None:
    """Whom an access control list names: an account of the tenant by its address, or "anyone", or a group.

    None for nobody.
    """
    if text == "anyone":
        return ANYONE
    with session.services.log.snapshot() as snapshot:
        if text.startswith(groups.IDENTIFIER):
            return groups.identified(snapshot.view(session.target.tenant), text, session.target.address)
        try:
            found = account_of(snapshot, text)
        except (NoSuchAccount, InvalidName):
            return None
    return found.account if found.tenant == session.target.tenant else None

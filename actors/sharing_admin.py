"""Administration of what is shared: public folders of a tenant, and rights to folders of accounts.

What an account shares itself goes through its own session and the same commands; this is for whoever administers it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from actors import delegation, groups, tenant
from actors.addresses import Target, account_of, tenant_named
from actors.delegation import LetSend
from actors.errors import InvalidName, NoSuchAccount, NoSuchFolder, NotAllowed
from actors.kind import Command
from actors.mailbox import (
    CreateFolder,
    DeleteFolder,
    OpenMailbox,
    folder_by_name,
    folders,
    is_open,
    normalise_folder_name,
    superior_names,
)
from actors.mailbox_acl import ANYONE, EVERY, SetRights, entries, ordered, parsed
from actors.runtime import Context
from actors.sharing import NoteShare, public_stream
from eventlog.record import new_id
from eventlog.store import Snapshot

if TYPE_CHECKING:
    from actors.directory import Directory

EVERY_FOLDER = "*"
ANYONE_NAME = "anyone"


class Line(NamedTuple):
    """Who may do what, as people write it."""

    whom: str
    negative: bool
    rights: str


class Shared(NamedTuple):
    """A folder, or EVERY_FOLDER, and its list."""

    name: str
    lines: tuple[Line, ...]


class Sender(NamedTuple):
    """Who may send as an account, and how (actors/delegation.py)."""

    whom: str
    how: str
    since_ms: int


class SharingAdmin:
    """A place is an account, by its address, or the public folders of a tenant, by its name."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def create_public(self, tenant_name: str, name: str, context: Context) -> None:
        """A public folder, with those above it; nobody sees it yet. Raises NoSuchTenant, FolderExists, InvalidName."""
        name = normalise_folder_name(name)
        with self._directory.event_log.snapshot() as snapshot:
            owner = place(snapshot, tenant_name)
            steps: list[tuple[bytes, Command]] = []
            if not is_open(snapshot.view(owner.account)):
                steps.append((owner.account, OpenMailbox(owner.tenant, "", ())))
        above = tuple((new_id(), superior) for superior in superior_names(name))
        steps.append((owner.account, CreateFolder(new_id(), name, None, above)))
        await self._directory.runtime.transact(steps, context._replace(tenant=owner.tenant))

    async def delete_public(self, tenant_name: str, name: str, context: Context) -> None:
        """A public folder with what is in it. Raises NoSuchTenant, NoSuchFolder."""
        with self._directory.event_log.snapshot() as snapshot:
            owner = place(snapshot, tenant_name)
            folder_id = _folder_id(snapshot, owner, name)
        await self._directory.runtime.ask(owner.account, DeleteFolder(folder_id), context._replace(tenant=owner.tenant))

    async def set_rights(self, where: str, name: str, line: Line, context: Context) -> str:
        """Whom a folder is shared with, in place of what they had; no rights: not any more. Gives the rights.

        Raises NoSuchAccount, NoSuchTenant, NoSuchFolder, InvalidName, NotAllowed.
        """
        rights = ordered(parsed(line.rights))
        with self._directory.event_log.snapshot() as snapshot:
            owner = place(snapshot, where)
            folder_id = EVERY if name == EVERY_FOLDER else _folder_id(snapshot, owner, name)
            whom = _whom(snapshot, owner, line.whom)
        steps: list[tuple[bytes, Command]] = [
            (owner.account, SetRights(folder_id, whom, line.negative, rights)),
            (owner.tenant, NoteShare(whom, owner.account)),
        ]
        await self._directory.runtime.transact(steps if rights else steps[:1], context._replace(tenant=owner.tenant))
        return rights

    async def let_send(self, address: str, name: str, how: str, context: Context) -> None:
        """Who may send as the account and in which way, in place of the one before; "": not any more.

        Raises NoSuchAccount, InvalidName, NotAllowed, TooLarge.
        """
        with self._directory.event_log.snapshot() as snapshot:
            owner = account_of(snapshot, address)
            whom = _whom(snapshot, owner, name)
        if whom == ANYONE:
            raise InvalidName("an address or a group (group:NAME@DOMAIN) is let send as an account, not everybody")
        command = LetSend(owner.account, whom, how)
        await self._directory.runtime.ask(owner.tenant, command, context._replace(tenant=owner.tenant))


def place(snapshot: Snapshot, where: str) -> Target:
    """Raises NoSuchAccount, NoSuchTenant, InvalidName."""
    if "@" in where:
        return account_of(snapshot, where)
    found = tenant_named(snapshot, where)
    return Target(found, public_stream(found), "")


def shared(snapshot: Snapshot, where: str) -> list[Shared]:
    """What is shared there: folders with a list, and of a tenant all public ones. Raises as `place`."""
    owner = place(snapshot, where)
    view = snapshot.view(owner.account)
    found = [Shared(EVERY_FOLDER, _lines(snapshot, owner, EVERY))]
    found += [Shared(one.name, _lines(snapshot, owner, one.id)) for one in folders(view)]
    return [one for one in found if one.lines or (not owner.address and one.name != EVERY_FOLDER)]


def senders(snapshot: Snapshot, address: str) -> list[Sender]:
    """Who may send as the account. Raises NoSuchAccount, InvalidName."""
    owner = account_of(snapshot, address)
    found = []
    for one in delegation.delegates(snapshot.view(owner.tenant), owner.account):
        name = _name_of(snapshot, owner, one.whom)
        if name is not None:
            found.append(Sender(name, one.how, one.since_ms))
    return found


def _lines(snapshot: Snapshot, owner: Target, folder_id: bytes) -> tuple[Line, ...]:
    found = []
    for entry in entries(snapshot.view(owner.account), folder_id):
        name = ANYONE_NAME if entry.whom == ANYONE else _name_of(snapshot, owner, entry.whom)
        if name is not None:
            found.append(Line(name, entry.negative, entry.rights))
    return tuple(found)


def _name_of(snapshot: Snapshot, owner: Target, whom: bytes) -> str | None:
    """An account's address or a group's identifier; None for who has gone."""
    view = snapshot.view(owner.tenant)
    account = tenant.account(view, whom)
    return account.address if account else groups.identifier(view, whom)


def _folder_id(snapshot: Snapshot, owner: Target, name: str) -> bytes:
    found = folder_by_name(snapshot.view(owner.account), name)
    if found is None:
        raise NoSuchFolder(f"there is no folder {name}")
    return found.id


def _whom(snapshot: Snapshot, owner: Target, name: str) -> bytes:
    if name == ANYONE_NAME:
        return ANYONE
    group = groups.identified(snapshot.view(owner.tenant), name, owner.address)
    if group is not None:
        return group
    if "@" not in name or name.startswith(groups.IDENTIFIER):
        raise InvalidName(f'folders are shared with an address, a group (group:NAME@DOMAIN), or with "{ANYONE_NAME}"')
    found = account_of(snapshot, name)
    if found.tenant != owner.tenant:
        raise NoSuchAccount(f"there is no account {found.address}")
    if found.account == owner.account:
        raise NotAllowed("the owner has all rights and keeps them")
    return found.account

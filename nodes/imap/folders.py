"""Commands on mailboxes: SELECT, EXAMINE, CREATE, DELETE, RENAME, SUBSCRIBE, NAMESPACE.

Names are resolved on a snapshot and changes asked for by folder id, so a mailbox that is renamed meanwhile is still
the one that was meant.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache

from actors import mailbox as actor
from actors.errors import InvalidName
from actors.mailbox import Counters, counters, folder, normalise_folder_name, superior_names
from actors.mailbox_overview import overview
from actors.mailbox_rows import MAX_UID
from eventlog.record import new_id
from nodes.imap import commands, places, render, sync
from nodes.imap.errors import BadCommand, Refusal, no_such_mailbox, refusal_of
from nodes.imap.messages import send
from nodes.imap.object_ids import mailbox_id
from nodes.imap.scan import Scan
from nodes.imap.selected import REV2_KEYWORDS, Selected, permanent_flags
from nodes.imap.sequence import STAR, SequenceSet
from nodes.imap.session import Session
from nodes.imap.shared import Handler
from nodes.imap.states import State
from nodes.imap.sync_commands import Resync

WRITING = frozenset("swtie")  # rights of which one makes a mailbox more than readable (RFC 4314 5.2)
SCAN_MESSAGES = 5000  # rows read in one snapshot when a mailbox is selected


# -- SELECT


async def select(session: Session, command: commands.Select) -> str:
    """RFC 3501 6.3.1: whatever was selected before is not any more, even if this fails."""
    if command.resync is not None and not session.features.qresync:
        raise BadCommand("ENABLE QRESYNC comes first")  # RFC 7162 3.2.5
    if session.selected is not None and (session.features.qresync or session.features.rev2):
        session.write(b"* OK [CLOSED] the mailbox before is closed\r\n")  # RFC 7162 3.2.11, RFC 9051 7.1
    session.deselect()
    if command.condstore:
        session.enable("CONDSTORE")
    place = places.find(session, command.name)
    if place is None:
        raise no_such_mailbox()
    place.require("r")
    session.place = place.owner
    read_only = command.read_only or session.read_only is not None or not place.rights & WRITING
    selected = Selected(place.folder, read_only, session.cause, session.shared.marks, session.features)
    selected.rights = place.rights
    session.select(selected)
    uidnext = await _scan(session, selected)
    session.state = State.SELECTED
    _describe(session, selected, uidnext)
    if session.notices is not None:
        session.notices.selected_anew()
    if command.resync is not None:
        await _resynchronise(session, selected, command.resync)
    name = "EXAMINE" if command.read_only else "SELECT"
    return f"[READ-ONLY] {name} completed" if read_only else f"[READ-WRITE] {name} completed"


async def _resynchronise(session: Session, selected: Selected, resync: Resync) -> None:
    """RFC 7162 3.2.5: what went, then what came or has other flags, since the client was here."""
    if resync.uidvalidity != selected.folder.uidvalidity:
        return  # its copy is of another mailbox
    sync.write_vanished(session, sync.vanished_for(session, selected, resync))
    wanted = SequenceSet(((1, STAR),)) if resync.known is None else resync.known
    changed = commands.Fetch(wanted, ("UID", "FLAGS", "MODSEQ"), True, resync.modseq)
    await send(session, selected, changed)


async def _scan(session: Session, selected: Selected) -> int:
    """Gives UIDNEXT. Raises Refusal where the mailbox has gone."""
    now = _counted(session, selected)  # before the first slice: what changes behind it has a higher MODSEQ
    selected.told_modseq = now.highestmodseq
    scan = None
    if session.past is None:
        scan = session.shared.scans.get(session.selected_account, selected.folder.id, now.highestmodseq)
    if scan is None:
        scan = await _new_scan(session, selected)
        now = _counted(session, selected)
    selected.take(scan)
    selected.settle()
    return now.uidnext


def _counted(session: Session, selected: Selected) -> Counters:
    """Raises Refusal."""
    with session.reading() as reading:
        if folder(reading.view, selected.folder.id) is not None:
            return counters(reading.view, selected.folder.id)
    session.deselect()
    raise Refusal("the mailbox was deleted just now", "NONEXISTENT")


async def _new_scan(session: Session, selected: Selected) -> Scan:
    """From the file, or slice by slice, so that a mailbox of a million messages does not hold up the others."""
    account, folder_id, scans = session.selected_account, selected.folder.id, session.shared.scans
    if session.past is not None:
        return await _scanned(session, folder_id)
    begun = scans.begin(account, folder_id, selected.told_modseq)
    try:
        found = scans.read(account, folder_id)
        scan = found or await _scanned(session, folder_id)
    except BaseException:
        scans.leave(account, begun)
        raise
    scans.keep(account, folder_id, begun, scan, is_read=scan is found)
    return scan


async def _scanned(session: Session, folder_id: bytes) -> Scan:
    scan, first = Scan(), 1
    while True:
        with session.reading() as reading:
            pieces, first = overview(reading.view, folder_id, first, MAX_UID, SCAN_MESSAGES)
        scan.take(pieces)
        if not first:
            return scan
        await asyncio.sleep(0)


def _describe(session: Session, selected: Selected, uidnext: int) -> None:
    rev2 = session.features.rev2
    highest = selected.uids[-1] if selected.uids else 0
    lines = [
        selected.flags_line(),
        _permanent_line(selected.read_only, selected.rights, rev2),
        b"* %d EXISTS\r\n" % len(selected.uids),
        b"" if rev2 else b"* %d RECENT\r\n" % selected.recent_count,
        b"* OK [UIDVALIDITY %d] UIDs valid\r\n" % selected.folder.uidvalidity,
        b"* OK [UIDNEXT %d] predicted next UID\r\n" % max(uidnext, highest + 1),
        b"* OK [HIGHESTMODSEQ %d] of all that is here\r\n" % selected.told_modseq,
        b"* OK [MAILBOXID (%b)] the same for ever\r\n" % mailbox_id(selected.folder.id),
    ]
    if rev2:  # RFC 9051 6.3.2
        lines.append(b'* LIST () "/" %b\r\n' % render.mailbox(selected.folder.name, session.features.utf8))
    elif selected.first_unseen and not session.features.uidonly:
        lines.insert(4, b"* OK [UNSEEN %d] first unseen message\r\n" % selected.first_unseen)
    session.write(b"".join(lines))


@lru_cache(64)
def _permanent_line(read_only: bool, rights: frozenset[str], rev2: bool) -> bytes:
    kept = (*REV2_KEYWORDS, *permanent_flags(rights)) if rev2 and "w" in rights else permanent_flags(rights)
    flags = b"()" if read_only else render.flags(kept)
    return b"* OK [PERMANENTFLAGS " + flags + b"] flags that are kept\r\n"


# -- CREATE, DELETE, RENAME, SUBSCRIBE


def _superiors(name: str) -> tuple[tuple[bytes, str], ...]:
    """RFC 3501 6.3.3: missing superior names are created too."""
    return tuple((new_id(), superior) for superior in superior_names(name))


async def create(session: Session, command: commands.Create) -> str:
    name = _new_name(session, command.name)
    special_use = command.special_use if session.place is None else None
    folder_id = new_id()
    await session.ask(actor.CreateFolder(folder_id, name, special_use, _superiors(name)))
    return f"[MAILBOXID ({mailbox_id(folder_id).decode('ascii')})] CREATE completed"


def _new_name(session: Session, name: str) -> str:
    """What the mailbox is to be called where it is made; from here on the command is about that place. Raises Refusal.

    Names of one's own under the namespaces are not made any more; those that are there keep their names.
    """
    try:
        normalise_folder_name(name)  # first: what is refused for its form tells nothing of who is there
    except InvalidName as error:
        raise refusal_of(error) from None
    named = places.speaks_of(session, name)
    if named is None or not named.name or name in (places.OTHERS, places.PUBLIC):
        raise no_such_mailbox()
    session.place = named.owner
    return named.name


async def delete(session: Session, command: commands.Delete) -> str:
    """Inferior names stay (RFC 3501 6.3.4). One's own selected mailbox is closed first, not under one's feet."""
    found = places.enter(session, command.name, "x")
    delete_it = actor.DeleteFolder(found.id)
    if session.selected is not None and session.selected.folder.id == found.id:
        refusal = session.services.runtime.check(*session.step(session.place, delete_it))
        if refusal is not None:
            raise refusal_of(refusal)  # a NO changes no state: the mailbox stays selected
        session.deselect()
    await session.ask(delete_it)
    return "DELETE completed"


async def rename(session: Session, command: commands.Rename) -> str:
    """A mailbox stays with its owner: to give it away, its messages are moved."""
    found = places.enter(session, command.name, "x")
    place = session.place
    to = places.speaks_of(session, command.new_name)
    # Whoever it would go to, and whether there is somebody of that name, the answer is the same.
    if to is None or to.owner != place or (place is not None and found.name.endswith("/" + actor.INBOX)):
        raise Refusal("a mailbox stays with its owner", "CANNOT")
    new_name = _new_name(session, command.new_name)
    inbox_id = new_id() if found.name == actor.INBOX else None
    await session.ask(actor.RenameFolder(found.id, new_name, inbox_id, _superiors(new_name)))
    return "RENAME completed"


async def subscribe(session: Session, command: commands.Subscribe) -> str:
    """A name need not exist, so that a subscription outlives a mailbox that comes and goes (RFC 3501 6.3.6)."""
    if command.subscribed:
        await session.ask(actor.Subscribe(command.name))
        return "SUBSCRIBE completed"
    await session.ask(actor.Unsubscribe(command.name))
    return "UNSUBSCRIBE completed"


# -- NAMESPACE


async def namespace(session: Session, _: commands.Namespace) -> str:
    """One's own, those of others, and the public ones."""
    others, public = (render.mailbox(name + "/") for name in (places.OTHERS, places.PUBLIC))
    session.write(b'* NAMESPACE (("" "/")) ((%b "/")) ((%b "/"))\r\n' % (others, public))
    return "NAMESPACE completed"


HANDLERS: dict[type, Handler] = {
    commands.Select: select,
    commands.Create: create,
    commands.Delete: delete,
    commands.Rename: rename,
    commands.Subscribe: subscribe,
    commands.Namespace: namespace,
}

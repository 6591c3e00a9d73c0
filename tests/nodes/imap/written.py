"""Commands as a client would write them: what test_round_trip.py holds against what the grammar reads."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import assert_never

from actors.mailbox_acl import Mode
from nodes.imap import commands, search, utf7
from nodes.imap.acl_commands import GetAcl, ListRights, MyRights, SetAcl
from nodes.imap.append_commands import Append, AppendMessage, Replace, Url
from nodes.imap.commands import Command, FetchItem
from nodes.imap.content_commands import Binary, Preview
from nodes.imap.metadata_commands import GetMetadata, GetQuota, GetQuotaRoot, SetMetadata, SetQuota
from nodes.imap.notify_commands import EVENTS, EventGroup, Notify
from nodes.imap.search_commands import CancelUpdate, MultiSearch, Returned, Search, Sort, Sources, Thread
from nodes.imap.sync_commands import Compress, Enable, Resync

Pair = tuple[int, int]


def written(command: Command) -> bytes:
    """The command without its tag."""
    match command:
        case (
            commands.Capability()
            | commands.Noop()
            | commands.Logout()
            | commands.StartTls()
            | commands.Check()
            | commands.Close()
            | commands.Unselect()
            | commands.Idle()
            | commands.Namespace()
        ):
            return type(command).__name__.upper().encode()
        case commands.Id(facts):
            return b"ID (%b)" % b" ".join(string(one) for fact in facts for one in fact) if facts else b"ID NIL"
        case commands.Authenticate(mechanism, initial):
            return b"AUTHENTICATE %b%b" % (mechanism.encode(), b"" if initial is None else b" " + (initial or b"="))
        case commands.Login(login, password):
            return b"LOGIN %b %b" % (string(login), string(password))
        case commands.Select(name, read_only, condstore, resync):
            parameters = [b"CONDSTORE"] * condstore + [_resync(one) for one in [resync] if one is not None]
            verb = b"EXAMINE" if read_only else b"SELECT"
            return b"%b %b%b" % (verb, mailbox(name), b" (%b)" % b" ".join(parameters) if parameters else b"")
        case commands.Create(name, use):
            return b"CREATE %b%b" % (mailbox(name), b" (USE (%b))" % use.encode() if use else b"")
        case commands.Delete(name):
            return b"DELETE " + mailbox(name)
        case commands.Rename(name, new_name):
            return b"RENAME %b %b" % (mailbox(name), mailbox(new_name))
        case commands.Subscribe(name, subscribed):
            return b"%b %b" % (b"SUBSCRIBE" if subscribed else b"UNSUBSCRIBE", mailbox(name))
        case commands.List():
            return _list(command)
        case commands.Status(name, items):
            return b"STATUS %b %b" % (mailbox(name), words(items))
        case commands.Expunge(uids):
            return b"EXPUNGE" if uids is None else b"UID EXPUNGE %b" % str(uids).encode()
        case commands.Fetch():
            return _fetch(command)
        case commands.Store(messages, mode, flags, silent, by_uid, since):
            sign = {"add": b"+", "remove": b"-", "replace": b""}[mode]
            modifier = b"" if since is None else b" (UNCHANGEDSINCE %d)" % since
            item = sign + b"FLAGS" + b".SILENT" * silent
            return b"%bSTORE %b%b %b %b" % (b"UID " * by_uid, str(messages).encode(), modifier, item, words(flags))
        case commands.Copy(messages, name, move, by_uid):
            verb = b"MOVE" if move else b"COPY"
            return b"%b%b %b %b" % (b"UID " * by_uid, verb, str(messages).encode(), mailbox(name))
        case Append(name, appended):
            return b"APPEND %b %b" % (mailbox(name), b" ".join(map(_message, appended)))
        case Replace(old, name, new, by_uid):
            return b"%bREPLACE %b %b %b" % (b"UID " * by_uid, str(old).encode(), mailbox(name), _message(new))
        case GetMetadata(name, entries, depth, max_size):
            options = [b"DEPTH %b" % (b"infinity" if depth is None else b"%d" % depth)]
            options += [] if max_size is None else [b"MAXSIZE %d" % max_size]
            return b"GETMETADATA (%b) %b (%b)" % (b" ".join(options), mailbox(name), b" ".join(map(string, entries)))
        case SetMetadata(name, changes):
            pairs = [string(entry) + b" " + (b"NIL" if v is None else literal8(v)) for entry, v in changes]
            return b"SETMETADATA %b (%b)" % (mailbox(name), b" ".join(pairs))
        case GetQuota(root):
            return b"GETQUOTA " + string(root)
        case SetQuota(root):
            return b"SETQUOTA %b (STORAGE 10)" % string(root)
        case GetQuotaRoot(name) | GetAcl(name) | MyRights(name):
            return b"%b %b" % (type(command).__name__.upper().encode(), mailbox(name))
        case SetAcl(name, whom, negative, rights, mode):
            identifier = string("-" * negative + whom)
            return b"SETACL %b %b %b" % (mailbox(name), identifier, string(_rights(rights, mode)))
        case ListRights(name, whom):
            return b"LISTRIGHTS %b %b" % (mailbox(name), string(whom))
        case Enable(names):
            return b"ENABLE " + " ".join(names).encode()
        case Compress(mechanism):
            return b"COMPRESS " + mechanism.encode()
        case Notify(groups, status):
            told = b" ".join(map(_group, groups))
            return b"NOTIFY SET%b %b" % (b" STATUS" * status, told) if groups else b"NOTIFY NONE"
        case Search(program, by_uid, returned):
            return b"%bSEARCH %bCHARSET UTF-8 %b" % (b"UID " * by_uid, _returned(returned), key(program))
        case Sort(keys, program, by_uid, returned):
            by = " ".join("REVERSE " * one.reverse + one.by for one in keys).encode()
            return b"%bSORT %b(%b) UTF-8 %b" % (b"UID " * by_uid, _returned(returned), by, key(program))
        case Thread(algorithm, program, by_uid):
            return b"%bTHREAD %b UTF-8 %b" % (b"UID " * by_uid, algorithm.encode(), key(program))
        case MultiSearch(sources, program, returned):
            named = b" ".join(map(_source, sources))
            return b"ESEARCH IN (%b) %bCHARSET UTF-8 %b" % (named, _returned(returned), key(program))
        case CancelUpdate(tags):
            return b"CANCELUPDATE " + b" ".join(b'"%b"' % one for one in tags)
        case _:
            assert_never(command)


# -- strings


def string(text: str) -> bytes:
    """Quoted where it may be, else a literal that does not wait."""
    value = text.encode()
    if value.isascii() and not set(value) & set(b"\r\n\x00"):
        return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return b"{%d+}\r\n%b" % (len(value), value)


def literal8(data: bytes) -> bytes:
    return b"~{%d+}\r\n%b" % (len(data), data)


def mailbox(name: str) -> bytes:
    return string(utf7.encode(name).decode("ascii"))


def words(names: Iterable[str]) -> bytes:
    return b"(%b)" % " ".join(names).encode()


def _range(pair: Pair) -> bytes:
    return b"%d:%d" % pair


# -- parts of commands


def _resync(resync: Resync) -> bytes:
    known = b" %b" % str(resync.known).encode() if resync.known is not None else b""
    matches = " ({} {})".format(*resync.matches).encode() if resync.matches is not None else b""
    return b"QRESYNC (%d %d%b%b)" % (resync.uidvalidity, resync.modseq, known, matches)


def _list(command: commands.List) -> bytes:
    if command.lsub:
        return b"LSUB %b %b" % (mailbox(command.reference), mailbox(command.patterns[0]))
    selection = words(sorted(command.selection)) + b" " if command.selection else b""
    patterns = b"(%b)" % b" ".join(map(mailbox, command.patterns))
    returned = [name.encode() for name in sorted(command.returned - {"STATUS", "METADATA"})]
    returned += [b"STATUS " + words(command.status)] if command.status else []
    returned += [b"METADATA (%b)" % b" ".join(map(string, command.metadata))] if command.metadata else []
    options = b" RETURN (%b)" % b" ".join(returned) if returned else b""
    return b"LIST %b%b %b%b" % (selection, mailbox(command.reference), patterns, options)


def _fetch(command: commands.Fetch) -> bytes:
    modifiers = [] if command.changed_since is None else [b"CHANGEDSINCE %d" % command.changed_since]
    modifiers += [b"VANISHED"] * command.vanished
    modifiers += [] if command.partial is None else [b"PARTIAL " + _range(command.partial)]
    items = b" ".join(map(item, command.items))
    behind = b" (%b)" % b" ".join(modifiers) if modifiers else b""
    return b"%bFETCH %b (%b)%b" % (b"UID " * command.by_uid, str(command.messages).encode(), items, behind)


def item(one: FetchItem) -> bytes:
    match one:
        case str():
            return one.encode()
        case commands.Section(label, partial=partial, peek=peek):
            return label.replace(b"BODY[", b"BODY.PEEK[" if peek else b"BODY[", 1) + _piece(partial)
        case Binary(numbers, partial, peek, size_only):
            verb = b"BINARY.SIZE" if size_only else b"BINARY.PEEK" if peek else b"BINARY"
            return b"%b[%b]%b" % (verb, ".".join(map(str, numbers)).encode(), _piece(partial))
        case Preview(lazy):
            return b"PREVIEW" + b" (LAZY)" * lazy


def _piece(partial: Pair | None) -> bytes:
    return b"" if partial is None else b"<%d.%d>" % partial


def _message(message: AppendMessage) -> bytes:
    head = words(message.flags) + b" " if message.flags else b""
    if message.internaldate_ms is not None:
        moment = datetime.fromtimestamp(message.internaldate_ms / 1000, UTC)
        head += moment.strftime('"%d-%b-%Y %H:%M:%S +0000" ').encode()
    if len(message.pieces) == 1 and isinstance(message.pieces[0], bytes):
        return head + literal8(message.pieces[0])
    pieces = [
        b"URL " + string(one.text) if isinstance(one, Url) else b"TEXT " + literal8(one) for one in message.pieces
    ]
    return head + b"CATENATE (%b)" % b" ".join(pieces)


def _rights(rights: str, mode: Mode) -> str:
    return {"replace": "", "add": "+", "remove": "-"}[mode] + rights


def _group(group: EventGroup) -> bytes:
    names = b" (%b)" % b" ".join(map(mailbox, sorted(group.names))) if group.names else b""
    told = []
    for event in sorted(group.events):
        fetched = b" (%b)" % b" ".join(map(item, group.fetched)) if event == "MESSAGENEW" and group.fetched else b""
        told.append(EVENTS[event].encode() + fetched)
    return b"(%b%b %b)" % (group.which.encode(), names, b"(%b)" % b" ".join(told) if told else b"NONE")


def _returned(returned: Returned | None) -> bytes:
    if returned is None:
        return b""
    options = [name.encode() for name in sorted(returned.options)]
    options += [] if returned.partial is None else [b"PARTIAL " + _range(returned.partial)]
    return b"RETURN (%b) " % b" ".join(options)


def _source(source: Sources) -> bytes:
    names = b" (%b)" % b" ".join(map(mailbox, source.names)) if source.names else b""
    return source.filter.encode() + names


def key(one: search.Key) -> bytes:
    """One search-key."""
    match one:
        case search.All() | search.Recent():
            return type(one).__name__.upper().encode()
        case search.HasFlag(flag):
            return flag[1:].upper().encode() if flag.startswith("\\") else b"KEYWORD " + flag.encode()
        case search.Numbers(numbers, by_uid):
            return b"UID " * by_uid + str(numbers).encode()
        case search.Size(relation, number) | search.Within(relation, number):
            return b"%b %d" % (relation.upper().encode(), number)
        case search.Dated(relation, day, sent):
            return ("SENT" * sent + relation.upper() + day.strftime(" %d-%b-%Y")).encode()
        case search.Saved(relation, day):
            return ("SAVED" + relation.upper() + day.strftime(' "%d-%b-%Y"')).encode()
        case search.HasId(identity, of_thread):
            return b"%b %b" % (b"THREADID" if of_thread else b"EMAILID", identity)
        case search.ModSeq(least):
            return b'MODSEQ "/flags/x" all %d' % least
        case search.HeaderHas(field, text):
            return b"HEADER %b %b" % (string(field.decode()), string(text))
        case search.TextHas(text, headers):
            return b"%b %b" % (b"TEXT" if headers else b"BODY", string(text))
        case search.Not(inner):
            return b"NOT " + key(inner)
        case search.Or(first, second):
            return b"OR %b %b" % (key(first), key(second))
        case search.And(keys):
            return b"(%b)" % b" ".join(map(key, keys))

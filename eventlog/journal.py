"""PySyncObj's journal over LMDB: the Raft log, term, vote and commit index in the tick's write transaction.

Nothing here is durable until the tick commits (`eventlog.writer`), and nothing may leave the node before that. Entries
are read lazily; the newest are kept in memory up to a byte limit, because they are what followers are sent.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgpack
import structlog
from pysyncobj.journal import Journal

from eventlog import custody, members
from eventlog.archived import ArchiveError
from eventlog.body_index import Place
from eventlog.custody import KIND_QUARANTINE
from eventlog.members import Configuration
from eventlog.record import Body, Record, RecordError, decode_with_header
from eventlog.store import BODY_SLOT, CONFIGS, LOG, LOG_HEAD, POSITION, SLICES, Store, read_slot, read_value

KIND_RECORD = 0  # pysyncobj's _COMMAND_TYPE.REGULAR
KIND_NOOP = 1  # its NO_OP
KIND_CONFIG = 2  # its MEMBERSHIP: a record with the members of the cell, in force from here on
RECORD_KINDS = frozenset((KIND_RECORD, KIND_CONFIG, KIND_QUARANTINE))  # what carries a record and is folded
AHEAD_BYTES = 16 * 1024  # of entries: so many are written twice rather than waited for
AHEAD_ENTRY_BYTES = 64
PLAIN_KINDS = (KIND_RECORD, KIND_NOOP)
CACHE_BYTES = 16 * 1024 * 1024  # as much as may be on its way to a peer; more would be cold when it comes round

_log = structlog.get_logger("mailraft.journal")


class Command:
    """What an entry carries: a record's bytes, the bytes of its bodies (None: stored before, or dropped), its time."""

    __slots__ = ("_parsed", "at_ms", "bodies", "data", "held", "kind", "size_bytes")

    def __init__(self, kind: int, at_ms: int, data: bytes, bodies: Sequence[bytes | None] = ()) -> None:
        self.kind = kind
        self.at_ms = at_ms
        self.data = data
        self.bodies = bodies
        self.size_bytes = len(data)
        if bodies:
            self.size_bytes += sum([len(body) for body in bodies if body is not None])
        self._parsed: tuple[Record, bytes] | None = None
        self.held: tuple[str, bytes] | None = None  # the peer that forwarded it and has it still, and under what token

    def parsed(self) -> tuple[Record, bytes]:
        """The record and its packed header. Raises RecordError."""
        if self._parsed is None:
            self._parsed = decode_with_header(self.data)
        return self._parsed

    def known_as(self, record: Record, header: bytes) -> None:
        """What `parsed` would find out, from the one that packed the record and has checked it."""
        self._parsed = record, header

    def forget_parsed(self) -> None:
        """It has been folded: the bytes are what followers are sent, the rest would only be kept."""
        self._parsed = None

    def new_bodies(self) -> Sequence[tuple[int, Body, bytes | None]]:
        """Ordinal, body and bytes of each body that the record names; nothing for a record that can not be read."""
        if self.kind not in RECORD_KINDS:
            return ()
        try:
            bodies = self.parsed()[0].bodies
        except RecordError:
            return ()
        if not bodies:
            return ()
        given = len(self.bodies)
        return [(n, body, self.bodies[n] if n < given else None) for n, body in enumerate(bodies)]


Entry = tuple[Command, int, int]  # command, index, term: pysyncobj's own order


class LmdbJournal(Journal):  # type: ignore[misc]
    """The log of one node. Index 1 is the first entry, as in the paper; the log is never compacted away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.now_ms = 0  # the engine's clock: for the first entry only, before any other clock was heard
        self.reload()

    def reload(self, commit: int = 0) -> None:
        """Takes everything from disk again: at start, and after a tick that could not be written.

        Entries that are on disk ahead of the database are added to it, in a transaction that stays open. `commit` is
        what this life has known to be committed, beside what is on disk.
        """
        self.committed()
        self._cache: dict[int, Entry] = {}
        self._cache_bytes = 0
        self._term, self._vote = self._store.get_meta(b"term", (0, None))
        self._commit = self._store.get_meta(b"commit", 0)
        self._quarantines: dict[int, int] = dict(self._store.get_meta(b"quarantines", ()))
        self.last_index, self.last_term, self.last_at_ms = 0, 0, 0
        with self._store.env.begin() as txn, txn.cursor(db=self._store.db[LOG]) as cursor:
            if cursor.last():
                self.last_index = POSITION.unpack(cursor.key())[0]
                self.last_term, _, self.last_at_ms = LOG_HEAD.unpack_from(cursor.value())
        self._oldest = self.last_index + 1  # no index below this is in the cache
        self.config = self._newest_config()
        for frame in self._store.frames_ahead():
            for index, term, kind, at_ms, data, bodies in msgpack.unpackb(frame, use_list=False):
                self.add(Command(kind, at_ms, data, bodies), index, term)
            self.must_commit()
        if commit > self._commit:
            self.setRaftCommitIndex(commit)

    def committed(self) -> None:
        """What was changed is on disk, or undone."""
        self._added: list[Entry] | None = []  # by this tick; None where it did more than to add a few entries
        self._added_bytes = 0
        self.term_changed = False  # term or vote
        self.must_last = False  # entries were added or removed, or a caller wrote: not only folded

    def must_commit(self) -> None:
        """More was written than entries that were added: only a commit of the database makes it last."""
        self.must_last = True
        self._added = None

    def small_addition(self) -> list[Entry]:
        """What this tick has added, where nothing else of it must last and it is little; else nothing."""
        return [] if self._added is None or self.term_changed else self._added

    # -- what pysyncobj calls -----------------------------------------------------------------------------------

    def add(self, command: Command | bytes, idx: int, term: int) -> None:
        if isinstance(command, bytes):  # pysyncobj's own no-op
            command = Command(command[0], self.last_at_ms or self.now_ms, b"")
        assert idx == self.last_index + 1, f"gap in the log: {idx} after {self.last_index}"
        self.must_last = True
        kind, at_ms = command.kind, command.at_ms
        if self._added is not None:
            self._added_bytes += command.size_bytes + AHEAD_ENTRY_BYTES
            if kind not in PLAIN_KINDS or self._added_bytes > AHEAD_BYTES:
                self._added = None
            else:
                self._added.append((command, idx, term))
        if kind == KIND_CONFIG:
            self._add_config(idx, members.members_in(command.data))
        self._store.put_later(LOG, POSITION.pack(idx), command.data, LOG_HEAD.pack(term, kind, at_ms))
        if command.bodies:  # else it is taken apart when it is folded
            for ordinal, body, data in command.new_bodies():
                self._add_body(idx, ordinal, body, data)
        if kind == KIND_QUARANTINE:
            self._add_quarantine(idx, command)
        self.last_index, self.last_term, self.last_at_ms = idx, term, at_ms
        self._remember((command, idx, term))

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        """Removes entries from a list index on (index 1 of the log is list index 0)."""
        first = entryFrom + 1
        self.must_commit()
        for index in range(self.last_index, first - 1, -1):
            command = self._read(index)[0]
            for _, body, _ in command.new_bodies():
                self._remove_body(index, body)
            self._store.delete(LOG, POSITION.pack(index))
            if command.kind == KIND_CONFIG:
                self._store.txn.delete(POSITION.pack(index), db=self._store.db[CONFIGS])
                self.config = self._newest_config()
            self._forget(index)
        self._forget_quarantines(first)
        self.last_index = first - 1
        _, _, self.last_term = self._read(self.last_index) if self.last_index else (None, 0, 0)
        self.last_at_ms = self._read(self.last_index)[0].at_ms if self.last_index else 0

    def deleteEntriesTo(self, entryTo: int) -> None:
        raise NotImplementedError("the log is never compacted away")

    def clear(self) -> None:
        raise NotImplementedError("the log is never compacted away")

    def __len__(self) -> int:
        return self.last_index

    def __getitem__(self, item: int | slice) -> Any:
        if isinstance(item, slice):
            start, stop, _ = item.indices(self.last_index)
            return [self._read(i + 1) for i in range(start, stop)]
        return self._read(self.last_index + 1 + item if item < 0 else item + 1)

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        self._commit = raftCommitIndex
        self._store.put_meta(b"commit", raftCommitIndex)

    def getRaftCommitIndex(self) -> int:
        return int(self._commit)

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:
        self._term, self._vote = term, votedForNodeId
        self.term_changed = True
        self._store.put_meta(b"term", (term, votedForNodeId))

    def getCurrentTerm(self) -> int:
        return int(self._term)

    def getVotedForNodeId(self) -> str | None:
        vote: str | None = self._vote
        return vote

    def _destroy(self) -> None:
        """Nothing is held open: the store belongs to the writer."""

    # -- what the hardened engine reads -------------------------------------------------------------------------

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`; 0 for index 0; None where there is no entry."""
        if index == self.last_index:
            return self.last_term
        if index == 0:
            return 0
        if index > self.last_index:
            return None
        cached = self._cache.get(index)
        if cached is not None:
            return cached[2]
        try:
            value = self._value(index)
        except ArchiveError as error:  # a peer that is so far behind waits until it is repaired
            _log.error("the archive can not be read", code="archive_damaged", error=str(error))
            return None
        return None if value is None else int(LOG_HEAD.unpack_from(value)[0])

    def entries(self, first: int, max_bytes: int) -> list[Entry]:
        """Entries from `first` on, at least one if it can be read, until `max_bytes` are reached."""
        found: list[Entry] = []
        total = 0
        for index in range(first, self.last_index + 1):
            try:
                entry = self._read(index)
            except ArchiveError as error:
                _log.error("the archive can not be read", code="archive_damaged", error=str(error))
                break
            total += entry[0].size_bytes + 64
            if found and total > max_bytes:
                break
            found.append(entry)
        return found

    def entry(self, index: int) -> Entry:
        return self._cache.get(index) or self._read(index)

    def configurations(self) -> list[Configuration]:
        """Every configuration that the log holds, the uncommitted tail's too, oldest first."""
        table = self._store.db.get(CONFIGS)
        if table is None:
            return []
        if self._store.dirty:
            return _read_configs(self._store.txn, table)
        with self._store.env.begin() as txn:
            return _read_configs(txn, table)

    @property
    def quarantines_some(self) -> bool:
        """Whether this log quarantines any entry at all, which is rare."""
        return bool(self._quarantines)

    def quarantine_of(self, index: int) -> int | None:
        """The entry of this log that quarantines the one at `index`, committed or not."""
        return self._quarantines.get(index)

    def is_quarantined(self, index: int) -> bool:
        """Whether a committed entry says so."""
        by = self._quarantines.get(index)
        return by is not None and by <= self.getRaftCommitIndex()

    def pass_over(self, index: int) -> None:
        """The source of a restored log had quarantined this entry, which the chain proves."""
        self._quarantines[index] = 0
        self._put_quarantines()

    def redact(self, index: int, redaction: custody.Redaction) -> None:
        """Rewrites the entries before `index` that a redaction names, and drops the bytes of its bodies.

        What is gone is gone from the tables; the file is rewritten for it later (`eventlog.erasure`). An archived entry
        gets a row again, which goes before its segment until that is written anew (`eventlog.archive`).
        """
        events: defaultdict[int, dict[int, custody.Fields]] = defaultdict(dict)
        bodies: defaultdict[int, set[int]] = defaultdict(set)
        for position, ordinal, fields, _ in redaction.events:
            events[position][ordinal] = fields
        for position, ordinal, key in redaction.bodies:
            bodies[position].add(ordinal)
            self.drop_body(key)
        for position in sorted({*events, *bodies}):
            value = self._value_to_redact(position) if position < index else None
            if value is not None:
                data = custody.without(value[LOG_HEAD.size :], events[position], bodies[position])
                self._store.replace(LOG, POSITION.pack(position), value[: LOG_HEAD.size] + data)
                self._forget(position)
        self._keep_what_came_since(index, {key for _, _, key in redaction.bodies})
        self._store.put_meta(b"redacted", index)

    def _value_to_redact(self, position: int) -> bytes | None:
        try:
            return self._value(position)
        except ArchiveError as error:  # the erasure waits until its segment is repaired
            _log.error("the archive can not be read", code="archive_damaged", error=str(error))
            return None

    def _keep_what_came_since(self, index: int, keys: set[bytes]) -> None:
        """Bodies that entries behind a redaction bring too: they were appended when the bytes were still here.

        Without this, a node that appends such an entry before it folds the redaction would end without the bytes, and
        one that folds first with them.
        """
        for later in range(index + 1, self.last_index + 1) if keys else ():
            entry = self._cache.get(later)
            for ordinal, body, data in entry[0].new_bodies() if entry is not None else ():
                if body.tenant + body.digest in keys:
                    self._add_body(later, ordinal, body, data)

    def drop_body(self, key: bytes) -> None:
        """Removes a body's bytes and row, whoever introduced it. The key is tenant (or upload) and digest."""
        place = self._store.bodies.remove(key)
        if place is not None:
            self._store.delete(SLICES, BODY_SLOT.pack(place.position, place.ordinal))

    def add_composites(self, index: int, record: Record) -> None:
        """Says of what chunks a body is made, once its record took effect: a refused attempt leaves nothing."""
        for ordinal, body in enumerate(record.bodies):
            if body.chunks:
                place = Place(index, ordinal, body.size, body.chunks)
                self._store.bodies.add_composite(body.tenant + body.digest, place)

    # -- inside -------------------------------------------------------------------------------------------------

    def _newest_config(self) -> Configuration | None:
        """What is in force as far as the log says; None if it says nothing, and the configuration file does."""
        found = self.configurations()
        return found[-1] if found else None

    def _add_config(self, index: int, found: members.Members) -> None:
        self._store.txn.put(POSITION.pack(index), members.pack(found), db=self._store.db[CONFIGS])
        self.config = Configuration(index, found)

    def _add_quarantine(self, index: int, command: Command) -> None:
        for position in custody.quarantines([(index, command.at_ms, command.data)]):
            if self._quarantines.setdefault(position, index) == index:
                self._put_quarantines()

    def _forget_quarantines(self, first: int) -> None:
        kept = {position: by for position, by in self._quarantines.items() if by < first}
        if len(kept) != len(self._quarantines):
            self._quarantines = kept
            self._put_quarantines()

    def _put_quarantines(self) -> None:
        self._store.put_meta(b"quarantines", tuple(self._quarantines.items()))

    def _add_body(self, index: int, ordinal: int, body: Body, data: bytes | None) -> None:
        if data is None or body.chunks:
            return
        if self._store.bodies.add(body.tenant + body.digest, index, ordinal, body.size):
            self._store.put_later(SLICES, BODY_SLOT.pack(index, ordinal), data)

    def _remove_body(self, index: int, body: Body) -> None:
        self._store.settle()
        place = None if body.chunks else self._store.bodies.find(self._store.txn, body.tenant + body.digest)
        if place is not None and place.position == index:
            self.drop_body(body.tenant + body.digest)

    def _read(self, index: int) -> Entry:
        cached = self._cache.get(index)
        if cached is not None:
            return cached
        value = self._value(index)
        if value is None:
            raise IndexError(f"no entry {index}: the log ends at {self.last_index}")
        term, kind, at_ms = LOG_HEAD.unpack_from(value)
        command = Command(kind, at_ms, value[LOG_HEAD.size :])
        bodies = [self._body_bytes(index, ordinal, body) for ordinal, body, _ in command.new_bodies()]
        return command if not bodies else Command(kind, at_ms, command.data, bodies), index, term

    def _value(self, index: int) -> bytes | None:
        if self._store.dirty:
            self._store.settle()
            return read_value(self._store.txn, self._store.db, self._store.archive, index)
        with self._store.env.begin() as txn:
            return read_value(txn, self._store.db, self._store.archive, index)

    def _body_bytes(self, index: int, ordinal: int, body: Body) -> bytes | None:
        """The bytes that this entry introduced; None for one that came earlier or was dropped since."""
        if self._store.dirty:
            self._store.settle()
            return read_slot(self._store.txn, self._store.db, self._store.archive, index, ordinal)
        with self._store.env.begin() as txn:
            return read_slot(txn, self._store.db, self._store.archive, index, ordinal)

    def _remember(self, entry: Entry) -> None:
        index = entry[1]
        self._cache[index] = entry
        if index < self._oldest:
            self._oldest = index
        self._cache_bytes += entry[0].size_bytes
        while self._cache_bytes > CACHE_BYTES:
            self._forget(self._oldest)
            self._oldest += 1

    def _forget(self, index: int) -> None:
        entry = self._cache.pop(index, None)
        if entry is not None:
            self._cache_bytes -= entry[0].size_bytes


def _read_configs(txn: Any, table: Any) -> list[Configuration]:
    with txn.cursor(db=table) as cursor:
        return [Configuration(POSITION.unpack(key)[0], members.unpack(value)) for key, value in cursor]

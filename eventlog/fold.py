"""The fold: committed entries in, tables out; the same on every node and in every refold.

A record takes effect whole or not at all. It is refused, alike everywhere, when it has expired in log time, when its id
was folded before, when a guard no longer holds, when a chunk that it is made of is gone, or when it writes too much.
Nothing here reads a clock: time is what the leader stamped.
"""

from collections.abc import Callable
from enum import IntEnum
from itertools import takewhile
from typing import Any, NamedTuple, Protocol

import lmdb
import msgpack

from eventlog import custody, levels, members, uploads
from eventlog.errors import FoldStalled, UnknownEvent
from eventlog.journal import KIND_CONFIG, RECORD_KINDS, Entry
from eventlog.overlay import Overlay, OverlayView
from eventlog.record import Body, By, Event, Record, RecordError, Stamp, chain_hash, leaves, raw_leaf
from eventlog.store import (
    CHAIN,
    CHAIN_BYTES,
    GENESIS,
    IDS,
    META,
    POSITION,
    STREAMS,
    TABLES,
    Store,
    TableView,
    read_fold_head,
)
from eventlog.views import View

Evolve = Callable[[View, Event, Stamp], tuple[Any, Any]]  # gives the decoded fact and the result

ROW_BUDGET = 20_000  # rows that one record may write; larger work goes in slices
PURGE_EVERY_MS = 1000  # of log time, so that every node and every refold forgets the same ids at the same record

_OF_THE_LOG = frozenset((uploads.CHUNKS_COLLECTED, uploads.CHUNK_STORED, levels.FEATURE_LEVEL_RAISED))
_NOBODY = By("node", b"", "")
_packb = msgpack.Packer(use_bin_type=True, autoreset=True).pack
_tuple = tuple.__new__  # of a NamedTuple: as its own constructor, at half the cost


class Outcome(IntEnum):
    """What became of an entry. Kept beside the chain, one byte."""

    COMMITTED = 0
    EXPIRED = 1
    GUARD = 2
    DUPLICATE = 3
    CHUNK_GONE = 4
    BAD_RECORD = 5
    NOTHING = 6  # a leader's no-op
    TOO_LARGE = 7  # it would write more rows than one record may
    QUARANTINED = 8  # it could not be folded, and a later entry says that it is passed over
    MISPLACED = 9  # an act on the log itself that the log's rules do not allow there


_COMMITTED = Outcome.COMMITTED
_LEAVE_NO_ID = (Outcome.EXPIRED, Outcome.DUPLICATE)  # the one needs none, the other has one
OUTCOME_BYTES = tuple(bytes((number,)) for number in range(len(Outcome)))


class Folded(NamedTuple):
    """One folded entry: `facts` and `results` are parallel to the record's events, empty unless it took effect."""

    stamp: Stamp
    record: Record | None
    outcome: Outcome
    facts: tuple[Any, ...] = ()
    results: tuple[Any, ...] = ()


class CustodyConflict(Exception):
    """This node has folded what the cell passed over."""


class _Refused(Exception):
    """What only folding the record could show: it is refused, alike on every node."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class Keeper(Protocol):
    """The log that is folded: what it says of an entry, and what the fold may do to it.

    The journal of a node does it; for a refold it was done.
    """

    def is_quarantined(self, index: int) -> bool: ...

    def redact(self, index: int, redaction: custody.Redaction) -> None: ...

    def drop_body(self, key: bytes) -> None: ...

    def add_composites(self, index: int, record: Record) -> None: ...


class Fold:
    """Folds entries in order over one store. Not thread-safe: the consensus thread owns it."""

    def __init__(self, store: Store, bodies: Keeper, evolve: Evolve) -> None:
        self._store = store
        self._bodies = bodies
        self._evolve = evolve
        self._overlay = Overlay(store)
        self.reload()

    def reload(self) -> None:
        """Takes the head from disk again, dropping what was not flushed."""
        self._overlay.forget()
        self._ids: dict[bytes, bytes] = {}
        self._dropped: list[bytes] = []  # bodies that go if the record takes effect
        self._redactions: list[custody.Redaction] = []  # likewise
        self._streams: list[bytes] = []
        self._chain_rows: list[tuple[bytes, bytes]] = []
        with self._store.env.begin() as txn:
            self._newest_id = _last_key(txn, self._store.db[IDS])  # no key on disk is above it
            self.applied, self.at_ms, self.chain = read_fold_head(txn, self._store.db[META])
            self.level = self._level_now = levels.in_force(TableView(txn, self._store.db[TABLES], levels.LEVEL))

    def apply(self, entry: Entry) -> Folded:
        """Folds the next entry into the overlay. Raises FoldStalled, with nothing changed, if `evolve` raises.

        Raises UnknownEvent, with nothing changed, for what a later program wrote.
        """
        command, index, term = entry
        kind, at_ms = command.kind, command.at_ms
        parts: list[bytes] = []
        place = POSITION.pack(index)
        if kind not in RECORD_KINDS:
            folded = Folded(Stamp(index, at_ms, term, b"", _NOBODY, "", self._level_now), None, Outcome.NOTHING)
        else:
            folded, parts = self._apply_record(entry, place)
        command.forget_parsed()
        outcome = folded.outcome
        self.chain = chain_hash(self.chain, index, term, kind, at_ms, outcome, parts)
        self._chain_rows.append((place, self.chain + OUTCOME_BYTES[outcome]))
        before_ms, self.at_ms = self.at_ms, at_ms
        self.applied = index
        if before_ms // PURGE_EVERY_MS != at_ms // PURGE_EVERY_MS:
            self._purge_ids(at_ms)
        return folded

    def flush(self) -> None:
        """Writes everything folded since the last flush into the tick's transaction."""
        if not self._chain_rows:
            return
        store = self._store
        self._overlay.flush()
        store.put_many(CHAIN, self._chain_rows, append=True)
        store.put_many(STREAMS, [(key, b"") for key in sorted(self._streams)])
        store.put_many(IDS, sorted(self._ids.items()))
        store.put_meta(b"folded", (self.applied, self.at_ms, self.chain))
        if self._ids:
            self._newest_id = max(self._newest_id, max(self._ids))
        self._chain_rows.clear()
        self._streams.clear()
        self._ids.clear()

    # -- one record ---------------------------------------------------------------------------------------------

    def _apply_record(self, entry: Entry, place: bytes) -> tuple[Folded, list[bytes]]:
        command, index, term = entry
        kind, at_ms = command.kind, command.at_ms
        try:
            record, header = command.parsed()
        except RecordError:
            stamp = Stamp(index, at_ms, term, b"", _NOBODY, "", self._level_now)
            return Folded(stamp, None, Outcome.BAD_RECORD), [raw_leaf(command.data)]
        id_, expires_ms, by, cause, _, events, bodies = record
        stamp = _tuple(Stamp, (index, at_ms, term, id_, by, cause, self._level_now))
        if kind == KIND_CONFIG:
            return self._apply_configuration(record, stamp), leaves(record, header)
        id_key = POSITION.pack(expires_ms) + id_
        made_of_chunks = [body for body in bodies if body.chunks]
        outcome = self._admit(record, made_of_chunks, at_ms, id_key)
        if outcome is _COMMITTED and self._bodies.is_quarantined(index):
            outcome = Outcome.QUARANTINED
        facts: list[Any] = []
        results: list[Any] = []
        if outcome is _COMMITTED:
            try:
                self._take_effect(kind, record, made_of_chunks, stamp, facts, results)
            except _Refused as refused:
                outcome = refused.outcome
            except lmdb.Error:
                raise  # the disk, not the record: the tick is undone
            except UnknownEvent as error:
                self._overlay.drop_record()
                raise UnknownEvent(
                    f"position {index} holds an event type {error} of a later version of mailraft: "
                    "start this node with that version"
                ) from error
            except Exception as error:
                self._overlay.drop_record()
                text = f"record {index}: {type(error).__name__}: {error}"
                raise FoldStalled(text, record.cause) from error
        if outcome is _COMMITTED:
            self._overlay.commit_record()
            self.level = self._level_now
            if made_of_chunks:
                self._bodies.add_composites(index, record)
            if self._dropped or self._redactions:
                self._take_away(index)
            if len(events) == 1:
                self._streams.append(events[0].stream + place)
            else:
                self._streams.extend({event.stream + place for event in events})
        else:
            facts, results = [], []
            self._overlay.drop_record()
            self._level_now = self.level
        if outcome not in _LEAVE_NO_ID:
            self._ids[id_key] = place + OUTCOME_BYTES[outcome]
        folded = _tuple(Folded, (stamp, record, outcome, tuple(facts), tuple(results)))
        return folded, leaves(record, header)

    def _take_away(self, index: int) -> None:
        for key in self._dropped:
            self._bodies.drop_body(key)
        for redaction in self._redactions:
            self._bodies.redact(index, redaction)

    def _apply_configuration(self, record: Record, stamp: Stamp) -> Folded:
        """It was in force when it was appended, so neither its expiry nor a guard is asked: it is written down."""
        self._overlay.count(record.events[0].stream, stamp.position)
        view = OverlayView(self._overlay, members.MEMBERS, stamp.position)
        fact = members.evolve(view, record.events[0], stamp.position, stamp.at_ms)
        self._overlay.commit_record()
        self._streams.append(members.MEMBERS + POSITION.pack(stamp.position))
        self._ids[_id_key(record)] = POSITION.pack(stamp.position) + OUTCOME_BYTES[Outcome.COMMITTED]
        return Folded(stamp, record, Outcome.COMMITTED, (fact,), (None,))

    def is_known(self, record: Record) -> bool:
        """Whether a record under this id was folded and has not expired since."""
        return self._knows(_id_key(record))

    def _knows(self, key: bytes) -> bool:
        if key in self._ids:
            return True
        return key <= self._newest_id and self._store.txn.get(key, db=self._store.db[IDS]) is not None

    def _admit(self, record: Record, made_of_chunks: list[Body], at_ms: int, id_key: bytes) -> Outcome:
        _, expires_ms, _, _, guards, _, _ = record
        if at_ms > expires_ms:
            return Outcome.EXPIRED
        if self._knows(id_key):
            return Outcome.DUPLICATE
        for stream, row_key, version in guards:
            row = self._overlay.get(stream + row_key)
            if (0 if row is None else row[0] if row_key else row[1]) != version:
                return Outcome.GUARD
        for body in made_of_chunks:
            if not uploads.all_there(self._uploads(0), body):
                return Outcome.CHUNK_GONE
        return _COMMITTED

    def _take_effect(
        self, kind: int, record: Record, made_of_chunks: list[Body], stamp: Stamp, facts: list[Any], results: list[Any]
    ) -> None:
        position, overlay, evolve = stamp.position, self._overlay, self._evolve
        self._dropped.clear()
        self._redactions.clear()
        for event in record.events:
            _, stream, type_, _, _, _ = event
            overlay.count(stream, position)
            if type_ in _OF_THE_LOG or stream == custody.CUSTODY:
                fact, result = self._act_on_log(kind, record, event, stamp)
            else:
                fact, result = evolve(OverlayView(overlay, stream, position), event, stamp)
            facts.append(fact)
            results.append(result)
        for body in made_of_chunks:
            uploads.claim(self._uploads(position), body)
        if overlay.rows_in_record > ROW_BUDGET:
            raise _Refused(Outcome.TOO_LARGE)

    def _act_on_log(self, kind: int, record: Record, event: Event, stamp: Stamp) -> tuple[Any, Any]:
        """Of an event that does something to the log, its bodies or its level, whatever the actors make of it."""
        if event.type == uploads.CHUNKS_COLLECTED:
            self._collect(event, stamp.position)
            return None, None
        view = OverlayView(self._overlay, event.stream, stamp.position)
        if event.type == levels.FEATURE_LEVEL_RAISED:
            self._level_now = levels.evolve(view.beside(levels.LEVEL), event)
            return self._level_now, None
        if event.stream == custody.CUSTODY:
            self._take_custody(kind, record, event, stamp)
        if event.type == uploads.CHUNK_STORED:
            for body in record.bodies:
                uploads.stored(self._uploads(stamp.position), body, stamp.at_ms)
        return self._evolve(view, event, stamp)

    def _take_custody(self, kind: int, record: Record, event: Event, stamp: Stamp) -> None:
        """A quarantine is one only as an entry of its kind, which a leader makes of a stalled position alone."""
        redaction = custody.redaction_in(event)
        if redaction is not None:
            self._redactions.append(redaction)
            return
        archived = custody.archival_in(event)
        if archived is not None:
            if not all(one.last < stamp.position and self._is_chain_of(one) for one in archived):
                raise _Refused(Outcome.MISPLACED)
            return
        if kind != custody.KIND_QUARANTINE:
            raise _Refused(Outcome.MISPLACED)
        passed_over = custody.quarantined_by(record, stamp.position, stamp.at_ms)
        if passed_over is None:
            raise _Refused(Outcome.MISPLACED)
        if self._outcome_of(passed_over) is Outcome.COMMITTED:
            raise CustodyConflict(
                f"the cell has quarantined record {passed_over}, which this node has folded: another version of "
                "mailraft ran here; give the node an empty folder and a new name"
            )

    def _outcome_of(self, position: int) -> Outcome | None:
        """What became of an entry folded before."""
        value = self._chain_row(position)
        return None if value is None else Outcome(value[CHAIN_BYTES])

    def _chain_row(self, position: int) -> bytes | None:
        key = POSITION.pack(position)
        value = next((value for found, value in self._chain_rows if found == key), None)
        return value or self._store.txn.get(key, db=self._store.db[CHAIN])

    def _is_chain_of(self, archived: custody.ArchivedSegment) -> bool:
        """Whether the chain at both ends is what an archival says."""
        before = self._chain_row(archived.first - 1) or GENESIS
        return (self._chain_row(archived.last) or b"")[:CHAIN_BYTES] == archived.chain_after and (
            before[:CHAIN_BYTES] == archived.chain_before
        )

    def _collect(self, event: Event, position: int) -> None:
        self._dropped += uploads.collect(self._uploads(position), event)

    def _uploads(self, position: int) -> OverlayView:
        return OverlayView(self._overlay, uploads.UPLOADS, position)

    def first_outcome(self, record: Record) -> tuple[Outcome, int]:
        """What became of the first attempt under a duplicate's id, and its position."""
        key = _id_key(record)
        value = self._ids.get(key) or self._store.txn.get(key, db=self._store.db[IDS])
        assert value is not None, "a duplicate is known by its id"
        return Outcome(value[8]), int(POSITION.unpack_from(value)[0])

    def _purge_ids(self, at_ms: int) -> None:
        """Forgets ids that have expired in log time: a retry under them is refused as expired from now on."""
        end = POSITION.pack(at_ms)
        for key in [key for key in self._ids if key < end]:
            del self._ids[key]
        with self._store.txn.cursor(db=self._store.db[IDS]) as cursor:
            expired = list(takewhile(lambda key: key < end, cursor.iternext(keys=True, values=False)))
        for key in expired:
            self._store.txn.delete(key, db=self._store.db[IDS])


def _id_key(record: Record) -> bytes:
    """Where an id is kept until it expires: a second attempt under it must not take effect."""
    return POSITION.pack(record.expires_ms) + record.id


def _last_key(txn: Any, table: Any) -> bytes:
    with txn.cursor(db=table) as cursor:
        return bytes(cursor.key()) if cursor.last() else b""

"""What was redacted in the log is taken out of a backup too.

The redactions stand in the log, so the backup holds them itself: no node is asked. Segments that hold something that
one of them names are written again, as the log was; the chain does not change by it. How far the redactions have been
carried out stands in the manifest, so that a run that is killed leaves the rest to the next one.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgpack

from eventlog.backup import Grown
from eventlog.backup_manifest import Listed
from eventlog.backup_rewrite import read_listed, rewrite
from eventlog.backup_set import BackupSet
from eventlog.custody import CUSTODY, Fields, Redaction, redaction_in, without
from eventlog.fold import Outcome
from eventlog.record import RecordError, decode
from eventlog.restore import Progress
from eventlog.segments import SegmentRecord
from eventlog.store import CHAIN_BYTES, LOG_HEAD


def carry_out(backup: BackupSet, grown: Grown) -> list[int]:
    """Carries out the redactions that came since the last time; gives the positions that were rewritten.

    Call it `locked`, after a run that made the backup grow. What came is read again only if there may be one in it.
    """
    found: list[int] = []
    if grown.acts or backup.erased_to < grown.first - 1:
        redactions = list(_redactions(backup, backup.erased_to + 1))
        found = erase(backup, redactions) if redactions else []
        if redactions:
            _drop_tables(backup, backup.erased_to)
    backup.mark_erased()
    return found


def scrub(backup: BackupSet, progress: Progress | None = None) -> list[int]:
    """The same with every redaction that the backup holds, whatever was done before. Call it `locked`."""
    found = erase(backup, list(_redactions(backup, 1)), progress)
    _drop_tables(backup, 0)
    backup.mark_erased()
    return found


def _drop_tables(backup: BackupSet, known_to: int) -> None:
    """Tables from before a redaction, of those behind `known_to`, show what it erased."""
    newest = max((at for at, _ in _redactions_at(backup, known_to + 1)), default=0)
    backup.keep_tables(lambda one: one.head.position >= newest)


def erase(backup: BackupSet, redactions: Iterable[Redaction], progress: Progress | None = None) -> list[int]:
    """Rewrites whatever segment holds something that a redaction names; gives the positions in it."""
    wanted = Wanted(redactions)
    total, done, found = sum(chain.last for chain in backup.chains), 0, set[int]()
    for chain in backup.chains:
        for segment in chain.segments:
            changed = wanted.changed(read_listed(backup, [segment])) if wanted.concerns(segment) else {}
            if changed:
                chain = rewrite(backup, chain, [segment], changed)
                found |= changed.keys()
            done += segment.header.last - segment.header.first + 1
            if progress is not None:
                progress(done, total)
    return sorted(found)


def _redactions(backup: BackupSet, first: int) -> Iterator[Redaction]:
    """Those at positions from `first` on that took effect."""
    return (redaction for _, redaction in _redactions_at(backup, first))


def _redactions_at(backup: BackupSet, first: int) -> Iterator[tuple[int, Redaction]]:
    """The same with their positions; what does not name the stream of custody is passed by."""
    for segment in backup.longest.segments:
        if segment.header.last < first:
            continue
        for record in read_listed(backup, [segment]):
            if CUSTODY in record.value and record.position >= first and record.folded[CHAIN_BYTES] == Outcome.COMMITTED:
                for redaction in _redactions_in(record):
                    yield record.position, redaction


def _redactions_in(record: SegmentRecord) -> Iterator[Redaction]:
    try:
        events = decode(record.value[LOG_HEAD.size :]).events
    except RecordError:
        return
    for event in events:
        redaction = redaction_in(event) if event.stream == CUSTODY else None
        if redaction is not None:
            yield redaction


class Wanted:
    """What several redactions erase, by position, and by the keys of bodies that any position may have brought."""

    def __init__(self, redactions: Iterable[Redaction]) -> None:
        self._events: defaultdict[int, dict[int, Fields]] = defaultdict(dict)
        self._bodies: defaultdict[int, set[int]] = defaultdict(set)
        self._keys: set[bytes] = set()
        for redaction in redactions:
            for position, ordinal, fields, _ in redaction.events:
                self._events[position][ordinal] = fields
            for position, ordinal, key in redaction.bodies:
                self._bodies[position].add(ordinal)
                self._keys.add(key)
        self._positions = self._events.keys() | self._bodies.keys()

    def concerns(self, segment: Listed) -> bool:
        """Whether it must be read: a body that is named at one position may have been brought at another."""
        return self.may_be_in(segment.header.first, segment.header.last, bool(segment.bodies))

    def may_be_in(self, first: int, last: int, with_bodies: bool) -> bool:
        """The same of positions, of which it is known whether they may have brought bodies that are kept."""
        return any(first <= position <= last for position in self._positions) or (bool(self._keys) and with_bodies)

    def changed(self, records: Iterable[SegmentRecord]) -> Mapping[int, SegmentRecord]:
        """What is another now, by position."""
        return {record.position: now for record in records if (now := self._erased(record)) != record}

    def _erased(self, record: SegmentRecord) -> SegmentRecord:
        position, value = record.position, record.value
        if position in self._positions:
            data = without(value[LOG_HEAD.size :], self._events.get(position, {}), self._bodies.get(position, ()))
            value = value[: LOG_HEAD.size] + data
        bodies = record.bodies
        if bodies and self._keys:
            keys = _body_keys(value[LOG_HEAD.size :])
            bodies = tuple(one for one in bodies if keys[one[0]] not in self._keys)
        return record._replace(value=value, bodies=bodies)


def _body_keys(data: bytes) -> list[bytes]:
    """Tenant (or upload) and digest of each body of a record that brought some, so that it was checked before."""
    bodies: tuple[tuple[Any, ...], ...] = msgpack.unpackb(data, use_list=False)[3]
    return [tenant + digest for tenant, digest, *_ in bodies]

"""Segments of a backup written again: under a new key, many small ones as one, without what was erased since.

The chain of a segment does not change by any of it, so a rewritten one fits where the old one was. The old file goes
only when the manifest lists the new one.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from eventlog.backup import Feed
from eventlog.backup_manifest import Chain, Listed
from eventlog.backup_set import BackupSet, check_listed
from eventlog.record import ERASED_SALT_BYTES, Record, RecordError, decode
from eventlog.restore import Progress
from eventlog.segment_frames import SegmentError
from eventlog.segments import SegmentRecord, read_segment
from eventlog.store import LOG_HEAD

MERGE_FROM = 64  # small segments
NOTHING: Mapping[int, SegmentRecord] = MappingProxyType({})
MERGE_BYTES = 64 * 1024 * 1024  # what they may hold together


def rekey(backup: BackupSet, progress: Progress | None = None) -> int:
    """Encrypts everything under the newest key; gives how many segments were rewritten. Call it `locked`."""
    if backup.keys is None:
        raise SegmentError("no key was given")
    current = backup.keys.current
    due = [one for chain in backup.chains for one in chain.segments if one.header.key_id != current]
    done = 0
    key = backup.cluster_key()
    if key is not None:
        backup.keep_cluster_key(key)
    for chain in backup.chains:
        for segment in chain.segments:
            if segment.header.key_id != current:
                chain = rewrite(backup, chain, [segment])
                done += 1
                if progress is not None:
                    progress(done, len(due))
    return done


def merge(backup: BackupSet) -> int:
    """Makes one segment of the newest small ones, once they are many; gives how many there were. Call it `locked`."""
    chain, run, size_bytes = backup.current, list[Listed](), 0
    for segment in reversed(chain.segments):
        size_bytes += segment.size_bytes
        if size_bytes > MERGE_BYTES:
            break
        run.insert(0, segment)
    if len(run) < MERGE_FROM:
        return 0
    rewrite(backup, chain, run)
    return len(run)


def scrub(
    backup: BackupSet, feed: Feed, positions: Sequence[int] | None = None, progress: Progress | None = None
) -> list[int]:
    """Takes out what was erased from the log since it was backed up; gives the positions. Call it `locked`.

    Every segment is compared with the log; or those that hold `positions`, where they are known. Raises SegmentError
    for a difference that no erasure makes.
    """
    total, done, erased = sum(chain.last for chain in backup.chains), 0, set[int]()
    for chain in backup.chains:
        for segment in chain.segments:
            header = segment.header
            if positions is None or any(header.first <= one <= header.last for one in positions):
                found = _erased_in(backup, segment, feed)
                if found:
                    chain = rewrite(backup, chain, [segment], found)
                    erased |= found.keys()
            done += header.last - header.first + 1
            if progress is not None:
                progress(done, total)
    return sorted(erased)


def rewrite(
    backup: BackupSet, chain: Chain, old: Sequence[Listed], changed: Mapping[int, SegmentRecord] = NOTHING
) -> Chain:
    """One segment in the place of `old`, which follow each other; gives the chain as it is then."""
    with backup.rewriter(chain, old) as writer:
        for record in _records(backup, old):
            writer.add(changed.get(record.position, record))
    return backup.replace(chain, old, writer)


def _records(backup: BackupSet, segments: Sequence[Listed]) -> Iterator[SegmentRecord]:
    for segment in segments:
        check_listed(backup, segment)
        yield from read_segment(backup.path(segment), backup.keys)


def _erased_in(backup: BackupSet, segment: Listed, feed: Feed) -> dict[int, SegmentRecord]:
    """The positions of a segment that the log has erased parts of, as they stand there now."""
    found = {}
    live = _live(feed, segment.header.first, segment.header.last)
    for kept, now in zip(_records(backup, [segment]), live, strict=True):
        if kept.value != now.value or kept.folded != now.folded:
            found[kept.position] = _without_erased(segment, kept, now)
    return found


def _live(feed: Feed, first: int, last: int) -> Iterator[SegmentRecord]:
    while first <= last:
        header, records = feed.segment(first, last)
        yield from records
        first = header.last + 1


def _without_erased(segment: Listed, kept: SegmentRecord, now: SegmentRecord) -> SegmentRecord:
    """The entry as the log has it, with the bodies that were kept and are not erased."""
    try:
        record = decode(now.value[LOG_HEAD.size :])
    except RecordError:
        record = None
    same_head = kept.value[: LOG_HEAD.size] == now.value[: LOG_HEAD.size] and kept.folded == now.folded
    if record is None or not same_head or not _has_erased(record):
        raise SegmentError(f"{segment.file}: position {kept.position} is not what the log has there")
    erased = {ordinal for ordinal, body in enumerate(record.bodies) if len(body.salt) == ERASED_SALT_BYTES}
    return now._replace(bodies=tuple(one for one in kept.bodies if one[0] not in erased))


def _has_erased(record: Record) -> bool:
    salts = [event.salt for event in record.events] + [body.salt for body in record.bodies]
    return any(len(salt) == ERASED_SALT_BYTES for salt in salts)

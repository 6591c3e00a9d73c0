"""Segments of a backup written again: under a new key, many small ones as one, other than they were.

The chain of a segment does not change by any of it, so a rewritten one fits where the old one was. The old file goes
only when the manifest lists the new one.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from eventlog.backup_manifest import Chain, Listed
from eventlog.backup_set import BackupSet, check_listed
from eventlog.restore import Progress
from eventlog.segment_frames import SegmentError
from eventlog.segments import SegmentRecord, read_segment

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
    backup.keep_tables(lambda one: one.head.key_id == current)  # the next run that is due brings others
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


def rewrite(
    backup: BackupSet, chain: Chain, old: Sequence[Listed], changed: Mapping[int, SegmentRecord] = NOTHING
) -> Chain:
    """One segment in the place of `old`, which follow each other; gives the chain as it is then."""
    with backup.rewriter(chain, old) as writer:
        for record in read_listed(backup, old):
            writer.add(changed.get(record.position, record))
    return backup.replace(chain, old, writer)


def read_listed(backup: BackupSet, segments: Sequence[Listed]) -> Iterator[SegmentRecord]:
    """The positions of segments, which must be those that are listed. Raises SegmentError that names the file."""
    for segment in segments:
        check_listed(backup, segment)
        yield from read_segment(backup.path(segment), backup.keys)

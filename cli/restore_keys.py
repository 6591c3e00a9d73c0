"""Whether the keys that are there open what was sealed at the moment that a cluster is restored to.

Known before anything is written, of the log alone: which keys were used up to there, which had sealed something by
then, which were retired. The first key is named by nothing that it sealed; it is known where the log tells, later, of a
key that took its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli.output import CommandError

if TYPE_CHECKING:
    from actors.kind import Fact
    from actors.sealing import KeyRing
    from eventlog.restore import Head, Source
    from eventlog.segments import SegmentRecord

CODE = "sealing_key_missing"


def require_keys(source: Source, cut: Head, keys: bytes, place: str) -> None:
    """Raises CommandError where a key is not among `keys`, which come from `place`, and what is restored needs it."""
    from actors.sealing import KeyRing

    missing = [one.hex() for one in _missing(source, cut, KeyRing(keys), keys)]
    if missing:
        which = (
            f"the key {missing[0]}, which seals" if len(missing) == 1 else f"the keys {', '.join(missing)}, which seal"
        )
        raise CommandError(
            f"{place} lacks {which} what was in force at position {cut.position}: nobody could log in",
            "--cluster-key FILE: a copy of cluster.key from before the retired line was taken out; "
            "--missing-keys to restore without what it sealed; or --as-of a later moment",
            code=CODE,
        )


def _missing(source: Source, cut: Head, ring: KeyRing, keys: bytes) -> list[bytes]:
    from actors.keyring import ClusterKeyRetired, ClusterKeyUsed
    from actors.sealing import sealed_under

    rotated = False
    sealing: set[bytes | None] = set()
    for fact in _facts(source, 1, cut.position):
        if isinstance(fact, ClusterKeyUsed):
            rotated = True
            sealing.add(fact.id)
        elif isinstance(fact, ClusterKeyRetired):
            sealing.discard(fact.id or None)
        elif sealed := getattr(fact, "sealed", b""):
            sealing.add(sealed_under(sealed))
    missing = sorted(one for one in sealing if one is not None and one not in ring.ids)
    if not rotated and None in sealing:
        missing += _first_key(source, cut, ring, keys)
    return missing


def _first_key(source: Source, cut: Head, ring: KeyRing, keys: bytes) -> Iterator[bytes]:
    """The id of the cell's first key where another stands first; nothing where no key that is here can tell."""
    from actors.keyring import ClusterKeyUsed
    from actors.sealing import KEY_BYTES, NoSuchSealingKey, SealBroken, key_id

    first = key_id(keys[:KEY_BYTES])
    for fact in _facts(source, cut.position + 1, source.head().position):
        if not isinstance(fact, ClusterKeyUsed):
            continue
        try:
            ring.use(fact.id, fact.sealed_root)
        except (NoSuchSealingKey, SealBroken):
            continue
        if ring.root_id != first:
            yield ring.root_id
        return


def _facts(source: Source, first: int, last: int) -> Iterator[Fact]:
    """What tells of keys, or was sealed, in the records that took effect."""
    from actors.keyring import ClusterKeyRetired, ClusterKeyUsed
    from actors.registry import KINDS

    facts = (fact for kind in KINDS.values() for fact in kind.facts)
    sealed = (fact.TYPE for fact in facts if "sealed" in getattr(fact, "__dataclass_fields__", {}))
    wanted = frozenset((ClusterKeyUsed.TYPE, ClusterKeyRetired.TYPE, *sealed))
    found = re.compile("|".join(sorted(wanted)).encode()).search
    for record in source.records(first, last) if first <= last else ():
        if found(record.value):
            yield from _of_record(record, wanted)


def _of_record(record: SegmentRecord, wanted: frozenset[str]) -> Iterator[Fact]:
    from actors.kind import decode
    from eventlog.fold import OUTCOME_BYTES, Outcome
    from eventlog.journal import KIND_RECORD
    from eventlog.record import ERASED_SALT_BYTES, RecordError
    from eventlog.record import decode as decode_record
    from eventlog.store import LOG_HEAD

    _, kind, _ = LOG_HEAD.unpack_from(record.value)
    if kind != KIND_RECORD or record.folded[-1:] not in (b"", OUTCOME_BYTES[Outcome.COMMITTED]):
        return
    try:
        events = decode_record(record.value[LOG_HEAD.size :]).events
    except RecordError:
        return  # the restore itself says what is wrong with it
    for event in events:
        if event.type in wanted and len(event.salt) != ERASED_SALT_BYTES:
            yield decode(event.type, event.version, event.data)

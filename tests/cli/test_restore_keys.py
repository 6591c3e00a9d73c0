"""A restore finds out before it begins which keys of the cluster it needs, and which of them are not there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from actors import kind
from actors.keyring import KEYRING, ClusterKeyRetired, ClusterKeyUsed, SecretResealed
from actors.sealing import KeyRing, key_id
from cli.output import CommandError
from cli.restore_keys import require_keys
from eventlog.fold import OUTCOME_BYTES, Outcome
from eventlog.journal import KIND_RECORD
from eventlog.record import By, Event, Record, encode, new_id, new_salt
from eventlog.restore import Head
from eventlog.restore_tables import Checkpoint
from eventlog.segments import SegmentRecord
from eventlog.store import LOG_HEAD

FIRST, SECOND, THIRD = (bytes([number]) * 32 for number in (1, 2, 3))


class Told:
    """A log of a fact at each position, from 1 on; those in `refused` took no effect."""

    cell = "cell-of-tests"

    def __init__(self, *facts: kind.Fact, refused: tuple[int, ...] = ()) -> None:
        self._records = [_record(at, fact, at in refused) for at, fact in enumerate(facts, 1)]

    def head(self) -> Head:
        return self.at(len(self._records))

    def at(self, position: int) -> Head:
        return Head(position, position, 1, b"")

    def position_at(self, at_ms: int) -> int:
        return at_ms

    def records(self, first: int, last: int) -> Iterator[SegmentRecord]:
        return iter(self._records[first - 1 : last])

    def checkpoint(self, last: int) -> Checkpoint | None:
        return None


def _record(at: int, fact: kind.Fact, refused: bool) -> SegmentRecord:
    event = Event(bytes(16), KEYRING, fact.TYPE, fact.VERSION, kind.encode(fact), new_salt())
    record = Record(new_id(), 1 << 40, By("admin", b"", "test"), "test", (), (event,))
    outcome = OUTCOME_BYTES[Outcome.EXPIRED if refused else Outcome.COMMITTED]
    return SegmentRecord(at, LOG_HEAD.pack(1, KIND_RECORD, at) + encode(record), bytes(32) + outcome, ())


def sealed(ring: KeyRing) -> SecretResealed:
    return SecretResealed(b"c", bytes(16), ring.seal(b"secret", b"alice"))


def story() -> tuple[kind.Fact, ...]:
    """Something is sealed; the second key, something sealed again, the first retired; the same with the third."""
    ring = KeyRing(FIRST + SECOND + THIRD)
    facts: list[kind.Fact] = [sealed(ring)]
    for key, before in ((SECOND, b""), (THIRD, key_id(SECOND))):
        root = ring.sealed_root(key_id(key))
        ring.use(key_id(key), root)
        facts += [ClusterKeyUsed(key_id(key), root), sealed(ring), ClusterKeyRetired(before)]
    return tuple(facts)


@pytest.mark.parametrize(
    ("position", "keys", "missing"),
    [
        (1, FIRST, ()),
        (1, FIRST + SECOND + THIRD, ()),
        (1, SECOND + THIRD, (FIRST,)),
        (1, THIRD, (FIRST,)),
        (3, SECOND, ()),  # what opens with the first key opens: the event has it, sealed under the second
        (3, THIRD, (SECOND,)),
        (5, THIRD, (SECOND,)),  # the third is used, and what the second sealed is not sealed anew yet
        (5, FIRST + SECOND, (THIRD,)),
        (5, FIRST, (SECOND, THIRD)),
        (7, THIRD, ()),
    ],
)
def test_a_key_that_sealed_what_was_in_force_is_named(position: int, keys: bytes, missing: tuple[bytes, ...]) -> None:
    source = Told(*story())
    if not missing:
        require_keys(source, source.at(position), keys, "the file")
        return
    with pytest.raises(CommandError, match="the file lacks ") as caught:
        require_keys(source, source.at(position), keys, "the file")
    assert caught.value.code == "sealing_key_missing"
    assert all(key_id(one).hex() in str(caught.value) for one in missing)
    assert not any(key_id(one).hex() in str(caught.value) for one in {FIRST, SECOND, THIRD} - set(missing))


def test_no_key_is_missing_where_nothing_was_sealed_and_none_was_used() -> None:
    _, *after = story()
    source = Told(ClusterKeyRetired(b""), *after)
    require_keys(source, source.at(1), THIRD, "the file")


def test_a_key_that_was_refused_is_not_needed() -> None:
    before, used, *_ = story()
    source = Told(before, used, refused=(2,))
    require_keys(source, source.at(2), FIRST, "the file")

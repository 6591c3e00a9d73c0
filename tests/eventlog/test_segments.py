"""Segments: what goes in comes out, and nothing that was changed, moved, cut off or locked away does."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventlog.journal import Command
from eventlog.segment_frames import SegmentError
from eventlog.segment_keys import KeyFileError, KeyRing, add_key, key_id, read_keys
from eventlog.segment_source import describe, records_of
from eventlog.segments import (
    SegmentWriter,
    check_digest,
    read_header,
    read_segment,
    verify_segment,
)
from eventlog.store import Store
from tests.eventlog import ledger
from tests.eventlog.conftest import MAP_BYTES
from tests.eventlog.folded import CELL, KEYS, START_MS, Log, record, stored, tell

RINGS = pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "encrypted"])


@pytest.fixture
def log(store: Store) -> Log:
    log = Log(store)
    tell(log)
    return log


@RINGS
def test_what_was_written_is_read(log: Log, tmp_path: Path, keys: KeyRing | None) -> None:
    log.write(tmp_path / "one", keys=keys)
    assert list(read_segment(tmp_path / "one", keys)) == stored(log.store)


def test_a_segment_says_what_it_holds(log: Log, tmp_path: Path) -> None:
    log.write(tmp_path / "one", 3, 8)
    header = read_header(tmp_path / "one")
    rows = stored(log.store)
    assert (header.cell, header.first, header.last) == (CELL, 3, 8)
    assert (header.chain_before, header.chain_after) == (rows[1].folded[:32], rows[7].folded[:32])
    assert (header.first_at_ms, header.last_at_ms, header.key_id) == (START_MS + 2, START_MS + 7, None)


def test_segments_that_follow_each_other_make_up_the_log(log: Log, tmp_path: Path) -> None:
    cuts = [(1, 1), (2, 9), (10, 12)]
    for first, last in cuts:
        log.write(tmp_path / str(first), first, last)
    chains = [read_header(tmp_path / str(first)) for first, _ in cuts]
    assert [one.chain_after for one in chains[:-1]] == [one.chain_before for one in chains[1:]]
    found = [one for first, _ in cuts for one in read_segment(tmp_path / str(first))]
    assert found == stored(log.store)


def test_the_bytes_of_a_body_come_with_the_position_that_brought_them(log: Log, tmp_path: Path) -> None:
    log.write(tmp_path / "one")
    assert {r.position: r.bodies for r in read_segment(tmp_path / "one") if r.bodies} == {
        8: ((0, b"a body"),),
        10: ((0, b"chunk"),),
    }


def test_a_fold_of_a_segment_is_the_fold_of_the_log(log: Log, tmp_path: Path) -> None:
    log.write(tmp_path / "one", keys=KEYS)
    again = Log(Store(tmp_path / "again", MAP_BYTES, durable=False))
    for position, value, folded, bodies in read_segment(tmp_path / "one", KEYS):
        kind, at_ms = value[8], int.from_bytes(value[9:17], "big")
        given_bodies = tuple(data for _, data in bodies)
        again.journal.add(Command(kind, at_ms, value[17:], given_bodies), position, 1)
        again.fold.apply(again.journal.entry(position))
        assert again.fold.chain == folded[:32]
    again.flush()
    assert stored(again.store) == stored(log.store)
    again.store.close()


_body_bytes = st.binary(max_size=3000)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.none(), st.tuples(st.text(max_size=50), st.lists(_body_bytes, max_size=3))), min_size=1))
def test_any_log_comes_back(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, list[bytes]] | None]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    log = Log(Store(folder / "data", MAP_BYTES, durable=False))
    for entry in entries:
        if entry is None:
            log.add(None)
        else:
            log.add(record(entry[0], bodies=tuple(map(ledger.body, entry[1]))), *entry[1])
    log.flush()
    log.write(folder / "one", keys=KEYS)
    assert list(read_segment(folder / "one", KEYS)) == stored(log.store)
    assert verify_segment(folder / "one", KEYS).header.last == len(entries)
    log.store.close()


def test_a_segment_of_many_frames_comes_back(store: Store, tmp_path: Path) -> None:
    log = Log(store)
    bodies = [bytes([number]) * 700_000 for number in range(5)]
    for body in bodies:
        log.add(record("big", bodies=(ledger.body(body),)), body)
    log.flush()
    log.write(tmp_path / "one", keys=KEYS)
    assert [one.bodies[0][1] for one in read_segment(tmp_path / "one", KEYS)] == bodies


def test_a_segment_ends_where_it_would_hold_too_much(log: Log) -> None:
    header = describe(log.store, CELL, 2, most_bytes=1)
    assert header is not None
    assert (header.first, header.last) == (2, 2)
    whole = describe(log.store, CELL, most_bytes=1 << 40)
    assert whole is not None
    assert whole.last == 12


def test_there_is_no_segment_beyond_what_is_folded(log: Log) -> None:
    assert describe(log.store, CELL, 13) is None
    with pytest.raises(SegmentError, match="not folded yet"):
        describe(log.store, CELL, 1, 13)


def test_a_segment_that_was_not_finished_leaves_no_file(log: Log, tmp_path: Path) -> None:
    header = describe(log.store, CELL)
    assert header is not None
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(SegmentError, match="where its header says 12"), SegmentWriter(folder / "one", header) as writer:
        writer.add(next(records_of(log.store, 1, 1)))
    assert list(folder.iterdir()) == []


# -- damage -----------------------------------------------------------------------------------------------------------


def refused(path: Path, keys: KeyRing | None) -> bool:
    try:
        verify_segment(path, keys)
    except (SegmentError, KeyFileError):
        return True
    return False


@RINGS
def test_every_flipped_byte_is_found(log: Log, tmp_path: Path, keys: KeyRing | None) -> None:
    log.write(tmp_path / "one", 7, 9, keys)
    whole = (tmp_path / "one").read_bytes()
    damaged = tmp_path / "damaged"
    for at in range(len(whole)):
        damaged.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        assert refused(damaged, keys), f"byte {at} of {len(whole)}"
        with pytest.raises(SegmentError, match="damaged"):
            check_digest(damaged)


@RINGS
def test_every_truncation_is_found(log: Log, tmp_path: Path, keys: KeyRing | None) -> None:
    log.write(tmp_path / "one", 7, 9, keys)
    whole = (tmp_path / "one").read_bytes()
    damaged = tmp_path / "damaged"
    for length in range(len(whole)):
        damaged.write_bytes(whole[:length])
        assert refused(damaged, keys), f"cut at {length} of {len(whole)}"


def test_bytes_after_the_end_are_found(log: Log, tmp_path: Path) -> None:
    log.write(tmp_path / "one")
    with (tmp_path / "one").open("ab") as file:
        file.write(b"\0")
    assert refused(tmp_path / "one", None)


def _frames(path: Path) -> tuple[bytes, list[bytes]]:
    """What stands before the frames, and each frame with its head."""
    data = path.read_bytes()[:-32]
    start = 19 + 4 + int.from_bytes(data[19:23], "big")
    frames, at = [], start
    while at < len(data):
        end = at + 9 + int.from_bytes(data[at + 5 : at + 9], "big")
        frames.append(data[at:end])
        at = end
    return data[:start], frames


def _reframed(head: bytes, frames: Iterator[bytes]) -> bytes:
    """With numbers, ends and the digest made right again, as one who wants to deceive would."""
    import hashlib

    parts = list(frames)
    body = head + b"".join(
        number.to_bytes(4, "big") + bytes([number == len(parts) - 1]) + frame[5:] for number, frame in enumerate(parts)
    )
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    "change",
    [
        lambda frames: [frames[1], frames[0], *frames[2:]],
        lambda frames: [frames[0], *frames[2:]],
        lambda frames: frames[:-1],
        lambda frames: [frames[0], *frames],
    ],
    ids=["moved", "left out", "cut off", "repeated"],
)
def test_encrypted_frames_can_not_be_rearranged(
    store: Store, tmp_path: Path, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    log = Log(store)
    for number in range(4):
        body = bytes([number]) * 900_000
        log.add(record("big", bodies=(ledger.body(body),)), body)
    log.flush()
    log.write(tmp_path / "one", keys=KEYS)
    head, frames = _frames(tmp_path / "one")
    assert len(frames) == 4
    (tmp_path / "same").write_bytes(_reframed(head, iter(frames)))
    assert not refused(tmp_path / "same", KEYS)
    (tmp_path / "other").write_bytes(_reframed(head, iter(change(frames))))
    with pytest.raises(SegmentError, match="does not open"):
        verify_segment(tmp_path / "other", KEYS)


def test_frames_of_another_segment_under_the_same_key_do_not_open(log: Log, tmp_path: Path) -> None:
    log.write(tmp_path / "one", keys=KEYS)
    log.write(tmp_path / "two", keys=KEYS)
    head, _ = _frames(tmp_path / "one")
    (tmp_path / "mixed").write_bytes(_reframed(head, iter(_frames(tmp_path / "two")[1])))
    with pytest.raises(SegmentError, match="does not open"):
        verify_segment(tmp_path / "mixed", KEYS)


def test_a_record_that_was_altered_before_it_was_written_does_not_fit_the_chain(log: Log, tmp_path: Path) -> None:
    header = describe(log.store, CELL)
    assert header is not None
    with SegmentWriter(tmp_path / "one", header) as writer:
        for one in records_of(log.store, 1, 12):
            altered = one.value[:-1] + bytes([one.value[-1] ^ 1]) if one.position == 5 else one.value
            writer.add(one._replace(value=altered))
    with pytest.raises(SegmentError, match="one: position 5 does not fit the chain"):
        verify_segment(tmp_path / "one")


def test_a_body_that_was_altered_before_it_was_written_is_found(log: Log, tmp_path: Path) -> None:
    header = describe(log.store, CELL)
    assert header is not None
    with SegmentWriter(tmp_path / "one", header) as writer:
        for one in records_of(log.store, 1, 12):
            writer.add(one._replace(bodies=tuple((ordinal, b"other") for ordinal, _ in one.bodies)))
    with pytest.raises(SegmentError, match="body of position 8"):
        verify_segment(tmp_path / "one")


# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_segment_without_its_key_is_refused_by_the_key_that_it_names(log: Log, tmp_path: Path) -> None:
    log.write(tmp_path / "one", keys=KEYS)
    with pytest.raises(SegmentError, match=f"one: it is encrypted under the key {KEYS.current}"):
        list(read_segment(tmp_path / "one"))
    with pytest.raises(KeyFileError, match=f"the key {KEYS.current} is not in the key file"):
        list(read_segment(tmp_path / "one", KeyRing([bytes(32)])))


def test_nothing_of_an_encrypted_segment_is_readable(log: Log, tmp_path: Path) -> None:
    log.write(tmp_path / "one", keys=KEYS)
    assert b"with a body" not in (tmp_path / "one").read_bytes()


def test_a_ring_writes_with_its_newest_key_and_reads_with_all(log: Log, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    first = add_key(path)
    log.write(tmp_path / "one", keys=read_keys(path))
    second = add_key(path, "of November")
    log.write(tmp_path / "two", keys=read_keys(path))
    assert [read_header(tmp_path / name).key_id for name in ("one", "two")] == [first, second]
    assert not refused(tmp_path / "one", read_keys(path))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_holds_no_keys_is_refused_without_being_shown(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("a secret that is no key\n")
    with pytest.raises(KeyFileError, match="must hold keys") as caught:
        read_keys(path)
    assert "secret" not in str(caught.value)


def test_a_key_is_known_by_an_id_that_is_not_part_of_it() -> None:
    key = bytes(range(32))
    assert key_id(key) not in key.hex()

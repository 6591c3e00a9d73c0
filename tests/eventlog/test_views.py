"""One contract for every view: the dict, the fold's overlay, the scratch layer, the snapshot that reads them back."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventlog.overlay import Overlay, OverlayView
from eventlog.record import Guard, stream_id
from eventlog.store import Store
from eventlog.views import DictView, RecordingView, ScratchView, View, after_prefix

STREAM = stream_id("test", "views")
LAST_STREAM = b"\xff" * 16


class Rows:
    """A view under test: `at` begins the writes of a position, `settle` ends them, `readers` are the ways to read."""

    def __init__(self, stream: bytes) -> None:
        self.stream = stream

    def at(self, position: int) -> View:
        raise NotImplementedError

    def settle(self) -> None:
        """A tick ends."""

    def read(self) -> View:
        raise NotImplementedError


class DictRows(Rows):
    def __init__(self, store: Store, stream: bytes) -> None:
        super().__init__(stream)
        self.view = DictView(stream)

    def at(self, position: int) -> View:
        return self.view.at(position)

    def read(self) -> View:
        return self.view


class OverlayRows(Rows):
    """Read through the overlay before it is flushed."""

    def __init__(self, store: Store, stream: bytes) -> None:
        super().__init__(stream)
        self.store = store
        self.overlay = Overlay(store)

    def at(self, position: int) -> View:
        self.overlay.commit_record()
        self.overlay.count(self.stream, position)
        return OverlayView(self.overlay, self.stream, position)

    def read(self) -> View:
        return OverlayView(self.overlay, self.stream, 0)


class FlushedRows(OverlayRows):
    """Every position is flushed and read again from LMDB."""

    def settle(self) -> None:
        self.overlay.commit_record()
        self.overlay.flush()
        self.store.commit()


class SnapshotRows(FlushedRows):
    """Written by the fold, read by everybody else."""

    def read(self) -> View:
        return self.store.snapshot().view(self.stream)


class ScratchRows(Rows):
    """The scratch layer over what earlier positions have left."""

    def __init__(self, store: Store, stream: bytes) -> None:
        super().__init__(stream)
        self.below = DictView(stream)
        self.view: ScratchView | None = None

    def at(self, position: int) -> View:
        self.below.at(position)
        self.view = ScratchView(self.view or self.below, position)
        return self.view

    def read(self) -> View:
        return self.view or self.below


KINDS: tuple[Callable[[Store, bytes], Rows], ...] = (DictRows, OverlayRows, FlushedRows, SnapshotRows, ScratchRows)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def rows(request: pytest.FixtureRequest, store: Store) -> Rows:
    made: Rows = request.param(store, STREAM)
    return made


def put(rows: Rows, position: int, **written: Any) -> None:
    """Writes rows named by their keys; None deletes."""
    view = rows.at(position)
    for name, value in written.items():
        if value is None:
            view.delete(name.encode())
        else:
            view.put(name.encode(), value)
    rows.settle()


def test_an_absent_row_is_none_and_has_version_0(rows: Rows) -> None:
    assert rows.read().get(b"a") is None
    assert rows.read().peek(b"a") is None
    assert rows.read().version(b"a") == 0
    assert list(rows.read().range(b"")) == []


def test_a_row_is_read_as_it_was_put_and_carries_its_position(rows: Rows) -> None:
    put(rows, 3, a=(1, b"two", "three", (4, 5), None, True))
    assert rows.read().get(b"a") == (1, b"two", "three", (4, 5), None, True)
    assert rows.read().peek(b"a") == rows.read().get(b"a")
    assert rows.read().version(b"a") == 3


def test_a_row_put_again_has_its_last_value_and_position(rows: Rows) -> None:
    put(rows, 3, a=1, b=1)
    put(rows, 5, a=2)
    assert (rows.read().get(b"a"), rows.read().version(b"a")) == (2, 5)
    assert (rows.read().get(b"b"), rows.read().version(b"b")) == (1, 3)


def test_a_deleted_row_is_absent(rows: Rows) -> None:
    put(rows, 3, a=1, b=2)
    put(rows, 4, a=None, missing=None)
    assert rows.read().get(b"a") is None
    assert rows.read().version(b"a") == 0
    assert list(rows.read().range(b"")) == [(b"b", 2)]


def test_a_row_deleted_and_put_in_one_record_is_there(rows: Rows) -> None:
    view = rows.at(2)
    view.put(b"a", 1)
    view.delete(b"a")
    view.put(b"a", 2)
    assert view.get(b"a") == 2
    rows.settle()
    assert list(rows.read().range(b"a")) == [(b"a", 2)]


def test_a_writer_reads_what_it_wrote(rows: Rows) -> None:
    put(rows, 1, a=1, b=1)
    view = rows.at(2)
    view.put(b"c", 3)
    view.delete(b"a")
    assert (view.get(b"c"), view.get(b"a"), view.version(b"c")) == (3, None, 2)
    assert list(view.range(b"")) == [(b"b", 1), (b"c", 3)]


def test_the_version_of_the_stream_is_its_number_of_events(rows: Rows) -> None:
    assert rows.read().version(b"") == 0
    put(rows, 4, a=1)
    put(rows, 9, a=2)
    assert rows.read().version(b"") == 2


def test_a_range_gives_whole_keys_in_byte_order_within_its_bounds(rows: Rows) -> None:
    put(rows, 1, m1=1, m2=2, m3=3, n1=4, l=0)
    read = rows.read()
    assert list(read.range(b"m")) == [(b"m1", 1), (b"m2", 2), (b"m3", 3)]
    assert list(read.range(b"m", b"2")) == [(b"m2", 2), (b"m3", 3)]
    assert list(read.range(b"m", b"", b"3")) == [(b"m1", 1), (b"m2", 2)]
    assert list(read.range(b"m", b"2", b"2")) == []
    assert [key for key, _ in read.range(b"")] == [b"l", b"m1", b"m2", b"m3", b"n1"]


def test_a_range_over_the_highest_bytes_ends_with_its_prefix(rows: Rows) -> None:
    view = rows.at(1)
    view.put(b"\xfe", 1)
    view.put(b"\xff\xff", 2)
    view.put(b"\xff\xff\xff", 3)
    rows.settle()
    assert list(rows.read().range(b"\xff\xff")) == [(b"\xff\xff", 2), (b"\xff\xff\xff", 3)]
    assert list(rows.read().range(b"\xfe")) == [(b"\xfe", 1)]


@pytest.mark.parametrize("kind", [OverlayRows, FlushedRows, SnapshotRows])
def test_streams_do_not_see_one_another(kind: Callable[[Store, bytes], Rows], store: Store) -> None:
    first, last = kind(store, STREAM), kind(store, LAST_STREAM)
    for position, rows in ((1, first), (2, last)):
        put(rows, position, a=position)
        first.settle()
    assert list(last.read().range(b"")) == [(b"a", 2)]
    assert list(first.read().range(b"")) == [(b"a", 1)]
    assert last.read().version(b"") == 1


keys = st.binary(min_size=1, max_size=3)
steps = st.lists(st.tuples(keys, st.none() | st.integers(0, 9)), max_size=12)


@given(st.lists(steps, max_size=4), st.binary(max_size=2), st.binary(max_size=2), st.none() | st.binary(max_size=2))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_all_views_agree_whatever_is_written(
    store: Store,
    positions: list[list[tuple[bytes, int | None]]],
    prefix: bytes,
    start: bytes,
    stop: bytes | None,
) -> None:
    with store.env.begin(write=True) as txn:
        txn.drop(store.db[b"tables"], delete=False)
    seen = []
    for kind in (DictRows, OverlayRows, ScratchRows, SnapshotRows):
        rows = kind(store, STREAM)
        for position, written in enumerate(positions, 1):
            view = rows.at(position)
            for key, value in written:
                if value is None:
                    view.delete(key)
                else:
                    view.put(key, value)
            rows.settle()
        read = rows.read()
        touched = {key for written in positions for key, _ in written}
        seen.append(
            (
                list(read.range(prefix, start, stop)),
                list(read.range(b"")),
                {key: (read.get(key), read.version(key)) for key in touched},
            )
        )
        store.abort()
    assert all(one == seen[0] for one in seen)


@given(st.binary(max_size=4), st.lists(st.binary(max_size=5)))
def test_the_end_of_a_prefix_divides_keys_exactly(prefix: bytes, candidates: list[bytes]) -> None:
    end = after_prefix(prefix)
    for key in candidates:
        within = key >= prefix and (end is None or key < end)
        assert within == key.startswith(prefix)


def test_a_snapshot_can_not_be_written(store: Store) -> None:
    with store.snapshot() as snapshot:
        with pytest.raises(TypeError, match="read-only"):
            snapshot.view(STREAM).put(b"a", 1)
        with pytest.raises(TypeError, match="read-only"):
            snapshot.view(STREAM).delete(b"a")


def test_a_snapshot_does_not_move(store: Store) -> None:
    rows = FlushedRows(store, STREAM)
    put(rows, 1, a=1)
    with store.snapshot() as before:
        put(rows, 2, a=2)
        assert before.view(STREAM).get(b"a") == 1
    with store.snapshot() as after:
        assert after.view(STREAM).get(b"a") == 2


def test_what_decide_gets_becomes_a_guard_and_what_it_peeks_does_not() -> None:
    below = DictView(STREAM)
    below.at(4).put(b"seen", 1)
    below.at(6).put(b"hot", 1)
    view = RecordingView(below)
    assert (view.get(b"seen"), view.get(b"absent"), view.peek(b"hot"), view.version(b"")) == (1, None, 1, 2)
    assert list(view.range(b"h")) == [(b"hot", 1)]
    assert view.get(b"seen") == 1
    assert set(view.guards) == {Guard(STREAM, b"seen", 4), Guard(STREAM, b"absent", 0), Guard(STREAM, b"", 2)}


def test_decide_can_not_write() -> None:
    view = RecordingView(DictView(STREAM))
    with pytest.raises(TypeError, match="pure"):
        view.put(b"a", 1)
    with pytest.raises(TypeError, match="pure"):
        view.delete(b"a")


def test_a_dry_run_leaves_what_is_below_untouched() -> None:
    below = DictView(STREAM)
    below.at(1).put(b"a", 1)
    scratch = ScratchView(below, 9)
    scratch.put(b"a", 2)
    scratch.put(b"b", 3)
    scratch.delete(b"a")
    assert below.rows() == {b"a": (1, 1)}


@pytest.mark.parametrize("value", [None, {1, 2}, object(), [1, 2], (1, [2]), 1 << 70])
def test_a_dry_run_finds_values_that_would_not_be_read_back_as_they_are(value: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        ScratchView(DictView(STREAM), 1).put(b"a", value)


@pytest.mark.parametrize("kind", [OverlayRows, ScratchRows])
def test_a_key_that_lmdb_can_not_hold_is_refused_when_it_is_put(
    kind: Callable[[Store, bytes], Rows], store: Store
) -> None:
    rows = kind(store, STREAM)
    rows.at(1).put(bytes(480), 1)
    with pytest.raises(ValueError, match="480"):
        rows.at(2).put(bytes(481), 1)

"""A view: one stream's rows, as a small mapping that `decide` reads and `evolve` writes.

The same contract has three implementations: a dict (tests and time travel), the fold's overlay over LMDB, and a read
snapshot wrapped so that what `decide` reads becomes guards. Row values are MessagePack types with tuples for sequences
and must never be mutated: a changed row is put again.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Any, Protocol

import msgpack

from eventlog.record import MAX_KEY_BYTES, Guard

_pack = msgpack.Packer(autoreset=True).pack  # made once: making one costs more than packing a row
_unpackb = msgpack.unpackb
_tuple = tuple.__new__


class View(Protocol):
    """One stream's tables. Keys are bytes whose first byte names the table; b"" is the stream's own version."""

    stream: bytes

    def get(self, key: bytes) -> Any:
        """The row's value, or None. In `decide` the row becomes a guard."""

    def peek(self, key: bytes) -> Any:
        """The same, but never a guard: for rows that others change all the time."""

    def version(self, key: bytes) -> int:
        """The position of the row's last write, 0 if absent; of b"", the number of events in the stream."""

    def range(self, prefix: bytes, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, Any]]:
        """Rows with `prefix`, from prefix+start up to but not including prefix+stop, in byte order. Never a guard."""

    def put(self, key: bytes, value: Any) -> None:
        """Writes a row; in `evolve` only."""

    def delete(self, key: bytes) -> None:
        """Removes a row if it is there; in `evolve` only."""


def range_bounds(prefix: bytes, start: bytes, stop: bytes | None) -> tuple[bytes, bytes | None]:
    """The first key of a range and the key that ends it (None: no end)."""
    if stop is not None:
        return prefix + start, prefix + stop
    return prefix + start, after_prefix(prefix)


def after_prefix(prefix: bytes) -> bytes | None:
    """The first key after all that start with `prefix`, or None where there is none."""
    trimmed = prefix.rstrip(b"\xff")
    if not trimmed:
        return None
    return trimmed[:-1] + bytes([trimmed[-1] + 1])


class DictView:
    """A view in memory."""

    def __init__(self, stream: bytes, position: int = 0) -> None:
        self.stream = stream
        self._position = position
        self._events = 0
        self._rows: dict[bytes, tuple[int, Any]] = {}
        self._keys: list[bytes] = []

    def at(self, position: int) -> "DictView":
        """Sets the position that the next puts are stamped with; counts one event for the stream's version."""
        self._position = position
        self._events += 1
        return self

    def get(self, key: bytes) -> Any:
        row = self._rows.get(key)
        return None if row is None else row[1]

    peek = get

    def version(self, key: bytes) -> int:
        if not key:
            return self._events
        row = self._rows.get(key)
        return 0 if row is None else row[0]

    def range(self, prefix: bytes, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, Any]]:
        first, end = range_bounds(prefix, start, stop)
        low = bisect_left(self._keys, first)
        high = len(self._keys) if end is None else bisect_left(self._keys, end)
        for key in self._keys[low:high]:
            row = self._rows.get(key)
            if row is not None:
                yield key, row[1]

    def put(self, key: bytes, value: Any) -> None:
        if key not in self._rows:
            if not self._keys or key > self._keys[-1]:
                self._keys.append(key)
            else:
                insort(self._keys, key)
        self._rows[key] = (self._position, value)

    def delete(self, key: bytes) -> None:
        if self._rows.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]

    def rows(self) -> dict[bytes, tuple[int, Any]]:
        """All rows as (position, value), for comparing two views."""
        return dict(self._rows)


class RecordingView:
    """A read-only view for `decide`: each row that `get` or `version` reads becomes a guard of the record."""

    def __init__(self, inner: View) -> None:
        self.stream = inner.stream
        self._inner = inner
        self._seen: dict[bytes, int] = {}
        self.peek = inner.peek
        self.range = inner.range

    def get(self, key: bytes) -> Any:
        if key not in self._seen:
            self._seen[key] = self._inner.version(key)
        return self._inner.peek(key)

    def version(self, key: bytes) -> int:
        return self._seen.setdefault(key, self._inner.version(key))

    def put(self, key: bytes, value: Any) -> None:
        raise TypeError("decide is pure: only evolve writes")

    def delete(self, key: bytes) -> None:
        raise TypeError("decide is pure: only evolve writes")

    @property
    def guards(self) -> tuple[Guard, ...]:
        return tuple([_tuple(Guard, (self.stream, key, version)) for key, version in self._seen.items()])


class ScratchView:
    """Writes over a read-only view that are thrown away: what `evolve` would do, tried before it is proposed."""

    def __init__(self, inner: View, position: int) -> None:
        self.stream = inner.stream
        self._inner = inner
        self._position = position
        self._rows: dict[bytes, Any] = {}

    def get(self, key: bytes) -> Any:
        return self._rows[key] if key in self._rows else self._inner.peek(key)

    peek = get

    def version(self, key: bytes) -> int:
        if key in self._rows:
            return 0 if self._rows[key] is None else self._position
        return self._inner.version(key)

    def range(self, prefix: bytes, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, Any]]:
        first, end = range_bounds(prefix, start, stop)
        own = {k: v for k, v in self._rows.items() if k >= first and (end is None or k < end)}
        if not own:  # as mostly: then the rows come one by one, and who wants few reads few
            yield from self._inner.range(prefix, start, stop)
            return
        merged = dict(self._inner.range(prefix, start, stop))
        merged.update(own)
        yield from sorted((k, v) for k, v in merged.items() if v is not None)

    def put(self, key: bytes, value: Any) -> None:
        """Raises TypeError or ValueError for what the fold could not store, or would read back as something else."""
        if not 0 < len(key) <= MAX_KEY_BYTES:
            raise ValueError(f"a row's key has 1 to {MAX_KEY_BYTES} bytes, not {len(key)}")
        if value is None or _unpackb(_pack(value), use_list=False) != value:
            raise TypeError(f"a row's value is made of MessagePack's types and tuples, not {value!r}")
        self._rows[key] = value

    def delete(self, key: bytes) -> None:
        self._rows[key] = None

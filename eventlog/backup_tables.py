"""The tables of a cell as of a position, as a file beside a backup's segments: a restore that loads them folds only the
rest.

They are what a fold of the segments up to that position gave, and no proof of it: a restore that is to prove them folds
from zero. The layout is that of segments (eventlog/segment_frames.py): a header, frames of rows, encrypted under the
same keys, and a digest. Rows come table by table, in the order of their keys.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgpack

from eventlog.database_folder import sync_folder
from eventlog.segment_frames import FRAME_BYTES, SALT_BYTES, FrameReader, FrameWriter, Read, Write
from eventlog.segment_keys import KeyRing
from eventlog.segments import PARTIAL
from eventlog.store import CHAIN_BYTES, IDS, META, STREAMS, TABLES, Store, read_fold_head

FORMAT = 1
TABLES_KEPT: Final = (IDS, STREAMS, TABLES)  # by number; what else a fold makes stands in the segments

Row = tuple[int, bytes, bytes]  # number of the table, key, value

_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack


class TablesHead(NamedTuple):
    """Whose tables, and as of which position: `chain` and `at_ms` are those of the log there."""

    cell: str
    position: int
    at_ms: int
    chain: bytes
    key_id: str | None = None
    salt: bytes = b""


@contextlib.contextmanager
def tables_of(store: Store, cell: str) -> Iterator[tuple[TablesHead, Iterator[Row]]]:
    """What a node has folded, as of now. The rows are read in one transaction, which ends with the block."""
    with store.env.begin() as txn:
        position, at_ms, chain = read_fold_head(txn, store.db[META])

        def rows() -> Iterator[Row]:
            for number, name in enumerate(TABLES_KEPT):
                with txn.cursor(db=store.db[name]) as cursor:
                    for key, value in cursor:
                        yield number, key, value

        yield TablesHead(cell, position, at_ms, chain), rows()


class TablesEncoder:
    """Writes tables as a stream. `add` their rows, then `finish`; `close` it in any case."""

    def __init__(self, write: Write, head: TablesHead, keys: KeyRing | None = None) -> None:
        key_id = None if keys is None else keys.current
        self.head = head._replace(key_id=key_id, salt=b"" if keys is None else os.urandom(SALT_BYTES))
        key = None if keys is None else keys.key(keys.current)
        header = bytes(_pack({"format": FORMAT, "tables": len(TABLES_KEPT), **self.head._asdict()}))
        self._frames = FrameWriter(write, header, key, self.head.salt)
        self._rows: list[bytes] = []
        self._size_bytes = 0

    def add(self, row: Row) -> None:
        packed = bytes(_pack(row))
        if self._rows and self._size_bytes + len(packed) > FRAME_BYTES:
            self._frames.add(b"".join(self._rows))
            self._rows.clear()
            self._size_bytes = 0
        self._rows.append(packed)
        self._size_bytes += len(packed)

    def finish(self) -> bytes:
        """Ends the stream; gives its digest."""
        return self._frames.finish(b"".join(self._rows))

    def close(self) -> None:
        self._frames.close()


def write_file(path: Path, head: TablesHead, rows: Iterator[Row], keys: KeyRing | None) -> tuple[TablesHead, bytes]:
    """A file of them, whole and on disk, or none; gives what its header says, and its digest."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            encoder = TablesEncoder(file.write, head, keys)
            with contextlib.closing(encoder):
                for row in rows:
                    encoder.add(row)
                digest = encoder.finish()
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)
    return encoder.head, digest


def read_tables(read: Read, name: str, keys: KeyRing | None = None) -> tuple[TablesHead, Iterator[Row]]:
    """Header and rows of a stream, which is proven when it was read to its end. Raises SegmentError, KeyFileError."""
    frames = FrameReader(read, name)
    head = _head(frames)
    key = None
    if head.key_id is not None:
        if keys is None:
            raise frames.error(f"it is encrypted under the key {head.key_id}, and no key was given")
        key = keys.key(head.key_id)
    return head, _rows(frames, head, key)


def _rows(frames: FrameReader, head: TablesHead, key: bytes | None) -> Iterator[Row]:
    with contextlib.closing(frames.frames(key, head.salt)) as parts:  # type: ignore[type-var]
        for data in parts:
            unpacker = msgpack.Unpacker(use_list=False, max_buffer_size=len(data) + 1)
            unpacker.feed(data)
            try:
                for row in unpacker:
                    if not _is_sound(row):
                        raise frames.error("a row in it has the wrong types")
                    yield row
            except (ValueError, TypeError, msgpack.UnpackException) as error:
                raise frames.error(f"a frame of it is damaged: {error}") from None


def _is_sound(row: Any) -> bool:
    return (
        type(row) is tuple
        and len(row) == 3
        and type(row[0]) is int
        and 0 <= row[0] < len(TABLES_KEPT)
        and type(row[1]) is type(row[2]) is bytes
    )


def _head(frames: FrameReader) -> TablesHead:
    try:
        fields: dict[str, Any] = msgpack.unpackb(frames.header)
        if fields.pop("format") != FORMAT or fields.pop("tables") != len(TABLES_KEPT):
            raise ValueError("of another format")
        head = TablesHead(**fields)
    except (ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException) as error:
        raise frames.error(f"its header can not be read: {error}") from None
    if not (
        type(head.cell) is str
        and type(head.position) is type(head.at_ms) is int
        and type(head.chain) is type(head.salt) is bytes
        and len(head.chain) == CHAIN_BYTES
        and head.position > 0
        and (head.key_id is None or type(head.key_id) is str)
    ):
        raise frames.error("its header is damaged")
    return head

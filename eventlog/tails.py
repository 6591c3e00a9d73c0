"""Rows that LMDB would store in whole pages leave their last bytes in a table of small rows beside: `tails`.

A value that does not fit into a leaf stands in pages of its own, behind a head of 16 bytes. One of 4 KiB and a little
would take two pages, the second nearly empty; what a record costs is the pages that it touches (docs/ADR/0002). So a
stored value may end where a page does and go on in `tails`, under its own key. One that was written whole, before the
store's format 2 or because its rest is large, is read as before: nobody need know which.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from eventlog.tables import TAILS

if TYPE_CHECKING:
    import lmdb

    Transaction = lmdb.Transaction[bytes]

Row = tuple[bytes, bytes]

PAGE_BYTES = 4096
HEAD_BYTES = 16  # of the first of a value's own pages
FIRST_BYTES = PAGE_BYTES - HEAD_BYTES  # what the first of them has room for
MOST_BYTES = 2000  # of a tail: two of them fit into a leaf


def tail_bytes(size_bytes: int) -> int:
    """How many bytes of a value of so many go into a tail; 0 where it is stored whole."""
    over = (size_bytes + HEAD_BYTES) % PAGE_BYTES
    return over if size_bytes > FIRST_BYTES and over <= MOST_BYTES else 0


def parted(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """Rows as they are stored, and their tails."""
    heads, tails = list[Row](), list[Row]()
    for row in rows:
        key, value = row
        over = tail_bytes(len(value))
        if over:
            heads.append((key, value[:-over]))
            tails.append((key, value[-over:]))
        else:
            heads.append(row)
    return heads, tails


def whole(txn: Transaction, db: dict[bytes, Any], key: bytes, stored: bytes) -> bytes:
    """The value of which `stored` stands under a key of the log or of the slices."""
    if (len(stored) + HEAD_BYTES) % PAGE_BYTES or TAILS not in db:
        return stored
    tail = txn.get(key, db=db[TAILS])
    return stored if tail is None else stored + tail

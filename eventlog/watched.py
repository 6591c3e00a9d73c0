"""A write transaction of LMDB that notes which rows it writes, for who copies a database while it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventlog.tables import Place

if TYPE_CHECKING:
    import lmdb

    Transaction = lmdb.Transaction[bytes]


class Watched:
    """A write transaction that notes which rows it writes."""

    def __init__(self, txn: Transaction, db: dict[bytes, Any], changed: set[Place]) -> None:
        self._txn = txn
        self._names = {id(handle): name for name, handle in db.items()}
        self._changed = changed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._txn, name)

    def put(self, key: bytes, value: bytes, db: Any, **how: Any) -> bool:
        self._changed.add((self._names[id(db)], key))
        return self._txn.put(key, value, db=db, **how)

    def delete(self, key: bytes, db: Any) -> bool:
        self._changed.add((self._names[id(db)], key))
        return self._txn.delete(key, db=db)

    def pop(self, key: bytes, db: Any) -> bytes | None:
        self._changed.add((self._names[id(db)], key))
        return self._txn.pop(key, db=db)

"""The node's full-text index as a worker reads it: the node makes it, and its stamp shows what it has committed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from nodes.fulltext.keeper import FullText

if TYPE_CHECKING:
    from nodes.imap.search import HeaderHas, Key, TextHas
    from nodes.imap.search_match import Narrowed


class SharedIndex(FullText):
    """Asked like the node's own; it makes nothing and removes nothing."""

    def start(self) -> None:
        """Nothing: it is looked at with each search."""

    async def narrow(
        self, account: bytes, folder: bytes, keys: Collection[HeaderHas | TextHas]
    ) -> Mapping[Key, Narrowed]:
        if keys and self._state == "waiting":
            self._look()
        return await super().narrow(account, folder, keys)

    def _look(self) -> None:
        """Opens the index where there is one of this log, and again when the node has committed more of it."""
        from nodes.fulltext import schema, stamp
        from nodes.fulltext.reader import Reader

        if self._reader is not None:
            if stamp.read(self._root, schema.VERSION) != self._reader.stamp:
                self._reader.refresh()
            return
        reader = Reader(self._root)
        with self._log.snapshot() as snapshot:
            if stamp.is_of(reader.stamp, snapshot):
                self._reader = reader

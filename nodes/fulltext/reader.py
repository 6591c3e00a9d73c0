"""What searches get from the index: for each key the messages that can match, as far as the index goes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nodes.fulltext import schema, stamp
from nodes.fulltext.shard import Shard
from nodes.imap.search import HeaderHas, Key, TextHas
from nodes.imap.search_match import Narrowed


class Reader:
    """Opens a shard when it is first asked, and again after `refresh`. May be used by several threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.refresh()

    def refresh(self) -> None:
        """Something was committed."""
        self.stamp = stamp.read(self._root, schema.VERSION)
        self._shards: dict[int, Shard] = {}

    def narrow(self, account: bytes, folder: bytes, keys: Iterable[HeaderHas | TextHas]) -> dict[Key, Narrowed]:
        """What is known of these keys in a folder; keys of which nothing is known are left out. Raises ValueError."""
        shard = self._shard(schema.shard_of(account))
        found: dict[Key, Narrowed] = {}
        if shard is None:
            return found
        last_uid = shard.last_uid(folder)
        for key in keys:
            query = schema.query_of(key)
            if query is not None:
                found[key] = Narrowed(last_uid, frozenset(shard.uids(folder, query)))
        return found

    def messages(self) -> int:
        """How many are in it."""
        shards = [self._shard(number) for number in self.stamp.generations]
        return sum(shard.messages for shard in shards if shard is not None)

    def _shard(self, number: int) -> Shard | None:
        found = self._shards.get(number)
        folder = self.stamp.folder(self._root, number)
        if found is None and folder is not None:
            found = self._shards[number] = Shard(folder)
        return found

"""One of a node's indexes: what the indexer and the searches ask of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tantivy
from tantivy import Order, Query

from nodes.fulltext import schema


class Shard:
    """An index as it was when this was made; `make` for who writes it. Raises ValueError (tantivy's), OSError."""

    def __init__(self, folder: Path, *, make: bool = False) -> None:
        self._index = schema.made_index(str(folder)) if make else _opened(folder)
        self._index.config_reader("manual")
        self._index.reload()
        self._searcher = self._index.searcher()

    @contextmanager
    def writing(self, heap_bytes: int) -> Iterator[tantivy.IndexWriter]:
        """The writer, of which there is one at a time; merging has ended when the block has."""
        writer = self._index.writer(heap_bytes, 1)
        yield writer
        writer.garbage_collect_files()
        writer.wait_merging_threads()

    @property
    def messages(self) -> int:
        return self._searcher.num_docs

    def last_uid(self, folder: bytes) -> int:
        """Up to here the index has every message of the folder; 0 where it has none."""
        found = self._searcher.search(
            schema.term("folder", folder.hex()), limit=1, count=False, order_by_field="uid", order=Order.Desc
        )
        return int(found.hits[0][0]) if found.hits else 0

    def uids(self, folder: bytes, query: Query | None = None) -> list[int]:
        """The UIDs of a folder's messages that are in the index, of those that `query` finds; in no order."""
        wanted = [schema.term("folder", folder.hex()), *([query] if query is not None else [])]
        scored = Query.const_score_query(schema.all_of(wanted), 1.0)
        count: int = self._searcher.search(scored, limit=1).count  # type: ignore[attr-defined]
        if not count:
            return []
        hits = self._searcher.search(scored, limit=count, count=False).hits
        return [int(uid) for uid in self._searcher.fast_field_values("uid", [at for _, at in hits]) if uid is not None]

    def mentions(self, field: str, value: str) -> bool:
        """Whether a term is in the files, be it of messages that were taken out."""
        return self._searcher.doc_freq(field, value) > 0


def _opened(folder: Path) -> tantivy.Index:
    try:
        return tantivy.Index.open(str(folder))
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # PyO3's, which it does not let be imported
            raise
        raise OSError(f"the index could not be opened: {error}") from error  # it got no thread, for want of memory

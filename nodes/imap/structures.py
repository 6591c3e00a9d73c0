"""Rendered structures of messages by tenant and digest of the body: in memory, and behind that in a file of the node.

The file may go at any time (cache_file.py): then the messages are read again.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from nodes.imap.cache_file import CacheFile

FOLDER = "structures"  # in node.data_dir
PARSER_VERSION = 1  # raise it with whatever changes what nodes/mime finds or nodes/imap renders
MEMORY_BYTES = 16 * 1024 * 1024
ENTRY_BYTES = 64 * 1024
ENTRY_COST_BYTES = 200
FILE_BYTES = 1 << 30
WAITING_BYTES = 4 * 1024 * 1024

Key = tuple[str, bytes, bytes]


def structure_file(data_dir: Path, erased_at: int) -> CacheFile:
    return CacheFile(data_dir / FOLDER, PARSER_VERSION, erased_at, FILE_BYTES, WAITING_BYTES)


class StructureCache:
    """By (attribute, tenant, digest), least recently used out of memory first. Event loop only."""

    def __init__(self, limit_bytes: int = MEMORY_BYTES, file: CacheFile | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self._file = file

    def get(self, attribute: str, tenant: bytes, digest: bytes) -> bytes | None:
        key = (attribute, tenant, digest)
        text = self._kept.get(key)
        if text is not None:
            self._kept.move_to_end(key)
        elif self._file is not None and (text := self._file.get(_packed(key))) is not None:
            self._keep(key, text)
        return text

    def put(self, attribute: str, tenant: bytes, digest: bytes, text: bytes) -> None:
        key = (attribute, tenant, digest)
        if len(text) > ENTRY_BYTES or key in self._kept:
            return
        self._keep(key, text)
        if self._file is not None:
            self._file.put(_packed(key), text)

    def _keep(self, key: Key, text: bytes) -> None:
        self._kept[key] = text
        self._used_bytes += len(text) + ENTRY_COST_BYTES
        while self._used_bytes > self._limit_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._used_bytes -= len(dropped) + ENTRY_COST_BYTES

    def clear(self, erased_at: int) -> None:
        """Something was erased from the log, as it says at this position."""
        self._kept.clear()
        self._used_bytes = 0
        if self._file is not None:
            self._file.clear(erased_at)

    async def close(self) -> None:
        """Writes what waits; the next use opens the file again."""
        if self._file is not None:
            await self._file.close()


def _packed(key: Key) -> bytes:
    attribute, tenant, digest = key
    return tenant + digest + attribute.encode("ascii")

"""The tables of a node's database and the form of their keys: what eventlog/store.py opens and others read."""

import struct
from typing import Any, Final

import msgpack

Place = tuple[bytes, bytes]  # a table and a key of it

LOG_HEAD = struct.Struct(">QBQ")  # term, kind, at_ms; the record follows
POSITION = struct.Struct(">Q")
BODY_SLOT = struct.Struct(">QH")  # the position that introduced a body, and which of its bodies it was
CHAIN_BYTES = 32
GENESIS = bytes(CHAIN_BYTES)

LOG: Final = b"log"
META: Final = b"meta"
BODIES: Final = b"bodies"
FRESH: Final = b"fresh"  # rows that are yet to come into BODIES, by slot: eventlog/body_index.py
SLICES: Final = b"slices"
CHAIN: Final = b"chain"
IDS: Final = b"ids"
STREAMS: Final = b"streams"
TABLES: Final = b"tables"
TAILS: Final = b"tails"  # what does not fill a page of LOG and SLICES: eventlog/tails.py
CONFIGS: Final = b"configs"  # index -> members; written with the entry, so it may hold the uncommitted tail's
NAMES: Final = (LOG, META, BODIES, SLICES, CHAIN, IDS, STREAMS, TABLES, CONFIGS, TAILS, FRESH)
ADDED: Final = frozenset({CONFIGS, TAILS, FRESH})  # missing in a database of an earlier release that is only read
FOLDED: Final = (CHAIN, IDS, STREAMS, TABLES)  # what a fold from zero makes again

_unpackb = msgpack.unpackb
_packb = msgpack.Packer(use_bin_type=True, autoreset=True).pack


def unpack_row(value: bytes) -> Any:
    """The value of a table row, without the position in front."""
    return _unpackb(value[8:], use_list=False)


def pack_row(position: int, value: Any) -> bytes:
    return POSITION.pack(position) + bytes(_packb(value))

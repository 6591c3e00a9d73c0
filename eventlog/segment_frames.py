"""How a segment's bytes are put into frames and taken out again: compressed, encrypted, numbered, hashed.

    magic | length of the header | header | frame 0 | frame 1 | ... | last frame | SHA-256 of all before

A frame is its number, whether it is the last, its length, and zstd data of at most MAX_FRAME_BYTES when unpacked. Where
there is a key, the frame is AES-256-GCM under a key made for this segment alone (HKDF-SHA256, RFC 5869, of the ring's
key and a random salt in the header); the nonce is the frame's number, and header, number and end are authenticated
with it: a frame that is changed, moved, left out or cut off does not open. The digest finds the same without the key.
Compression and encryption run in a thread of their own beside the caller, a frame ahead.
"""

import hashlib
import struct
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from eventlog.errors import LogError

MAGIC = b"mailraft segment 1\n"
MAX_HEADER_BYTES = 64 * 1024
FRAME_BYTES = 1024 * 1024  # a frame is closed when it holds this much
MAX_FRAME_BYTES = 64 * 1024 * 1024  # more than one record with all its bodies can be
SALT_BYTES = 32
DIGEST_BYTES = 32
LEVEL = 3
FRAMES_AHEAD = 2

_LENGTH = struct.Struct(">I")
FRAME = struct.Struct(">IBI")  # number, whether it is the last, length
_PLACE = struct.Struct(">IB")

Write = Callable[[bytes], object]
Read = Callable[[int], bytes]  # as many bytes as asked for, fewer at the end only


class SegmentError(LogError):
    """A segment can not be read: it is damaged, cut off, of another format, or its key is missing."""

    code = "archive_damaged"


class FrameWriter:
    """Writes one segment's bytes. `add` frames, then `finish`; `key` is the ring's key, `salt` this segment's own."""

    def __init__(self, write: Write, header: bytes, key: bytes | None, salt: bytes) -> None:
        self._write = write
        self._digest = hashlib.sha256()
        self._seal = None if key is None else _cipher(key, salt)
        self._header_hash = hashlib.sha256(header).digest()
        self._zstd = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True)
        self._number = 0
        self._pending: deque[Future[None]] = deque()
        self._thread = ThreadPoolExecutor(1, "segment")
        self._put(MAGIC + _LENGTH.pack(len(header)) + header)

    def add(self, data: bytes) -> None:
        """One frame. Returns before it is written; what goes wrong is raised by a later call, or by `finish`."""
        self._submit(data, last=False)

    def finish(self, data: bytes) -> bytes:
        """The last frame and the end of the segment; gives its digest once everything is written."""
        self._submit(data, last=True)
        while self._pending:
            self._pending.popleft().result()
        self.close()
        digest = self._digest.digest()
        self._write(digest)
        return digest

    def close(self) -> None:
        """Ends the thread. Without `finish` before it, what was written is no segment."""
        self._thread.shutdown(cancel_futures=True)

    def _submit(self, data: bytes, *, last: bool) -> None:
        while len(self._pending) >= FRAMES_AHEAD:
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(self._put_frame, self._number, data, last))
        self._number += 1

    def _put_frame(self, number: int, data: bytes, last: bool) -> None:
        if len(data) > MAX_FRAME_BYTES:
            raise SegmentError(f"a frame of {len(data)} bytes is more than the format allows")
        packed = self._zstd.compress(data)
        if self._seal is not None:
            packed = self._seal.encrypt(_nonce(number), packed, self._header_hash + _PLACE.pack(number, last))
        self._put(FRAME.pack(number, last, len(packed)) + packed)

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        self._write(data)


class FrameReader:
    """Reads what a FrameWriter wrote. `name` is what errors call it. Everything raises SegmentError."""

    def __init__(self, read: Read, name: str) -> None:
        self._read = read
        self._name = name
        self._digest = hashlib.sha256()
        if self._take(len(MAGIC)) != MAGIC:
            raise self.error("it is not a segment of a format that this version knows")
        (length,) = _LENGTH.unpack(self._take(_LENGTH.size))
        if length > MAX_HEADER_BYTES:
            raise self.error("its header is damaged")
        self.header = self._take(length)
        self._header_hash = hashlib.sha256(self.header).digest()

    def error(self, what: str) -> SegmentError:
        return SegmentError(f"{self._name}: {what}")

    def frames(self, key: bytes | None, salt: bytes) -> Iterator[bytes]:
        """What each frame holds, in order. All of it is proven only when the iteration has come to its end."""
        with ThreadPoolExecutor(1, "segment") as thread:
            frames = self._frames(None if key is None else _cipher(key, salt))
            ahead = thread.submit(next, frames, None)
            while (data := ahead.result()) is not None:
                ahead = thread.submit(next, frames, None)
                yield data

    def check(self) -> None:
        """Reads to the end and compares the digest alone: damage is found without the key."""
        number, last = 0, False
        while not last:
            last = self._stored_frame(number)[1]
            number += 1
        self._check_end()

    def _frames(self, opener: AESGCM | None) -> Iterator[bytes]:
        unzstd = zstandard.ZstdDecompressor()
        number, last = 0, False
        while not last:
            packed, last = self._stored_frame(number)
            if opener is not None:
                packed = self._open(opener, number, last, packed)
            yield self._unpack(unzstd, number, packed)
            number += 1
        self._check_end()

    def _stored_frame(self, number: int) -> tuple[bytes, bool]:
        found, last, length = FRAME.unpack(self._take(FRAME.size))
        if found != number or last > 1 or length > MAX_FRAME_BYTES + FRAME_BYTES:
            raise self.error(f"frame {number} is damaged, or is not the one that belongs there")
        return self._take(length), bool(last)

    def _open(self, opener: AESGCM, number: int, last: bool, packed: bytes) -> bytes:
        try:
            return opener.decrypt(_nonce(number), packed, self._header_hash + _PLACE.pack(number, last))
        except InvalidTag:
            raise self.error(f"frame {number} does not open: it was altered, or the key is another one") from None

    def _unpack(self, unzstd: zstandard.ZstdDecompressor, number: int, packed: bytes) -> bytes:
        try:
            size = zstandard.frame_content_size(packed)
            if not 0 <= size <= MAX_FRAME_BYTES:
                raise self.error(f"frame {number} is damaged: it would be {size} bytes")
            return unzstd.decompress(packed, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise self.error(f"frame {number} is damaged: {error}") from None

    def _check_end(self) -> None:
        expected = self._digest.digest()
        if self._read(DIGEST_BYTES) != expected or self._read(1):
            raise self.error("its digest is not that of what it holds")

    def _take(self, count: int) -> bytes:
        data = self._read(count)
        if len(data) != count:
            raise self.error("it ends too early")
        self._digest.update(data)
        return data


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"mailraft/segment").derive(key))


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")
